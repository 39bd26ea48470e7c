"""Where ids stand in a selection, and what their losses weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.ranks import Steps
from orderdp.strategies import Selection

_SPARSE = 16  # times as many samples as are selected, from which on a map of all would take too much memory


class Lookup:
    """Finds ids in a selection that did not come as its next slice.

    Args:
        selection: what the epoch visits.
        num_samples: size of the data set.
    """

    def __init__(self, selection: Selection, num_samples: int) -> None:
        self.indices = selection.indices
        self.weights = selection.weights
        self.num_samples = num_samples
        self._map: npt.NDArray[Any] | None = None
        self._sorted: tuple[npt.NDArray[np.int64], npt.NDArray[Any]] | None = None
        self._device_weights: Tensor | None = None  # in the order of the selection, for ids on the host
        self._spread_weights: Tensor | None = None  # by id, for ids on the device

    def find(self, ids: npt.NDArray[Any], steps: Steps | None) -> npt.NDArray[np.int64]:
        """Returns the positions of ids in the selection.

        Args:
            ids: (b,) integers.
            steps: this rank's part of each step; None if the loop forms its own batches.

        Raises:
            IndexError: an id out of range. ValueError: an id repeated, not of this epoch, or of another rank's part.
        """
        low, high = ids.min(), ids.max()
        if low < 0 or high >= self.num_samples:
            raise IndexError(
                f"index must lie in 0 .. {self.num_samples - 1}, got {low if low < 0 else high}; "
                "pass the ids that the loader yields"
            )
        positions = self._positions_of(ids)
        if (positions < 0).any():
            raise ValueError(
                f"index must hold samples selected for the running epoch, got {ids[positions < 0][0]}; take ids and "
                "batches from pruner.loader or pruner.sampler, and pass the ids rather than the labels; do not let a "
                "framework replace the sampler, and do not read ahead into the next epoch"
            )
        ordered = np.sort(positions)
        repeated = ordered[1:] == ordered[:-1]
        if repeated.any():
            raise ValueError(
                f"index must hold each sample once, got {self.indices[ordered[1:][repeated][0]]} twice or more; "
                "pass the ids that the loader yields"
            )
        if steps is not None and steps.num_ranks > 1 and not steps.owned(positions).all():
            raise ValueError(
                f"index must hold this rank's part of each step, got {ids[~steps.owned(positions)][0]} of another "
                "rank's; do not let a framework split the batches again, and give ranks that share their data the "
                "same Pruner(..., process_group=...)"
            )
        return positions

    def find_good(
        self, ids: npt.NDArray[np.int64], steps: Steps | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int, int]:
        """Returns the positions of the good ids, which ids are good, and how many others were foreign or repeated.

        Foreign ids are out of range, not of this epoch, or of another rank's part.
        """
        inside = (ids >= 0) & (ids < self.num_samples)
        positions = self._positions_of(np.where(inside, ids, 0))
        good = inside & (positions >= 0)
        if steps is not None and steps.num_ranks > 1:
            good[good] = steps.owned(positions[good])
        repeated = len(ids[good]) - len(np.unique(ids[good]))
        return positions[good], good, int(np.count_nonzero(~good)), repeated

    def _positions_of(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the positions of ids in the data set, -1 for those that the selection leaves out."""
        if self.num_samples > _SPARSE * len(self.indices):  # one of many ranks that share a table
            if self._sorted is None:
                order = np.argsort(self.indices, kind="stable")
                self._sorted = order, self.indices[order]
            order, ascending = self._sorted
            places = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
            return np.where(ascending[places] == ids, order[places], -1)
        if self._map is None:
            dtype = np.int32 if len(self.indices) < 2**31 else np.int64
            self._map = np.full(self.num_samples, -1, dtype=dtype)
            self._map[self.indices] = np.arange(len(self.indices), dtype=dtype)
        positions: npt.NDArray[np.int64] = self._map[ids].astype(np.int64)
        return positions

    def weights_on(self, device: torch.device) -> Tensor:
        """Returns the (q,) weights of the selection on a device."""
        if self._device_weights is None or self._device_weights.device != device:
            assert self.weights is not None
            with torch.inference_mode(mode=False):
                self._device_weights = torch.from_numpy(self.weights).to(device, non_blocking=True)
        return self._device_weights

    def weights_by_id(self, index: Tensor, device: torch.device) -> Tensor:
        """Returns the weights of ids that are on a device; a wrong id gets any weight, and `find_good` counts it."""
        if self._spread_weights is None or self._spread_weights.device != device:
            assert self.weights is not None
            spread = np.ones(self.num_samples, dtype=np.float32)
            spread[self.indices] = self.weights
            with torch.inference_mode(mode=False):
                self._spread_weights = torch.from_numpy(spread).to(device, non_blocking=True)
        return self._spread_weights[index.clamp(0, self.num_samples - 1)]

"""SeTa: groups of losses, and a window over them that slides from easy to hard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.draws import Mask, blocks, draw, shuffled
from orderdp.strategies.order import first_after, least_float32
from orderdp.theory.sizes import check_count, check_fraction, default_sizes

_MOST_ROUNDS = 300


@dataclass(frozen=True, kw_only=True)
class SeTa(Strategy):
    """Draws a share of the data uniformly, groups it by loss, and visits the groups inside a sliding window.

    The groups are the k-means clusters of the last-seen losses. The window covers round(window·groups) of them. It
    moves by one group an epoch from the easiest to the hardest end, and starts again. The first epoch visits all
    groups. The epochs from delta·epochs on visit the whole draw. How many samples a window holds depends on the losses.

    Args:
        prune_ratio: fraction of the data left out of the draw, in [0, 1).
        epochs: epochs of the run.
        groups: number of clusters.
        window: share of the clusters that the window covers, in (0, 1].
        delta: share of the epochs with a window, in [0, 1].

    Raises:
        TypeError: a count that is no whole number. ValueError: a value out of range, or a window that covers no group.

    Source: the public code of SeTa ("Scale efficient training for large datasets", CVPR 2025): five groups, window
        0.9, delta 0.875. Departures: clusters start from quantiles rather than random centres, so that equal losses
        give equal groups on every machine. Samples not seen yet are always visited.

    >>> SeTa(prune_ratio=0.3, epochs=100).num_selected(1000, epoch=95)
    700
    """

    name = "seta"
    label = "SeTa"
    ratio_means = "fraction left out of the draw; a window over groups of losses leaves out more"
    references = (
        """@inproceedings{zhou2025scale,
  title = {Scale efficient training for large datasets},
  author = {Zhou, Qing and others},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2025},
}""",
    )

    prune_ratio: float
    epochs: int
    groups: int = 5
    window: float = 0.9
    delta: float = 0.875

    def __post_init__(self) -> None:
        check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
        check_fraction("window", self.window, low_open=True, high_open=False)
        check_fraction("delta", self.delta, low_open=False, high_open=False)
        for name in ("epochs", "groups"):
            object.__setattr__(self, name, check_count(name, getattr(self, name)))
        for name in ("prune_ratio", "window", "delta"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if round(self.window * self.groups) < 1:
            raise ValueError(
                f"window must cover a group, got {self.window} of {self.groups}; write {1 / self.groups:g} or more"
            )

    @property
    def columns(self) -> dict[str, float]:
        """One column, `loss`: the last-seen loss, +inf if there is none."""
        return {"loss": math.inf}

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns the size of the draw if all of it is visited, else None.

        Raises:
            ValueError: the draw is empty.
        """
        drawn = default_sizes(num_samples, self.prune_ratio)[1]
        if drawn < 1:
            raise ValueError(
                f"prune_ratio must leave at least one of the {num_samples} samples, got {self.prune_ratio}; "
                f"write at most {1 - 1 / num_samples!r}"
            )
        return drawn if epoch == 0 or epoch >= first_after(self.delta, self.epochs) else None

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the second epoch, the first with a window, and the first without."""
        last = first_after(self.delta, self.epochs)
        return (1, last) if last > 1 else ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples of the draw whose group lies in the window, in random order."""
        size = default_sizes(memory.num_samples, self.prune_ratio)[1]
        drawn = draw(memory.num_samples, size, rng)
        if self.num_selected(memory.num_samples, memory.epoch) is None:
            drawn = self._in_window(drawn, memory)
        return Selection(shuffled(drawn, rng))

    def _in_window(self, drawn: Mask, memory: Memory) -> Mask:
        """Returns the samples of the draw whose group the window covers; samples that failed are of the easiest."""
        losses = memory.columns["loss"]
        known = drawn & np.isfinite(losses)
        borders = np.array([-math.inf, *cluster_borders(losses[known], self.groups), math.inf], dtype=np.float32)
        covered = round(self.window * self.groups)
        start = memory.epoch % (self.groups - covered + 1)
        low, high = borders[start], borders[start + covered]
        kept, some = np.empty_like(drawn), False
        for block in blocks(memory.num_samples):
            mine = losses[block]
            inside = drawn[block] & (mine >= low) & (mine < high)
            some = some or bool((inside & known[block]).any())
            kept[block] = inside | (drawn[block] & (mine == math.inf))
        # Fewer distinct losses than groups leave groups empty, and perhaps the window.
        return kept if some else drawn


def cluster_borders(values: npt.NDArray[np.float32], groups: int) -> npt.NDArray[np.float32]:
    """Returns the borders of the k-means clusters: Lloyd's rounds from the quantiles, until none moves.

    On a line a cluster is an interval, so a round is a search for the borders and sums between them.

    Args:
        values: (m,) finite.
        groups: number of clusters; some may stay empty.

    Returns:
        (groups - 1,) ascending; a value equal to a border belongs to the cluster above it. Zeros without values.

    >>> cluster_borders(np.array([0.0, 9.0, 0.5, 4.5, 5.0, 9.5], dtype=np.float32), 3).tolist()
    [2.5, 7.0]
    """
    if not len(values):
        return np.zeros(groups - 1, dtype=np.float32)
    ordered = np.sort(values)
    starts = [block.start for block in blocks(len(ordered))]
    before = np.cumsum([0.0, *(ordered[block].sum(dtype=np.float64) for block in blocks(len(ordered)))])
    places = (np.arange(groups) + 0.5) / groups * (len(ordered) - 1)
    below = places.astype(np.int64)
    low, high = (ordered[np.minimum(below + more, len(ordered) - 1)].astype(np.float64) for more in (0, 1))
    centres = low + (places - below) * (high - low)
    borders = (centres[1:] + centres[:-1]) / 2
    for _ in range(_MOST_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, least_float32(borders)), [len(ordered)]])
        counts = np.diff(ends)
        number = np.searchsorted(starts, ends, side="right") - 1  # of the block of each end
        rest = [ordered[starts[block] : end].sum(dtype=np.float64) for block, end in zip(number, ends, strict=True)]
        centres = np.where(counts > 0, np.diff(before[number] + rest) / np.maximum(counts, 1), centres)
        moved = (centres[1:] + centres[:-1]) / 2
        if np.array_equal(moved, borders):
            break
        borders = moved
    return least_float32(borders)

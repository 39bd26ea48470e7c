"""Texts as a DataLoader reads them: whole batches on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from orderdp.data.base import Texts
from orderdp.data.samples import Samples


class ResidentTexts(Samples):
    """Texts on the device, where a whole batch is gathered in one call and cut to its longest text.

    A DataLoader needs a `collate_fn` that passes the batch on, as for `ResidentImages`.

    Args:
        source: tokens and labels.
        device: that holds the texts and the batches.
    """

    def __init__(self, source: Texts, *, device: torch.device | str = "cpu") -> None:
        super().__init__(source.labels.to(device), seed=0)
        self._tokens = source.tokens.to(device)
        places = torch.arange(1, source.tokens.shape[1] + 1)
        self._lengths = ((source.tokens != 0) * places).amax(dim=1)  # up to the last token; zeros may come before it

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        tokens, labels = self.__getitems__([index])
        return tokens[0], labels[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Returns a batch: (b, length of the longest) int64, at least one token long, and (b,) labels."""
        ids = torch.as_tensor(indices)
        longest = max(1, int(self._lengths[ids].max()))
        where = ids.to(self._tokens.device, non_blocking=True)
        return self._tokens[where, :longest], self._labels[where]

"""How the samples of a run reach the model: resident on its device, or read by a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from orderdp.data.augment import Augment
from orderdp.data.base import DataSets, Features, Graphs, ImageFiles, Part, Texts, Windows
from orderdp.data.graphs import ResidentGraphs
from orderdp.data.images import FileImages, ResidentImages, SampleImages
from orderdp.data.rows import ResidentRows
from orderdp.data.samples import Samples
from orderdp.data.texts import ResidentTexts
from orderdp.training.recipe import Recipe

_WHOLE_BATCHES = (ResidentImages, ResidentTexts, ResidentRows, ResidentGraphs)


@dataclass(frozen=True)
class DataPath:
    """The samples of a recipe's run, and how a DataLoader reads them.

    Args:
        recipe: the settings.
        data: the data set.
        device: of the model.
    """

    recipe: Recipe
    data: DataSets
    device: torch.device
    _files: list[FileImages] = field(default_factory=list, init=False, repr=False, compare=False)  # made so far

    def samples(self, source: Part, augment: Augment) -> Samples:
        """Returns a part of the data set as a DataLoader reads it."""
        data, seed = self.data, self.recipe.seed
        if isinstance(source, Texts):
            return ResidentTexts(source, device=self.device)
        if isinstance(source, Features | Windows):
            return ResidentRows(source, device=self.device)
        if isinstance(source, Graphs):
            return ResidentGraphs(source, device=self.device)
        common: dict[str, Any] = {"mean": data.mean, "std": data.std, "augment": augment, "seed": seed}
        if isinstance(source, ImageFiles):
            self._files.append(FileImages(source, image_size=data.image_size, **common))
            return self._files[-1]
        if self.recipe.data_path == "loader":
            return SampleImages(source, **common)
        return ResidentImages(source, device=self.device, channels_last=self.recipe.channels_last, **common)

    def loading(self, samples: Samples) -> dict[str, Any]:
        """Returns further arguments of the DataLoader that reads these samples."""
        if isinstance(samples, _WHOLE_BATCHES):
            return {"collate_fn": _as_it_is}
        return {"num_workers": self.recipe.num_workers, "pin_memory": self.device.type == "cuda"}

    def unreadable(self) -> list[str]:
        """Returns the files that could not be decoded so far, each once, as PART/CLASS/IMAGE.

        All ranks must call it, since each has met files of its own.
        """
        mine = {"/".join(Path(path).parts[-3:]) for files in self._files for path in files.unreadable}
        return sorted({*gather_object(sorted(mine))}) if self._files else []

    def in_order(self, samples: Samples, *, rank: int = 0, num_ranks: int = 1) -> InOrder:
        """Returns samples in order, all or those of one rank, in batches of `eval_batch_size`."""
        ids = torch.arange(rank, len(samples), num_ranks)
        return InOrder(samples, ids, self.recipe.eval_batch_size, self.loading(samples))


class InOrder:
    """Batches of a data set as (index, batch); each pass reads them again.

    Args:
        samples: the data set.
        ids: (n,) int64, positions in it.
        batch_size: samples in a batch.
        loading: further arguments of the DataLoader.
    """

    def __init__(self, samples: Samples, ids: Tensor, batch_size: int, loading: dict[str, Any]) -> None:
        self._samples, self._ids, self._loading = samples, torch.split(ids, batch_size), loading

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        batches = [ids.tolist() for ids in self._ids]
        # Its own generator: without one, each pass would draw a seed from the global generator.
        loader: Any = DataLoader(self._samples, batch_sampler=batches, generator=torch.Generator(), **self._loading)
        return zip(self._ids, loader, strict=True)


def _as_it_is(batch: Any) -> Any:
    """The collate function of a data set that returns whole batches."""
    return batch

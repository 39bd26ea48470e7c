"""A fixed subset that is kept in a file: what `orderdp coreset` chose, trained beside the dynamic methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orderdp.output.subset_file import read_about, read_method, some
from orderdp.output.suggestions import did_you_mean
from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.fixed_subset import FixedSubset
from orderdp.theory.sizes import check_fraction, default_sizes

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class StoredSubset(Strategy):
    """Visits the subset that a file holds for a static method, in a fresh random order in each epoch.

    The settings name the file and hold a digest of its subsets, not the thousands of samples. So a recipe stays short,
    and results are read without the file. Only training reads it, and refuses a file that has changed.

    A file may hold a subset for each of several seeds. A run then trains on that of its own seed, so the spread over
    seeds holds the choice too. If the file has one seed, all runs share its subset.

    `from_file` and the command line (`fixed:FILE,method=NAME`) look the other settings up in the file.

    Args:
        file: the `subsets.parquet` of `orderdp coreset`, from the working directory.
        method: name of the method in the file.
        prune_ratio: fraction of the data left out, one of `ratios`.
        title: name of the method in tables.
        num_samples: size of the data set that the subset was chosen from.
        ratios: the prune ratios that the file holds for the method.
        sha256: digest of the method's subsets at all these ratios, one for each seed.
        seeds: the seeds to choose from, each for the run of that seed; () if all runs share one subset.
        proxy_samples: samples that the proxies of a seed trained for the method, counted once in each epoch. They are
            part of the cost of a run.

    Raises:
        ValueError: a ratio that the file does not hold.
    """

    name = "fixed"
    label = "stored subset"
    names_samples = True
    by_seed = ("sha256",)
    argument = "file"
    ratio_means = "fraction left out by the subset in a file, fixed:FILE; one that the file holds"

    file: str = field(compare=False)
    method: str
    prune_ratio: float
    title: str
    num_samples: int
    ratios: tuple[float, ...]
    sha256: tuple[str, ...]
    seeds: tuple[int, ...] = field(default=(), compare=False)  # the digests tell subsets apart
    proxy_samples: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
        object.__setattr__(self, "ratios", tuple(map(float, self.ratios)))
        object.__setattr__(self, "sha256", tuple(self.sha256))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if len(self.sha256) != max(1, len(self.seeds)):
            raise ValueError(
                f"sha256 must have one digest a seed, got {len(self.sha256)} for {len(self.seeds)}; leave both out: "
                "they are in the file"
            )
        near = [ratio for ratio in self.ratios if abs(ratio - self.prune_ratio) < 1e-9]
        if not near:
            held = some([f"{ratio:g}" for ratio in self.ratios])
            raise ValueError(
                f"prune_ratio must be one that {self.file} holds for {self.method}, got {self.prune_ratio:g}; "
                f"write one of {held}"
            )
        object.__setattr__(self, "prune_ratio", near[0])

    @classmethod
    def from_file(cls, file: str, *, prune_ratio: float, method: str | None = None, seed: int | None = None) -> Self:
        """Returns the subset of a method in a file.

        Args:
            file: the `subsets.parquet` of `orderdp coreset`.
            prune_ratio: fraction of the data left out.
            method: name of the method in the file; None if it holds only one.
            seed: seed whose subset to train on; None if the file holds only one.

        Raises:
            ValueError: there is no such file, method, ratio or seed.
        """
        found = cls.from_settings({"file": file, "method": method, "prune_ratio": prune_ratio}, epochs=None)
        if seed is None:
            return found
        held = found.seeds or read_about(Path(file)).get("seeds", [seed])
        if seed not in held:
            raise ValueError(_no_seed(file, seed, held))
        return found.for_seed(seed)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the subset with these settings; those that are missing come from the file.

        Raises:
            ValueError: there is no such file, method or ratio.
        """
        if "sha256" in settings:
            return super().from_settings(settings, epochs=epochs)
        if not settings.get("file"):
            raise ValueError(f"file is needed by strategy '{cls.name}', got None; write {cls.name}:FILE")
        path = Path(settings["file"])
        stored = read_method(path, _chosen(path, settings.get("method")))
        seeds = tuple(stored.kept)
        found = {
            "title": stored.label,
            "num_samples": stored.num_samples,
            "ratios": tuple(stored.kept[seeds[0]]),
            "sha256": tuple(map(stored.sha256, seeds)),
            "seeds": seeds if len(seeds) > 1 else (),
            "proxy_samples": stored.proxy_samples,
        }
        given = {**found, **settings, "file": str(settings["file"]), "method": stored.key}
        return super().from_settings(given, epochs=epochs)

    def for_seed(self, seed: int | None) -> Self:
        """Returns the subset for a run of this seed, or those of all seeds; reads the file if it must.

        Args:
            seed: of the run; None for all that the file holds.

        Raises:
            ValueError: the file holds several seeds, and this is none of them; or there is no such file.
        """
        if not self.seeds:
            return self
        if seed in self.seeds:
            return replace(self, seeds=(seed,), sha256=(self.sha256[self.seeds.index(seed)],))
        names = ("file", "method", "prune_ratio", "title")
        found = self.from_settings({name: getattr(self, name) for name in names}, epochs=None)
        if seed is None or not found.seeds:
            return found
        if seed not in found.seeds:
            raise ValueError(_no_seed(self.file, seed, found.seeds))
        return found.for_seed(seed)

    def describe(self, epochs: int | None = None) -> str:
        """Returns the static method's name in tables, and the prune ratio."""
        return f"{self.title} {100 * self.prune_ratio:.12g} %"

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns how many samples the subset holds; does not read the file.

        Raises:
            ValueError: the data has another number of samples than the file was made for.
        """
        if num_samples != self.num_samples:
            raise ValueError(
                f"the data must have the {self.num_samples} samples of {self.file}, got {num_samples}; "
                "write the dataset and train_size that it was made for"
            )
        return default_sizes(num_samples, self.prune_ratio)[1]

    def size_changes(self) -> tuple[int, ...]:
        """Returns no epoch."""
        return ()

    @property
    def samples_before(self) -> int:
        """What the proxies trained."""
        return self.proxy_samples

    def check_files(self, data_sha256: Callable[[], str] | None = None) -> None:
        """Raises ValueError if the file is missing, or holds other subsets than when the recipe was written.

        Args:
            data_sha256: returns the digest of the training data, which must be that of the file; None checks no data.
        """
        assert self._subset
        made_from = read_about(Path(self.file)).get("data_sha256")
        if data_sha256 is not None and made_from and data_sha256() != made_from:
            raise ValueError(
                f"the data must be that of {self.file}, got other samples or labels; write the dataset, train_size and "
                "label_noise that it was made for"
            )

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples in random order, with their weights.

        Raises:
            ValueError: the file is missing, or holds other subsets than when the recipe was written.
        """
        return self._subset.select(memory, rng)

    @cached_property
    def _subset(self) -> FixedSubset:
        if len(self.seeds) > 1:
            raise ValueError(
                f"seed must say which subset of {self.file} to train on, got none; write seed={self.seeds[0]}, or "
                f"another of {some(list(map(str, self.seeds[1:])))}"
            )
        path = Path(self.file)
        stored = read_method(path, _chosen(path, self.method))
        seed = self.seeds[0] if self.seeds else next(iter(stored.kept))
        there = stored.sha256(seed) if seed in stored.kept else "none"
        if (there,) != self.sha256:
            raise ValueError(
                f"file must hold the subsets that the recipe names, sha256 {self.sha256[0][:12]}, got {path} with "
                f"{there[:12]}; put the first file back, or start a new run"
            )
        kept = stored.kept[seed][self.prune_ratio]
        return FixedSubset(kept.ids, weights=kept.weights)  # type: ignore[arg-type]


def _no_seed(file: str, seed: int, held: Sequence[int]) -> str:
    """Returns the message about a seed that a file holds no subsets for."""
    return (
        f"seed must be one that {file} holds subsets for, got {seed}; write one of {some(list(map(str, held)))}, or "
        f"choose subsets with seed {seed} too"
    )


def _chosen(path: Path, method: str | None) -> str:
    """Returns the name of the method to read from a file.

    Raises:
        ValueError: the file does not hold it, or holds several and none is named.
    """
    held = list(read_about(path)["methods"])
    if method is None and len(held) > 1:
        raise ValueError(
            f"method must say which subset of {path} to train on, got none; write method={held[0]}, or another of "
            f"{some(held[1:])}"
        )
    if method is not None and method not in held:
        hint = did_you_mean(str(method), held) or f"; it holds {some(held)}"
        raise ValueError(f"no method {method!r} in {path}{hint}")
    return held[0] if method is None else method

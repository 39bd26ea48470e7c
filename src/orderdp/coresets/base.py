"""The contract of static methods: score a data set, or choose a subset of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.quotas import Quotas, check_size, class_sizes
from orderdp.rng import generator

Item = TypeVar("Item")
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Subset:
    """The samples to keep.

    Args:
        indices: (k,) int64, distinct positions in the data set, in the order in which they were chosen. With quotas,
            class after class.
        weights: (k,) float32, how many samples of the data set each one stands for; None where all count the same. For
            training divide them by their mean.
    """

    indices: Positions
    weights: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Work:
    """How a method works: its random numbers, its device, its progress bars.

    Args:
        rng: generator of everything random.
        device: where large products are computed.
        show: show progress bars of long steps on a terminal.
    """

    rng: np.random.Generator
    device: torch.device
    show: bool = False

    def progress(self, items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
        """Yields the items and shows a progress bar, if `show` is set and standard error is a terminal."""
        if not self.show:
            yield from items
            return
        from tqdm import tqdm  # only the trainer's extra has it

        yield from tqdm(items, label, total=total, disable=None)


class StaticMethod(ABC):
    """A static method: a frozen dataclass of settings that reads `Evidence` and keeps a fixed subset.

    Equal arguments give equal subsets. Ties are broken by the seed.

    Attributes:
        name: what files and the command line call the method.
        label: its name in tables.
        needs: the fields of `Evidence` that it reads.
        weighs: whether its subsets have weights.
        references: BibTeX entries of its publication.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    weighs: ClassVar[bool] = False
    references: ClassVar[tuple[str, ...]] = ()

    @property
    def fewest_epochs(self) -> int:
        """How many epochs of a proxy the method must see."""
        return 0

    @abstractmethod
    def choose(
        self,
        evidence: Evidence | Sequence[Evidence],
        size: int,
        *,
        quotas: Quotas = "proportional",
        seed: int = 0,
        device: str | torch.device = "cpu",
        show: bool = False,
    ) -> Subset:
        """Returns the samples to keep.

        Args:
            evidence: what is known of the data set. Methods that score take a sequence too: one for each proxy.
            size: how many samples to keep, in 1 .. n.
            quotas: "proportional" keeps the same share of each class, "equal" the same number, a list the numbers
                given. They need labels. None ignores the classes.
            seed: of ties and of everything random.
            device: where large products are computed.
            show: show progress bars of long steps.

        Raises:
            ValueError: the evidence lacks what the method or the quotas need, or a number does not fit.
            TypeError: an argument of another type.
        """

    def _work(self, seed: int, device: str | torch.device, show: bool) -> Work:  # noqa: FBT001
        return Work(generator(seed, 0, f"coresets {self.name}"), torch.device(device), show)

    def _check(self, evidence: Evidence) -> None:
        if not isinstance(evidence, Evidence):
            raise TypeError(f"evidence must be Evidence, got {type(evidence).__name__}; write Evidence(labels=...)")
        missing = [name for name in self.needs if name not in evidence.given]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs {', '.join(self.needs)}, got {', '.join(evidence.given)}; "
                f"add {', '.join(missing)}"
            )


class Scorer(StaticMethod):
    """A method that scores each sample and keeps the highest scores."""

    def score(
        self,
        evidence: Evidence | Sequence[Evidence],
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        show: bool = False,
    ) -> npt.NDArray[np.float64]:
        """Returns (n,) float64 scores; the highest are kept first.

        Args:
            evidence: what is known of the data set. With a sequence, one for each proxy, the scores are averaged.
            seed: of everything random. Each proxy is scored with the same random numbers.
            device: where large products are computed.
            show: show progress bars of long steps.

        Raises:
            ValueError: the evidence lacks what the method needs, or proxies saw different numbers of samples.
        """
        runs = _runs(evidence)
        for run in runs:
            self._check(run)
        total = np.zeros(runs[0].num_samples)
        for run in runs:
            total += self._score(run, self._work(seed, device, show))
        return total / len(runs)

    @abstractmethod
    def _score(self, evidence: Evidence, work: Work) -> Floats:
        """Returns (n,) scores of one proxy."""

    def choose(
        self,
        evidence: Evidence | Sequence[Evidence],
        size: int,
        *,
        quotas: Quotas = "proportional",
        seed: int = 0,
        device: str | torch.device = "cpu",
        show: bool = False,
    ) -> Subset:
        """Returns the samples with the highest scores, in descending order; see `StaticMethod.choose`."""
        first = _runs(evidence)[0]
        groups = _groups(first, size, quotas)
        return keep_highest(self.score(evidence, seed=seed, device=device, show=show), groups, seed=seed)


class Chooser(StaticMethod):
    """A method that chooses samples together. With quotas, it sees one class at a time."""

    def choose(
        self,
        evidence: Evidence | Sequence[Evidence],
        size: int,
        *,
        quotas: Quotas = "proportional",
        seed: int = 0,
        device: str | torch.device = "cpu",
        show: bool = False,
    ) -> Subset:
        """Returns the samples to keep; see `StaticMethod.choose`."""
        if not isinstance(evidence, Evidence):
            raise TypeError(
                f"{type(self).__name__} takes the evidence of one proxy, got {type(evidence).__name__}; "
                "only methods that score average over proxies"
            )
        self._check(evidence)
        work = self._work(seed, device, show)
        groups = _groups(evidence, size, quotas)
        prepared = self._prepare(evidence, work)
        chosen = []
        for rows, count in work.progress(groups, self.label):
            shuffled = work.rng.permutation(rows)  # the lowest position wins a tie, so the seed decides
            part = self._choose(prepared.take(shuffled, prepared.given), count, work)
            chosen.append(Subset(shuffled[part.indices], part.weights))
        return _joined(chosen)

    def _prepare(self, evidence: Evidence, work: Work) -> Evidence:
        """Returns what `_choose` gets, class by class: what the method needs, or what it makes of it first."""
        return evidence.only(self.needs)

    @abstractmethod
    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        """Returns `size` of the samples in `evidence`, which holds what the method needs.

        Among equally good samples it takes the lowest position.
        """


def keep_highest(scores: npt.NDArray[np.float64], groups: Sequence[tuple[Positions, int]], *, seed: int) -> Subset:
    """Returns the highest scores of each group, in descending order; the seed breaks ties.

    Args:
        scores: (n,) float64.
        groups: positions, and how many of them to keep.
        seed: any integer.
    """
    rng = generator(seed, 0, "coresets ties")
    kept = []
    for rows, count in groups:
        shuffled = rng.permutation(rows)
        kept.append(shuffled[np.argsort(-scores[shuffled], kind="stable")[:count]])
    return Subset(np.concatenate(kept))


def _runs(evidence: Evidence | Sequence[Evidence]) -> Sequence[Evidence]:
    runs = [evidence] if isinstance(evidence, Evidence) else list(evidence)
    if not runs or not all(isinstance(run, Evidence) for run in runs):
        raise TypeError(
            f"evidence must be Evidence, or one for each proxy, got {evidence!r}; write Evidence(labels=...)"
        )
    sizes = [run.num_samples for run in runs]
    if len(set(sizes)) > 1:
        raise ValueError(f"all proxies must see the same samples, got {sizes} samples; leave none out")
    return runs


def _groups(evidence: Evidence, size: int, quotas: Quotas) -> list[tuple[Positions, int]]:
    """Returns the positions of each class and how many of them to keep; one group without quotas."""
    size = check_size(size, evidence.num_samples)
    if quotas is None:
        return [(np.arange(evidence.num_samples), size)]
    labels: Any = evidence.labels
    if labels is None:
        raise ValueError("quotas need labels, got none; add labels to the evidence, or write quotas=None")
    sizes = class_sizes(labels, size, quotas)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    return [(rows, int(count)) for rows, count in zip(by_class, sizes, strict=True) if count]


def _joined(parts: Sequence[Subset]) -> Subset:
    weights = [part.weights for part in parts if part.weights is not None]
    indices = np.concatenate([part.indices for part in parts])
    return Subset(indices, np.concatenate(weights).astype(np.float32) if weights else None)

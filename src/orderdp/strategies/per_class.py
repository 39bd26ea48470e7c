"""Another method within each class, so that every class keeps its share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.strategies.base import Indices, Memory, Selection, Strategy
from orderdp.strategies.composed import Composed
from orderdp.strategies.draws import shuffle
from orderdp.theory.sizes import largest_remainders

if TYPE_CHECKING:
    from typing import Self


_DECLARE = "write def size_changes(self): return () in its class, if its size is the same in every epoch"


@dataclass(frozen=True, kw_only=True)
class PerClass(Composed):
    """Another method, which chooses within each class as if it were all data. Every class keeps the same share.

    An epoch has exactly as many samples as the method alone would choose. A class has its share of them to within one
    sample: the largest remainders are rounded up, the lower class first among equals. So no class is pruned harder
    because its losses are lower. A class with a share of less than one sample may get none, and then in every epoch.

    On the command line it is `per_class:NAME`, with the settings of the method, and the labels are those of the data.

    Args:
        strategy: the method, with a prune ratio and a fixed size, that chooses before an epoch.
        labels: (n,) whole numbers, class of each sample from 0, as an array or a tensor; None where they are given
            later, by `for_labels`.

    Raises:
        TypeError: no method, or labels that are no whole numbers. ValueError: a method without a prune ratio, of a size
            that depends on the losses, that chooses in each step, or that is given its samples; labels of another
            shape, or below 0.

    >>> from orderdp.strategies import OrderDP
    >>> halves = PerClass(strategy=OrderDP(prune_ratio=0.5), labels=np.array([0] * 80 + [1] * 20))
    >>> chosen = halves.select(Memory(100, 0, {"score": np.zeros(100, np.float32)}), np.random.default_rng(0)).indices
    >>> int((chosen < 80).sum()), int((chosen >= 80).sum())
    (40, 10)
    """

    name = "per_class"
    label = "per class"
    ratio_means = "that of the method, per_class:NAME, within each class"

    labels: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = self.strategy
        ratio, size = getattr(inner, "prune_ratio", None), inner.size_changes()
        in_steps = inner.chooses_in_batch or getattr(inner, "per", "epoch") != "epoch"
        if ratio is None or size is None or in_steps or inner.names_samples:
            undeclared = ratio is not None and type(inner).size_changes is Strategy.size_changes
            raise ValueError(
                f"a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got "
                f"{inner!r}{' without size_changes' if undeclared else ''}; "
                f"{_DECLARE if undeclared else self._instead('PerClass(strategy={!r})')}"
            )
        if self.labels is not None:
            object.__setattr__(self, "labels", _checked(self.labels))
            for epoch in (0, 1):  # what does not fit a class fails here
                for ids, method in zip(self._classes, self._methods(epoch), strict=True):
                    if method is not None:
                        method.num_selected(len(ids), epoch)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the method `inner`, a class, with the settings, within each class.

        Raises:
            ValueError: no method, or settings that one of the two refuses. TypeError: likewise.
        """
        given = dict(settings)
        return cls(strategy=cls.inner_of(given).from_settings(given, epochs=epochs))

    def settings(self) -> dict[str, Any]:
        """Returns `inner` and its settings.

        Raises:
            ValueError: it has labels of its own, which no recipe holds: the labels of a run are those of its data.
        """
        if self.labels is not None:
            raise ValueError(
                f"labels of strategy '{self.name}' are those of the data in a recipe, got {len(self.labels)} of its "
                "own; leave labels out"
            )
        return {"inner": self.strategy.name, **self.strategy.settings()}

    @classmethod
    def has_size(cls, settings: Iterable[str]) -> bool:
        """Whether there is a prune ratio."""
        return "prune_ratio" in set(settings)

    def describe(self, epochs: int | None = None) -> str:
        """Returns the words of the method, such as "OrderDP 50 % per class"."""
        return f"{self.strategy.describe(epochs)} per class"

    def for_epochs(self, epochs: int, *, instead_of: int) -> Self:
        """Returns the method for a run of other epochs."""
        return replace(self, strategy=self.strategy.for_epochs(epochs, instead_of=instead_of))

    def for_labels(self, labels: Tensor | None) -> Self:
        """Returns the method with the labels of a data set, unless it has its own.

        Raises:
            ValueError: the data has no classes, and the method no labels.
        """
        if self.labels is not None:
            return self
        if labels is None:
            raise ValueError(f"strategy '{self.name}' needs labels that are classes, got numbers; choose another")
        return replace(self, labels=labels)  # type: ignore[arg-type]

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns the size of the method on all data.

        Raises:
            ValueError: another number of samples than labels.
        """
        if self.labels is not None and len(self.labels) != num_samples:
            raise ValueError(
                f"labels must be one for each of the {num_samples} samples, got {len(self.labels)}; write those of "
                "this data set"
            )
        return self.strategy.num_selected(num_samples, epoch)

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns those of the method."""
        return self.strategy.size_changes()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns what the method selects within each class, in random order.

        Raises:
            ValueError: there are no labels, or another number of them.
        """
        if self.labels is None:
            raise ValueError(
                f"strategy '{self.name}' needs the class of each sample, got no labels; "
                "write PerClass(strategy=..., labels=labels)"
            )
        size = self.num_selected(memory.num_samples, memory.epoch)
        assert size is not None
        parts = []
        methods = self._methods(memory.epoch)
        for ids, method, inside in zip(self._classes, methods, self._memories(memory), strict=True):
            if method is not None:
                found = method.select(inside, rng)
                parts.append(Selection(ids[found.indices], found.weights))
        order = np.arange(size)
        shuffle(order, rng)
        indices = np.concatenate([part.indices for part in parts])[order]
        if all(part.weights is None for part in parts):
            return Selection(indices)
        ones = [np.ones(len(part.indices), np.float32) if part.weights is None else part.weights for part in parts]
        return Selection(indices, np.concatenate(ones)[order])

    @cached_property
    def _classes(self) -> list[Indices]:
        """Returns the positions of each class that has any, ascending."""
        labels: Any = self.labels
        ordered = np.argsort(labels, kind="stable")
        borders = np.flatnonzero(np.diff(labels[ordered])) + 1
        return np.split(ordered, borders)

    def _methods(self, epoch: int) -> list[Strategy | None]:
        """Returns the method for the share of each class in an epoch; None for a class that has none."""
        counts = np.array(list(map(len, self._classes)))
        size = self.strategy.num_selected(int(counts.sum()), epoch)
        assert size is not None
        shares = zip(counts.tolist(), largest_remainders(counts, size).tolist(), strict=True)
        return [
            replace(self.strategy, prune_ratio=1 - kept / count) if kept else None  # type: ignore[type-var]
            for count, kept in shares
        ]

    def _memories(self, memory: Memory) -> Iterator[Memory]:
        """Yields what the method would know of each class if it were all data."""
        place = np.empty(memory.num_samples, dtype=np.int64)
        of_class = np.empty(memory.num_samples, dtype=np.int64)
        for number, ids in enumerate(self._classes):
            place[ids], of_class[ids] = np.arange(len(ids)), number

        def inside(chosen: Indices | None, number: int) -> Indices | None:
            return None if chosen is None else place[chosen[of_class[chosen] == number]]

        for number, ids in enumerate(self._classes):
            yield Memory(
                num_samples=len(ids),
                epoch=memory.epoch,
                columns={name: column[ids] for name, column in memory.columns.items()},
                previous=inside(memory.previous, number),
                previous_epoch=memory.previous_epoch,
                visits=None if memory.visits is None else memory.visits[ids],
                failed=inside(memory.failed, number),
            )


def _checked(labels: Any) -> npt.NDArray[np.int64]:
    """Returns labels as an array of their own."""
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.dtype.kind not in "iu":
        whole = "labels.long()" if isinstance(labels, torch.Tensor) else "np.asarray(labels).astype(int)"
        if array.dtype.kind in "OSTU":  # names
            whole = "np.unique(labels, return_inverse=True)[1]"
        raise TypeError(f"labels must be whole numbers, got dtype {array.dtype}; write {whole}")
    if array.ndim != 1 or not len(array):
        raise ValueError(f"labels must have shape (n,), got {array.shape}; write one for each sample")
    if array.min() < 0:
        raise ValueError(f"labels must be at least 0, got {array.min()}; number the classes from 0")
    return array.astype(np.int64)

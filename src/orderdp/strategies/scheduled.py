"""A prune ratio that follows the run, for any method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.composed import Composed
from orderdp.strategies.full_data import FullData
from orderdp.strategies.order import first_after, share_up_to
from orderdp.theory.sizes import check_count, check_fraction, check_number

if TYPE_CHECKING:
    from typing import Self

_SHARES = {"start": 0.0, "end": 1.0, "rise": 0.0, "fall": 0.0, "wave": 0.0, "easy_from": 1.0}
_OWN = {**_SHARES, "interval": 1, "mastered": None, "halving": False}
_CHANGES = ("rise", "fall", "wave", "mastered")  # settings that change the ratio
_HALVED_AT = (0.8, 0.9, 0.95, 0.995)  # shares of the data that are right, of ordered SGD
_SIZES = {"prune_ratio", "prune_probability", "hide", "keep", "explore", "exploit"}


@dataclass(frozen=True, kw_only=True)
class Scheduled(Composed):
    """Another method, whose prune ratio r follows the run; an epoch of ratio 0 is on full data.

    All shares are of the epochs of the run. With `start` and `end` alone, the method prunes between the two. The number
    of steps is known in advance, unless it is not known for the method itself or `mastered` is given. With `mastered`,
    it is known for a method that visits all samples and chooses within their batches.

    On the command line it is `scheduled:NAME,start=0.5,end=0.9`, with the settings of the method among them.

    Args:
        strategy: the method. It remembers its losses in epochs of full data too.
        epochs: epochs of the run.
        start: share before which full data is trained, in [0, 1).
        end: share from which full data is trained, in (0, 1], above `start`; 0.875 is InfoBatch's annealing.
        interval: prunes in every `interval`-th epoch from `start` on; the others are on full data.
        rise: share over which the ratio rises from 0 to r, in equal steps, in [0, 1].
        fall: share over which it falls to 0 before `end`, in [0, 1].
        wave: the ratio is r - wave and r + wave in turns, which keeps the mean of every two; in [0, r], and r + wave
            below 1.
        mastered: a loss; samples at or below it are mastered, and the ratio is at most their share. log 2 = 0.69 is a
            probability of 1/2 for the right class, without label smoothing; with it write
            `theory.loss_at(0.5, num_classes, label_smoothing)`, which is 0.891 for 10 classes and 0.1. A method that
            keeps its choice for some epochs then chooses anew in each. None for a ratio that does not depend on the
            losses.
        halving: with `mastered`, the ratio is at most 0 below 80 % mastered, 1/2 from 80 % on, 3/4 from 90 %, 7/8 from
            95 % and 15/16 from 99.5 %, instead of the share.
        easy_from: share from which the method keeps the lowest losses of its draw instead of the highest, in (0, 1]; 1
            for never. The method must have the setting `easy_share`, which is 1 from then on.

    Raises:
        TypeError: a setting of another type. ValueError: a value out of range, a schedule under which no epoch prunes,
            a method that holds another method, a method without a prune ratio where the ratio changes, one that
            refuses a ratio of the schedule, `halving` without `mastered`, or a method before an epoch that remembers
            no loss beside `mastered`.

    Source: `start` and `end` as selective backprop in MosaicML Composer, which by default prunes from 0.5 to 0.9 in
        every second batch: `start=0.5, end=0.9, interval=2` prunes as many batches, in every second epoch. `halving` as
        ordered SGD in the authors' code, which counts the samples that are right, here those whose right class has a
        probability of 1/2: `prune_ratio=0.9375, mastered=0.69, halving=True` without label smoothing. Alternating
        ratios, as in the oscillation of PODS.

    >>> from orderdp.strategies import OrderDP
    >>> late = Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=4, start=0.25, end=0.75)
    >>> [late.num_selected(100, epoch) for epoch in range(4)]
    [100, 50, 50, 100]
    """

    name = "scheduled"
    label = "scheduled"
    ratio_means = "that of the method that is scheduled, scheduled:NAME, where it prunes"

    epochs: int
    start: float = 0.0
    end: float = 1.0
    interval: int = 1
    rise: float = 0.0
    fall: float = 0.0
    wave: float = 0.0
    mastered: float | None = None
    halving: bool = False
    easy_from: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_method()
        object.__setattr__(self, "epochs", check_count("epochs", self.epochs))
        object.__setattr__(self, "interval", check_count("interval", self.interval))
        check_fraction("start", self.start, low_open=False, high_open=True)
        check_fraction("end", self.end, low_open=True, high_open=False)
        for name in ("rise", "fall", "wave"):
            check_fraction(name, getattr(self, name), low_open=False, high_open=False)
        if self.end <= self.start:
            raise ValueError(f"end must lie above start, got {self.end} and {self.start}; write end=1 for none")
        if self.mastered is not None:
            check_number("mastered", self.mastered, example="0.69")
            object.__setattr__(self, "mastered", float(self.mastered))
            if math.isnan(self.mastered):
                raise ValueError("mastered must be a number that can be compared, got nan; write 0.69")
        if not isinstance(self.halving, bool):
            raise TypeError(f"halving must be True or False, got {self.halving!r}; write halving=True")
        if self.halving and self.mastered is None:
            raise ValueError("halving follows the mastered share, got mastered=None; write mastered=0.69")
        check_fraction("easy_from", self.easy_from, low_open=True, high_open=False)
        if self.easy_from < 1 and not hasattr(self.strategy, "easy_share"):
            raise ValueError(
                f"easy_from needs a method that can keep the lowest losses, got {self.strategy!r}; "
                "write OrderDP(prune_ratio=0.5)"
            )
        if self.easy_from < 1:
            replace(self.strategy, easy_share=1.0)  # type: ignore[type-var]  # raises what the method has against it
        for name in _SHARES:
            object.__setattr__(self, name, float(getattr(self, name)))
        inner = self.strategy
        if self._changes_ratio() and (inner.ratio_setting is None or getattr(inner, inner.ratio_setting) is None):
            raise ValueError(
                f"rise, fall, wave and mastered change a prune ratio, got {inner!r} without; write prune_ratio=0.5"
            )
        self._check_epochs()
        ratio = inner.asked_ratio or 0.0
        if self.wave > ratio or ratio + self.wave >= 1:
            raise ValueError(
                f"wave must keep the ratio in [0, 1), got {self.wave} around {ratio}; "
                f"write at most {min(ratio, 0.99 - ratio):.4g}"
            )
        if self.mastered is not None and not self.columns:
            raise ValueError(
                f"mastered needs a method that remembers losses, got {inner!r}; write OrderDP(prune_ratio=0.5)"
            )
        if self._changes_ratio():
            for ratio in sorted(set(map(self._ratio, range(self.epochs)))):
                self._with_ratio(ratio)  # raises what the method has against it

    def _check_epochs(self) -> None:
        if not self.may_prune(self.epochs):
            raise ValueError(
                f"a schedule must prune in one of its epochs, got none of {self.epochs} with start={self.start:g}, "
                f"end={self.end:g} and wave={self.wave:g}; write a smaller start, or more epochs"
            )

    def _check_method(self) -> None:
        if self.strategy.method_setting is not None or not self.strategy.prunes:
            raise ValueError(
                f"a method to schedule must prune and hold no other method, got {self.strategy!r}; "
                f"{self._instead('Scheduled(strategy={!r}, ...)')}"
            )
        shared = sorted({field.name for field in fields(self.strategy)} & {"inner", *_OWN})  # type: ignore[arg-type]
        if shared:
            raise ValueError(
                f"a method to schedule must leave {shared[0]} to the schedule, got {self.strategy!r}; rename it"
            )
        own = getattr(self.strategy, "epochs", None)
        if own not in (None, self.epochs):
            raise ValueError(f"epochs must be those of the method, got {self.epochs} and {own}; write them alike")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the schedule of the method `inner`, a class, which gets the settings that are not the schedule's.

        Raises:
            ValueError: no method, no number of epochs, or settings that one of the two refuses. TypeError: likewise.
        """
        given = dict(settings)
        inner = cls.inner_of(given)
        own = {name: given.pop(name) for name in _OWN if name in given}
        run = given.pop("epochs", epochs)
        if run is None:
            raise ValueError(f"epochs is needed by strategy '{cls.name}', got None; write epochs = 30")
        return cls(strategy=inner.from_settings(given, epochs=run), epochs=run, **own)

    def settings(self) -> dict[str, Any]:
        """Returns `inner`, its settings, and those of the schedule that are not defaults."""
        own = {name: getattr(self, name) for name, default in _OWN.items() if getattr(self, name) != default}
        return {"inner": self.strategy.name, **self.strategy.settings(), "epochs": self.epochs, **own}

    @classmethod
    def has_size(cls, settings: Iterable[str]) -> bool:
        """Whether a setting says how much the method trains."""
        return bool(_SIZES & set(settings))

    def describe(self, epochs: int | None = None) -> str:
        """Returns the words of the method and of its schedule, such as "OrderDP 50 %, epochs 50–90 %"."""
        words = [self.strategy.describe(epochs)]
        if self.start or self.end < 1:
            words.append(f"epochs {100 * self.start:.12g}–{100 * self.end:.12g} %")
        if self.interval > 1:
            words.append(f"every {_ordinal(self.interval)} epoch")
        words += [f"{name} over {100 * getattr(self, name):.12g} %" for name in ("rise", "fall") if getattr(self, name)]
        if self.easy_from < 1:
            words.append(f"easy from {100 * self.easy_from:.12g} % on")
        if self.wave:
            words.append(f"wave {self.wave:.12g}")
        if self.mastered is not None:
            words.append(f"{'halved' if self.halving else 'at most'} as mastered at {self.mastered:.12g}")
        if epochs is not None and epochs != self.epochs:
            words.append(f"of {self.epochs} epoch{'s' * (self.epochs > 1)}")
        return ", ".join(words)

    def for_epochs(self, epochs: int, *, instead_of: int) -> Self:
        """Returns the schedule, and the method, for a run of other epochs."""
        if self.epochs != instead_of:
            return self
        return replace(self, epochs=epochs, strategy=self.strategy.for_epochs(epochs, instead_of=instead_of))

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns the size of the method at the ratio of this epoch; None if that depends on the losses.

        Raises:
            ValueError: the method refuses this ratio, or a lower one that `mastered` may ask for.
        """
        ratio = self._ratio(epoch)
        size = self._size(ratio, num_samples, epoch)
        if self.mastered is not None and ratio:
            self._size(min(ratio, 0.5 if self.halving else 1 / num_samples), num_samples, epoch)
        # Within batches every sample may have a forward pass, at any ratio.
        return None if self.mastered is not None and ratio and size != num_samples else size

    def _size(self, ratio: float, num_samples: int, epoch: int) -> int | None:
        """Returns the size of the method at a ratio; an error names the settings that make this ratio."""
        try:
            return self._of(ratio, epoch).num_selected(num_samples, epoch)
        except ValueError as error:
            own = (f"{name}={getattr(self, name):g}" for name in _CHANGES if self._has(name))
            by = ", ".join(own)
            raise ValueError(f"{error} (the ratio is {ratio:.4g} by {by})" if by else str(error)) from None

    def may_prune(self, epochs: int) -> bool:
        """Whether the ratio is above 0 in one of these epochs, or may be; also if the method itself has ratio 0."""
        return self.strategy.asked_ratio == 0 or any(map(self._ratio, range(min(epochs, self.epochs))))

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the epochs in which the ratio changes, and those in which the size of the method may."""
        own = self.strategy.size_changes()
        if own is None:
            return None
        ratios = [self._ratio(epoch) for epoch in range(self.epochs)]
        changes = {epoch for epoch in range(1, self.epochs) if ratios[epoch] != ratios[epoch - 1]}
        return tuple(sorted(changes | set(own)))

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns what the method selects at the ratio of this epoch; a choice at another ratio is forgotten."""
        method = self._method(memory.columns, memory.epoch)
        before = memory.previous_epoch
        if before is not None and (self.mastered is not None or self._at(before) != method):
            memory = replace(memory, previous=None, previous_epoch=None)
        return method.select(memory, rng)

    def blind_to(self, losses: npt.NDArray[np.float32]) -> str | None:
        """Returns what `mastered` misses, or else what the method does."""
        if self.mastered is not None and losses.max() <= self.mastered:
            return f"none lies above mastered={self.mastered:g}, so the ratio does not depend on them"
        if self.mastered is not None and self.mastered <= 0 and losses.min() > self.mastered:
            return f"none is as low as mastered={self.mastered:g}, so no epoch prunes until one is"
        return self.strategy.blind_to(losses)

    @property
    def columns(self) -> dict[str, float]:
        """Those of the method; one column of losses for the mastered share, if it has none."""
        columns = self.strategy.columns
        if not columns and self.mastered is not None and self.chooses_in_batch:
            return {"loss": math.inf}
        return columns

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Returns what the method remembers, or the losses in a column of the schedule."""
        return self.strategy.observe(old, losses) if self.strategy.columns else dict.fromkeys(self.columns, losses)

    @property
    def chooses_in_batch(self) -> bool:
        """As the method does, in some epochs."""
        return self.strategy.chooses_in_batch

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns those of the method at its own ratio."""
        return self.strategy.batch_weights(losses, uniforms)

    def within(self, columns: Mapping[str, npt.NDArray[np.float32]], epoch: int) -> Strategy | None:
        """Returns the method at the ratio of this epoch, if it chooses within batches; None where all are trained."""
        return self._method(columns, epoch).within(columns, epoch) if self.chooses_in_batch else None

    def _method(self, columns: Mapping[str, npt.NDArray[np.float32]], epoch: int) -> Strategy:
        """Returns the method at the ratio of this epoch, by the losses that are remembered."""
        method = self._at(epoch)
        if self.mastered is None or not method.prunes:
            return method
        share = share_up_to(next(iter(columns.values())), self.mastered)
        if self.halving:
            share = 1 - 0.5 ** sum(share >= least for least in _HALVED_AT)
        return self._turned(self._with_ratio(min(self._ratio(epoch), share)), epoch)

    def _changes_ratio(self) -> bool:
        return any(map(self._has, _CHANGES))

    def _has(self, name: str) -> bool:
        return bool(getattr(self, name) != _OWN[name])

    def _at(self, epoch: int) -> Strategy:
        return self._of(self._ratio(epoch), epoch)

    def _of(self, ratio: float, epoch: int) -> Strategy:
        # Where the ratio stays, the method may have sizes of its own instead of one.
        method = self.strategy if ratio and not self._changes_ratio() else self._with_ratio(ratio)
        return self._turned(method, epoch)

    def _turned(self, method: Strategy, epoch: int) -> Strategy:
        turn = first_after(self.easy_from, self.epochs)
        if min(epoch, self.epochs - 1) < turn or not method.prunes:
            return method
        return replace(method, easy_share=1.0)  # type: ignore[type-var]

    def _with_ratio(self, ratio: float) -> Strategy:
        setting = self.strategy.ratio_setting
        if not ratio or setting is None:
            return FullData()
        return replace(self.strategy, **{setting: self.strategy._of_ratio(ratio)})  # type: ignore[type-var]

    def _ratio(self, epoch: int) -> float:
        """Returns the prune ratio of an epoch, at most if `mastered` is given; 0 for full data."""
        first, last = first_after(self.start, self.epochs), first_after(self.end, self.epochs)
        epoch = min(epoch, self.epochs - 1)
        if not first <= epoch < last or (epoch - first) % self.interval:
            return 0.0
        asked = self.strategy.asked_ratio
        ratio = 1.0 if asked is None else asked  # a method without a ratio is scheduled as it is
        ratio += self.wave if (epoch - first) // self.interval % 2 else -self.wave
        rising, falling = (max(1, round(share * self.epochs)) for share in (self.rise, self.fall))
        return ratio * min(1.0, (epoch - first + 1) / rising, (last - epoch) / falling)


def _ordinal(number: int) -> str:
    """Returns a number as 2nd, 3rd, 11th."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

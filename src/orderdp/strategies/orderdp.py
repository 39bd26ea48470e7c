"""OrderDP: draw s samples, keep the q of highest last-seen loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.strategies.base import FixedRatio, Indices, Memory, Selection, Strategy, Weights
from orderdp.strategies.draws import Mask, draw, draw_among, shuffle, shuffled
from orderdp.strategies.order import Computed, chances_by_rank, largest, under_all, weights_of_largest
from orderdp.theory.sizes import check_fraction, check_number, default_sizes
from orderdp.theory.windows import window_probabilities

_RANGE = ("skip", "easy_share", "ceiling")  # settings by which not the top q are kept


@dataclass(frozen=True, kw_only=True)
class OrderDP(Strategy):
    """Trains each epoch on exactly q samples: the top q by last-seen loss of s drawn uniformly without replacement.

    Only the losses of the q are refreshed, and nothing is rescaled. The expected gradient is that of the surrogate loss
    L_q = (1/q) Σ_j γ_j L_(j), where γ_j is the probability that the sample of rank j is kept. explore = 1 is plain
    top-q; exploit = 1 is a uniform draw. A sample whose rank is worse than n - s + q cannot be kept in that epoch. So
    every sample has a chance over a run, but not in each epoch; `uniform_share` gives it one in every epoch.

    Sizes: s = round(explore·n), q = round(exploit·s). From a prune ratio r alone, q = round((1 - r)·n) and
    s = round(√(n·q)), that is explore = exploit = √(1 - r). With nothing given, explore is 0.5 and exploit 0.6.

    With per="iteration", an epoch's s samples are split into groups of candidates. Each step trains on the top scores
    of its group. A group is a uniform draw, as in the paper. No sample is a candidate twice in an epoch, so stored
    scores cannot change between the selection and the step, even if a loader reads ahead. If the last step is too small
    to give each rank a sample, the last two steps, and so the selection, depend on the number of ranks.

    With fresh=True, a batch of the loader holds the candidates. The step keeps round(exploit·b) of them, at least one,
    by their losses or by `scores=`. The loader visits s samples. With `pruner.update` alone, the backward pass runs
    over all of them and saves nothing; `pruner.choose` gives the positions for a second forward pass. The number
    trained is q up to the rounding in each batch. With several ranks, each rank selects within its own part of the
    batch.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1); excludes `explore` and `exploit`.
        explore: fraction of the data that is drawn, s/n, in (0, 1].
        exploit: fraction of the draw that is kept, q/s, in (0, 1].
        initial_score: score of a sample not seen yet; +inf puts unseen samples of the draw before seen ones. The
            paper's public release uses 3.0 on CIFAR and 1.0 on ImageNet.
        uniform_share: fraction of the q, at least one sample, drawn uniformly from the rest of the draw, in [0, 1); 0
            is the paper's method.
        skip: fraction of the draw that is left out above those kept, t/s, in [0, 1): keeps the ranks t + 1 to t + q of
            the draw. 1 - exploit keeps the lowest. Samples without a loss still come first.
        easy_share: fraction of the q that is taken from the lowest of the draw instead, in [0, 1].
        ceiling: losses above it rank alike, so that a wrong label or an outlier comes no earlier than other samples
            with much to learn; inf for none.
        debias: exponent a of the weights (q/(n·γ))^a, in [0, 1], where γ is the chance of the sample's rank to be kept.
            0 is the paper's method, without weights. With 1 and a uniform share, the expected gradient is that of the
            mean loss. Between the two, the mean weight is below 1, which for plain SGD is a smaller learning rate. It
            sorts all scores in each epoch. Beside `skip`, `easy_share` or `ceiling`, all weights are 1 in an epoch that
            begins with samples without a finite loss, failed ones among them.
        per: "epoch" for one draw an epoch, or "iteration" for one draw in each step of all ranks (Algorithm 1).
        fresh: with per="iteration", select by the losses of the current forward pass (ordered SGD).

    Raises:
        TypeError: a setting that is no number. ValueError: a fraction outside its interval, sizes given twice,
            `initial_score` NaN, `fresh` with per="epoch".

    Source: "OrderDP: a theoretically guaranteed lossless dynamic data pruning framework", Algorithm 1, eqs. (2), (3).
        Per epoch rather than per iteration by default, as in all of its experiments.

    >>> OrderDP(explore=0.5, exploit=0.6).sizes(50_000)
    (25000, 15000)
    >>> OrderDP(prune_ratio=0.5).sizes(1000)
    (707, 500)
    """

    name = "orderdp"
    label = "OrderDP"
    ratio_means = FixedRatio.ratio_means
    has_default_size = True
    references = (
        """@inproceedings{jin2026orderdp,
  title = {{OrderDP}: a theoretically guaranteed lossless dynamic data pruning framework},
  author = {Jin, Chenhan and Xu, Shengze and Wang, Qingsong and Jia, Fan and Chen, Dingshuo and Zeng, Tieyong},
  booktitle = {International Conference on Learning Representations},
  year = {2026},
  eprint = {2606.08574},
  archiveprefix = {arXiv},
}""",
    )

    prune_ratio: float | None = None
    explore: float | None = None
    exploit: float | None = None
    initial_score: float = math.inf
    uniform_share: float = 0.0
    skip: float = 0.0
    easy_share: float = 0.0
    ceiling: float = math.inf
    debias: float = 0.0
    per: Literal["epoch", "iteration"] = "epoch"
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.prune_ratio is not None:
            check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
            if self.explore is not None or self.exploit is not None:
                raise ValueError(
                    f"prune_ratio excludes explore and exploit, got prune_ratio={self.prune_ratio}, "
                    f"explore={self.explore}, exploit={self.exploit}; give the ratio or the other two"
                )
        for name in ("explore", "exploit"):
            if getattr(self, name) is not None:
                check_fraction(name, getattr(self, name), low_open=True, high_open=False)
        check_fraction("uniform_share", self.uniform_share, low_open=False, high_open=True)
        check_fraction("skip", self.skip, low_open=False, high_open=True)
        for name in ("easy_share", "debias"):
            check_fraction(name, getattr(self, name), low_open=False, high_open=False)
        for name, example in (("initial_score", "3.0"), ("ceiling", "0.9")):
            check_number(name, getattr(self, name), example=example)
        for name in ("prune_ratio", "explore", "exploit", "uniform_share", "skip", "easy_share", "debias"):
            if getattr(self, name) is not None:  # 1 and 1.0 are the same setting, and give the same repr
                object.__setattr__(self, name, float(getattr(self, name)))
        for name, meant in (("initial_score", "unseen first"), ("ceiling", "no ceiling")):
            object.__setattr__(self, name, float(getattr(self, name)))
            if math.isnan(getattr(self, name)):
                raise ValueError(f"{name} must be a number that can be compared, got nan; write inf for {meant}")
        if self.per not in ("epoch", "iteration"):
            raise ValueError(
                f"per is 'epoch' or 'iteration', got {self.per!r}; write per='epoch' for one draw an epoch"
            )
        if not isinstance(self.fresh, bool):
            raise TypeError(f"fresh must be True or False, got {self.fresh!r}; write fresh=True")
        if self.fresh and self.per == "epoch":
            raise ValueError("fresh scores need a choice at each step, got per='epoch'; write per='iteration'")
        if self.debias and self.per == "iteration":
            raise ValueError(f"debias is for one draw an epoch, got {self.debias} with per='iteration'; leave it out")
        for name in ("uniform_share", *_RANGE):
            if self.fresh and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ValueError(
                    f"{name} is for stored scores, got {getattr(self, name)} with fresh=True; leave it out"
                )

    @property
    def chooses_in_batch(self) -> bool:
        """True with fresh losses."""
        return self.fresh

    @property
    def asked_ratio(self) -> float:
        """The prune ratio, or the one that `explore` and `exploit` make."""
        if self.prune_ratio is not None:
            return self.prune_ratio
        explore, exploit = self._fractions()
        return float(f"{1 - explore * exploit:.4g}")

    @property
    def assumed_size(self) -> str | None:
        """What the default sizes leave out, if neither a ratio nor a fraction is given."""
        if (self.prune_ratio, self.explore, self.exploit) != (None, None, None):
            return None
        return (
            "OrderDP without a size leaves out 70 % of the data in each epoch (explore=0.5, exploit=0.6); "
            "write OrderDP(prune_ratio=0.7), or the ratio that you want"
        )

    @classmethod
    def has_size(cls, settings: Iterable[str]) -> bool:
        """Whether a prune ratio is given, or one of `explore` and `exploit`."""
        return bool({"prune_ratio", "explore", "exploit"} & set(settings))

    def surrogate_sizes(self, num_samples: int) -> tuple[int, int] | None:
        """Returns (s, q); None if each step draws and so has its own L_q, if other ranks are kept, or with weights."""
        top = not self.uniform_share and not self.debias and self._keeps_top()
        return self.sizes(num_samples) if self.per == "epoch" and top else None

    @property
    def columns(self) -> dict[str, float]:
        """One column, `score`; none with fresh losses."""
        return {} if self.fresh else {"score": self.initial_score}

    def blind_to(self, losses: npt.NDArray[np.float32]) -> str | None:
        """Returns that a ceiling of at most 0 lies below all; a higher one may do so until something is learnt."""
        return under_all(self.ceiling, losses)

    def sizes(self, num_samples: int) -> tuple[int, int]:
        """Returns (s, q) for a data set of `num_samples`.

        Raises:
            ValueError: q would be zero.
        """
        if self.prune_ratio is not None:
            given = f"prune_ratio={self.prune_ratio}"
            s, q = default_sizes(num_samples, self.prune_ratio)
        else:
            explore, exploit = self._fractions()
            given = f"explore={explore}, exploit={exploit}"
            s = round(explore * num_samples)
            q = round(exploit * s)
        if q < 1:
            raise ValueError(
                f"the sizes must keep at least one of the {num_samples} samples, got q = 0 from {given}; "
                "write larger fractions to keep, or a smaller prune ratio"
            )
        if round(self.skip * s) + q > s:
            raise ValueError(
                f"skip must leave {q} of the {s} samples drawn, got {self.skip} beside {given}; "
                f"write at most {(s - q) / s:.4g}"
            )
        return s, q

    def window(self, num_samples: int) -> npt.NDArray[np.float64]:
        """Returns (s,) the chance of each position of the draw to be kept, position 1 the highest score.

        `theory.window_probabilities(n, s, window)` is γ, the chance of each rank to be kept, once all samples have a
        loss.

        Raises:
            ValueError: q would be zero, or as `sizes`.
        """
        s, q = self.sizes(num_samples)
        uniform = self._uniform(q)
        size, skipped = q - uniform, round(self.skip * s)
        easy = round(self.easy_share * size)
        kept = np.zeros(s)
        kept[skipped : skipped + size - easy] = 1
        kept[s - easy :] = 1
        kept[kept == 0] = uniform / max(1, s - size)
        return kept

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns q, or s if the steps select by fresh losses."""
        s, q = self.sizes(num_samples)
        return s if self.fresh else q

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns no epoch: the size is the same in all."""
        return ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the q samples (with fresh losses: the s candidates) in training order.

        Raises:
            ValueError: per="iteration" if the loop forms its own batches.
        """
        s, q = self.sizes(memory.num_samples)
        if self.fresh:
            return Selection(shuffled(draw(memory.num_samples, s, rng), rng))
        if self.per == "epoch":
            scores = memory.columns["score"]
            indices = shuffled(self._kept(scores, q, rng, draw(memory.num_samples, s, rng)), rng)
            return Selection(indices, self._weights(indices, scores) if self.debias else None)
        if memory.step_bounds is None:
            raise ValueError("per='iteration' must know the batches, got none; write pruner.sampler(batch_size=...)")
        order = shuffled(draw(memory.num_samples, s, rng), rng)
        bounds = list(memory.step_bounds)
        if bounds[-1][1] < q:  # the rest is in no step, by drop_last, but counts among the q
            bounds.append((bounds[-1][1], q))
        steps = []
        for begin, end in bounds:
            candidates = order[round_ratio(s * begin, q) : round_ratio(s * end, q)]
            scores = memory.columns["score"][candidates]
            kept = candidates[self._kept(scores, end - begin, rng)]
            shuffle(kept, rng)
            steps.append(kept)
        return Selection(np.concatenate(steps))

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns b/k for the k = round(exploit·b) highest fresh losses and 0 for the others: the mean is theirs.

        Equal losses are kept in the order of the batch, which is random.
        """
        return weights_of_largest(losses, self._fractions()[1]) if self.fresh else None

    def _describe(self, settings: dict[str, Any]) -> list[str]:
        words = []
        if "prune_ratio" in settings:
            words.append(f"{100 * self.asked_ratio:.12g} %")
        if {"explore", "exploit"} & set(settings):
            explore, exploit = self._fractions()
            words += [f"explore {explore:.12g}", f"exploit {exploit:.12g}"]
        if "initial_score" in settings:
            words.append(f"unseen at {self.initial_score:.12g}")
        for name in ("uniform_share", *_RANGE, "debias"):
            if name in settings:
                words.append(f"{name.replace('_', ' ')} {getattr(self, name):.12g}")
        if self.per == "iteration":
            words.append("per iteration, fresh" if self.fresh else "per iteration")
        own = {field.name for field in fields(OrderDP)}
        return words + [f"{name} {value}" for name, value in sorted(settings.items()) if name not in own]

    def _fractions(self) -> tuple[float, float]:
        if self.prune_ratio is not None:
            return math.sqrt(1 - self.prune_ratio), math.sqrt(1 - self.prune_ratio)
        return 0.5 if self.explore is None else self.explore, 0.6 if self.exploit is None else self.exploit

    def _kept(
        self, scores: npt.NDArray[np.float32], size: int, rng: np.random.Generator, among: Mask | None = None
    ) -> Mask:
        """Returns the top of these scores, or of a mask of them, and the uniform share from the rest."""
        uniform = self._uniform(size)
        if self._keeps_top():
            kept = largest(scores, size - uniform, rng, among=among)
        else:
            drawn = np.ones(len(scores), dtype=np.bool_) if among is None else among
            kept = self._in_range(scores, size - uniform, rng, drawn)
        if uniform:
            kept |= draw_among(~kept if among is None else among & ~kept, uniform, rng)
        return kept

    def _uniform(self, size: int) -> int:
        return max(1, round(self.uniform_share * size)) if self.uniform_share else 0

    def _weights(self, indices: Indices, scores: npt.NDArray[np.float32]) -> Weights:
        """Returns (q/(n·γ))^debias; 1 for all while samples without a loss come before a range of ranks."""
        if not self._keeps_top() and not np.isfinite(scores).all():
            return np.ones(len(indices), dtype=np.float32)
        gammas = window_probabilities(len(scores), self.sizes(len(scores))[0], self.window(len(scores)))
        chances = chances_by_rank(np.minimum(scores, np.float32(self.ceiling)), indices, gammas)
        return ((len(indices) / len(scores) / chances) ** self.debias).astype(np.float32)

    def _keeps_top(self) -> bool:
        return not self.skip and not self.easy_share and self.ceiling == math.inf

    def _in_range(self, scores: npt.NDArray[np.float32], size: int, rng: np.random.Generator, drawn: Mask) -> Mask:
        """Returns samples without a loss, then those in the range of ranks, then samples that failed."""
        kept: Mask = drawn & (scores == math.inf)
        unseen = int(np.count_nonzero(kept))
        if unseen >= size:
            return draw_among(kept, size, rng)
        known: Mask = drawn & np.isfinite(scores)
        count, size = int(np.count_nonzero(known)), size - unseen
        if count <= size:
            return kept | known | draw_among(drawn & ~kept & ~known, size - count, rng)
        capped = Computed(len(scores), lambda part: np.minimum(scores[part], np.float32(self.ceiling)))
        skipped = min(round(self.skip * np.count_nonzero(drawn)), count - size)
        known &= ~largest(capped, skipped, rng, among=known)
        easy = round(self.easy_share * size)
        hard = largest(capped, size - easy, rng, among=known)
        known &= ~hard
        negated = Computed(len(scores), lambda part: -capped[part])
        return kept | hard | largest(negated, easy, rng, among=known)


def round_ratio(numerator: int, denominator: int) -> int:
    """Returns numerator/denominator rounded half up, in integers."""
    return (2 * numerator + denominator) // (2 * denominator)

"""Is pruning worth it in one's own loop? Pruned, shorter schedule and full data, in as few runs as that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from orderdp.checks import check_integer
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, Difference, paired_difference, student
from orderdp.pruner import Pruner
from orderdp.strategies import FullData, RepeatedRandom, Strategy
from orderdp.theory.sizes import check_number

_MOST_SEEDS = 100  # that are suggested
_EXACT = 10**15  # test samples: scores of any kind are not rounded to multiples of 1/m


@dataclass(frozen=True)
class Answer:
    """What the runs of `worth_it` say; `str` gives it in words.

    Args:
        scores: "pruned", "shorter schedule" and "full data" to the score of each seed; no full data if it was not
            needed.
        shares: of full data's samples that the pruned run of each seed trained, each in (0, 1).
        against_short: score of pruned minus shorter schedule; above 0 is better also where small scores are.
        against_full: the same of full data; None if it was not trained.
        worth: whether pruning is better than the shorter schedule; None if the seeds do not show it.
    """

    scores: Mapping[str, Mapping[int, float]]
    shares: Mapping[int, float]
    against_short: Difference
    against_full: Difference | None
    worth: bool | None

    @property
    def share(self) -> float:
        """The mean of the shares."""
        return sum(self.shares.values()) / len(self.shares)

    def __str__(self) -> str:
        lines = [f"{name}: {', '.join(f'{score:.4g}' for score in of.values())}" for name, of in self.scores.items()]
        lines.append(_words("the shorter schedule", self.against_short))
        if self.against_full is not None:
            lines.append(_words("full data", self.against_full))
        cost = f"{100 * self.share:.0f} % of the samples"
        if self.worth:
            lines.append(f"Worth it: for {cost}, pruning is better than stopping early.")
        elif self.worth is None:
            lines.append(f"Open: these seeds do not tell pruning from stopping early at {cost}.")
            lines.append(_seeds_needed(self.against_short))
        else:
            lines.append("Not worth it: full data on a shorter schedule costs as much and is better.")
        return "\n".join(lines)


def worth_it(
    train: Callable[[Pruner], float],
    strategy: Strategy,
    num_samples: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    larger_is_better: bool = True,
    resolution: float = 0.0,
    before: Answer | None = None,
    log: Callable[[str], None] = print,
) -> Answer:
    """Trains a loop of your own pruned, on the shorter schedule and on full data, and says whether pruning pays.

    The shorter schedule is full data for as many samples as the pruned run trains. It has as many epochs, each of which
    visits the next part of a permutation of the data. So a learning rate that follows the epochs or the steps ends with
    it, and the loop needs no change. Full data is trained only if the seeds do not show that the shorter schedule is
    better: six runs for three seeds, or nine.

    Args:
        train: trains a new model on what the pruner selects, `pruner.loader(...)` and `pruner.update(...)`, for the
            same number of epochs each time, and returns a finite score on held-out data. It takes its random numbers
            from `pruner.seed`, so that runs of a seed begin with the same weights.
        strategy: the method, which chooses before each epoch. If its size depends on the losses, as that of InfoBatch
            does, the loop cannot ask for `total_steps`: its learning rate must follow the epochs.
        num_samples: size of the training set.
        seeds: at least three, to conclude anything.
        larger_is_better: of the score; False for a loss.
        resolution: smallest step of the score, such as 0.1 for an accuracy in percent on 1,000 samples. Differences of
            a few seeds may be equal by chance, so an interval is at least as wide as the step allows. 0 for a score
            that takes any value.
        before: the answer for another method, by the same loop, data and score, which cannot be checked. Its full data
            is not trained again, nor its shorter schedule where it has as many samples.
        log: called with one line as each run ends.

    Raises:
        ValueError: a method that chooses within the batch or prunes nothing, no seeds, or a run that trained nothing or
            returned a number that is not finite.
        TypeError: no method, no sequence of seeds, no answer before, or a run that returned no number.
        ImportError: several seeds without SciPy.

    >>> answer = worth_it(lambda pruner: 90.0, FullData(), 10)
    Traceback (most recent call last):
    ...
    ValueError: the method must prune, got FullData(); write OrderDP(prune_ratio=0.5)
    """
    _check_method(strategy)
    num_samples = check_integer("num_samples", num_samples, 1, 2**63, "write len(dataset)")
    _check_scores(resolution, before)
    seeds = _checked_seeds(seeds)
    if len(seeds) > 1:
        student()  # without SciPy it fails here, not after hours of training
    scores: dict[str, dict[int, float]] = {"pruned": {}, "shorter schedule": {}}
    shares: dict[int, float] = {}

    def run(arm: str, method: Strategy, seed: int) -> Pruner:
        pruner = Pruner(method, num_samples, seed=seed)
        known = _known(before, arm, seed, shares.get(seed))
        scores[arm][seed] = _checked(train(pruner), pruner, arm, seed) if known is None else known
        log(f"seed {seed}, {arm}: {scores[arm][seed]:.4g}{'' if known is None else ', as before'}")
        return pruner

    for seed in seeds:
        report = run("pruned", strategy.for_seed(seed), seed).report()
        shares[seed] = report.visits / (num_samples * (report.epoch + 1))
        if shares[seed] >= 1:
            raise ValueError(
                f"the method must prune, got {strategy!r}, which trained all samples in every epoch of seed "
                f"{seed}; write a higher prune ratio, or a schedule of epochs={report.epoch + 1}"
            )
        run("shorter schedule", RepeatedRandom(prune_ratio=1 - shares[seed]), seed)
    against_short = _difference(scores, "shorter schedule", larger_is_better=larger_is_better, resolution=resolution)
    against_full = None
    if against_short.seeds < FEWEST_SEEDS or against_short.high >= 0:
        scores["full data"] = {}
        for seed in seeds:
            run("full data", FullData(), seed)
        against_full = _difference(scores, "full data", larger_is_better=larger_is_better, resolution=resolution)
    worth = None
    if against_short.seeds >= FEWEST_SEEDS and not against_short.low <= 0 <= against_short.high:
        worth = against_short.low > 0
    return Answer(scores, shares, against_short, against_full, worth)


def _known(before: Answer | None, arm: str, seed: int, share: float | None) -> float | None:
    """Returns the score of a reference in an earlier answer; None if it must be trained."""
    if before is None or arm == "pruned" or (arm == "shorter schedule" and before.shares.get(seed) != share):
        return None
    return before.scores.get(arm, {}).get(seed)


def _check_scores(resolution: float, before: Answer | None) -> None:
    check_number("resolution", resolution, example="0.1")
    if not 0 <= resolution < math.inf:
        raise ValueError(f"resolution must be 0 or a step of the score, got {resolution}; write 0.1")
    if not isinstance(before, Answer | None):
        raise TypeError(f"before must be an answer of worth_it, got {before!r}; leave it out for the first method")


def _check_method(strategy: Strategy) -> None:
    if not isinstance(strategy, Strategy):
        raise TypeError(f"strategy must be a method, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
    if not strategy.prunes:
        raise ValueError(f"the method must prune, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
    if strategy.chooses_in_batch:
        raise ValueError(
            f"the method must choose before an epoch, got {strategy!r}, which makes all steps of full data; "
            "compare it with full data"
        )


def _checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int):
        raise TypeError(f"seeds must be different numbers, got {seeds}; write range({max(seeds, FEWEST_SEEDS)})")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different numbers, got {list(seeds)}; write (0, 1, 2)")
    return tuple(seeds)


def _checked(score: object, pruner: Pruner, arm: str, seed: int) -> float:
    where = f"the run of seed {seed}, {arm},"
    if isinstance(score, bool) or not isinstance(score, Real):
        item = isinstance(score, Tensor) and score.numel() == 1
        write = "return score.item()" if item else "return the score on held-out data"
        raise TypeError(f"{where} must return a number, got {score!r}; {write}")
    if not math.isfinite(score):
        raise ValueError(f"{where} must return a finite number, got {score}; look for a diverging loss")
    if not pruner.report().visits:
        raise ValueError(
            f"{where} trained no sample of its pruner; loop over pruner.loader(...) and call pruner.update(...)"
        )
    return float(score)


def _difference(
    scores: Mapping[str, Mapping[int, float]], reference: str, *, larger_is_better: bool, resolution: float
) -> Difference:
    sign = 1 if larger_is_better else -1
    pruned, other = ({seed: sign * score for seed, score in scores[arm].items()} for arm in ("pruned", reference))
    return paired_difference(pruned, other, test_size=round(100 / resolution) if resolution else _EXACT)


def _seeds_needed(difference: Difference) -> str:
    """Returns how many seeds would show a difference of this mean and spread, as a sentence."""
    count, stay = difference.seeds, "If mean and spread stay as they are,"
    if count < 2:
        return f"One seed has no interval: train at least {FEWEST_SEEDS}, seeds={tuple(range(FEWEST_SEEDS))}."
    t = student()
    deviation = (difference.high - difference.low) / 2 * math.sqrt(count) / t.ppf((1 + CONFIDENCE) / 2, count - 1)
    for seeds in range(max(count + 1, FEWEST_SEEDS), _MOST_SEEDS + 1):
        if t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * deviation / math.sqrt(seeds) < abs(difference.mean):
            return f"{stay} {seeds} seeds would."
    return f"{stay} more than {_MOST_SEEDS} seeds would."


def _words(reference: str, difference: Difference) -> str:
    text = f"pruned minus {reference}: {difference.mean:+.4g}"
    if difference.seeds > 1:
        text += f", 95 % interval [{difference.low:+.4g}, {difference.high:+.4g}]"
    return f"{text}, {difference.seeds} seed{'s' * (difference.seeds > 1)}"

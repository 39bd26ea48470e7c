"""A learning rate for each run of a comparison, chosen alike for all on held-out training data.

The folder of the comparison holds a smaller comparison for each rate, `tuning/max_lr_0.1` and so on. Its runs have a
seed of their own, train on the rest of the training data, and are evaluated on what is held out. The rate of the best
run of a label becomes the rate of all runs of that label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from orderdp.comparison.checks import LoadedData, check
from orderdp.comparison.grid import Comparison, load_comparison
from orderdp.comparison.outcome import Outcome
from orderdp.comparison.planned import Sizes
from orderdp.comparison.results import Results
from orderdp.training.run_folder import alone_in
from orderdp.training.steps import most_steps

FOLDER = "tuning"
HELD_OUT = 0.1
SEED = 1_000_003  # no seed that one would compare with


def tuning_of(comparison: Comparison) -> dict[str, Comparison]:
    """Returns the comparisons that choose the rates, by the name of their folder; none without rates."""
    changes = {"held_out": HELD_OUT, "evaluations": 1, "seed": SEED}
    found = {}
    for rate in comparison.max_lrs:
        recipe = comparison.recipe.model_copy(update={**changes, "max_lr": rate})
        found[f"max_lr_{rate:g}"] = replace(comparison, recipe=recipe, seeds=(SEED,), max_lrs=(), tuned={})
    return found


def untuned(comparison: Comparison, num_samples: int, num_ranks: int) -> set[str]:
    """Returns the labels of the runs whose rate has still to be chosen."""
    if not comparison.max_lrs:
        return set()
    return {member.label for member in comparison.members(num_samples, num_ranks)} - comparison.tuned.keys()


def tune(
    path: Path,
    data: LoadedData,
    train: Callable[[Sequence[Path]], Sequence[Outcome]],
    create: Callable[[Comparison, Path], None],
    log: Callable[[str], None],
    *,
    in_time: bool = False,
) -> bool:
    """Chooses the rates that a comparison lacks, writes them down, and returns whether all are chosen.

    Args:
        path: folder of the comparison.
        data: the data that is already loaded.
        train: trains the runs in folders of comparisons and returns their outcomes.
        create: creates or extends the folder of a comparison.
        log: called with a line before the rates are tried, and with what was chosen.
        in_time: whether `train` begins only runs that end in time, so that some may be left.

    Raises:
        ValueError: a run that failed at every rate, or another process that is still choosing.
    """
    comparison, sizes = load_comparison(path)
    missing = untuned(comparison, sizes.num_samples, sizes.num_ranks)
    if not missing:
        return True
    if PartialState().is_main_process:
        log(
            f"choosing max_lr for {_runs(len(missing))} on {100 * HELD_OUT:g} % of the training samples, held out: "
            f"each is trained at {', '.join(f'{rate:g}' for rate in comparison.max_lrs)}"
        )
    parts = {path / FOLDER / name: part for name, part in tuning_of(comparison).items()}
    for part in parts.values():
        check(part, data)
    for folder, part in parts.items():
        create(part, folder)
    outcomes = train(list(parts))
    # A run without a result beside one that failed may wait for it.
    waiting = [name for outcome in outcomes if not outcome.failed for name in outcome.open]
    at_work = [name for outcome in outcomes for name in outcome.at_work]
    if waiting and in_time and not at_work:
        if PartialState().is_main_process:
            log(f"no time to try max_lr for all: {_runs(sum(len(outcome.open) for outcome in outcomes))} left")
        return False
    if waiting := waiting or at_work:
        raise ValueError(
            f"learning rates are still chosen by another process, at {waiting[0]}; resume when it has ended"
        )
    by_rate = dict(zip(comparison.max_lrs, (outcome.results for outcome in outcomes), strict=True))
    there = next(iter(by_rate.values()))
    names = {label: _name_in(there, label, comparison, sizes) for label in missing}
    chosen = {label: _best(names[label], by_rate) for label in sorted(missing)}
    if PartialState().is_main_process:
        with alone_in(path):
            comparison, sizes = load_comparison(path)
            replace(comparison, tuned={**comparison.tuned, **chosen}).write(path, sizes)
        for line in _told(chosen, comparison.max_lrs):
            log(line)
    PartialState().wait_for_everyone()
    return True


def trying(comparison: Comparison) -> str:
    """Returns what to say of a run behind its label: its rate, if it is one of those that choose; else nothing."""
    return f", trying max_lr {comparison.recipe.max_lr:g}" if comparison.seeds == (SEED,) else ""


def at_an_end(chosen: Mapping[str, float], rates: Sequence[float]) -> list[str]:
    """Returns the labels whose rate is the lowest or the highest of those that were tried.

    >>> at_an_end({"full data": 0.1, "OrderDP 50 %": 0.3}, [0.03, 0.1, 0.3])
    ['OrderDP 50 %']
    """
    return [label for label, rate in chosen.items() if rate in (min(rates), max(rates))]


def _told(chosen: Mapping[str, float], rates: Sequence[float]) -> list[str]:
    """Returns lines on which rate was best for which runs, and where one beyond those tried may be better."""
    by_rate = {rate: [label for label, best in chosen.items() if best == rate] for rate in sorted(chosen.values())}
    lines = [f"max_lr {rate:g} is best for {'; '.join(labels)}" for rate, labels in by_rate.items()]
    if ends := at_an_end(chosen, rates):
        lines.append(
            f"for {len(ends)} of {_runs(len(chosen))} the best max_lr is the lowest or highest of those tried; one "
            "beyond it may be better: start a new comparison with more"
        )
    return lines


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _name_in(there: Results, label: str, comparison: Comparison, sizes: Sizes) -> str:
    """Returns the label of a run in a comparison on less data, where schedules may be equal that differ on all of it.

    Equal schedules share a label. The one whose share of full data's steps is nearest then stands for the run.
    """
    if label in there.entries:
        return label
    members = comparison.members(sizes.num_samples, sizes.num_ranks)
    mine = next(member for member in members if member.label == label)
    augment = None if mine.beside is None else mine.recipe.augment
    whole, fewer = (most_steps(comparison.recipe, of.num_samples, of.num_ranks) for of in (sizes, there.sizes))
    references = [run for run in there.planned.runs if run.reference]
    alike = [run for run in references if run.augment == augment] or references
    shares = {run.label: (run.max_steps or fewer) / fewer for run in alike}
    return min(shares, key=lambda other: abs(shares[other] - (mine.recipe.max_steps or whole) / whole))


def _best(label: str, by_rate: Mapping[float, Results]) -> float:
    """Returns the rate with the highest accuracy on the held-out data; the lower of two equals."""
    found = {
        rate: results.entries[label].mean("accuracy_last")
        for rate, results in sorted(by_rate.items())
        if label in results.entries and results.entries[label].results
    }
    if not found:
        raise ValueError(f"a learning rate needs a run that ends, got none of {label}; write smaller --max-lr")
    return max(found, key=found.__getitem__)

"""Trains the runs of a comparison: one after another or by the workers of an engine, and again after a stop.

Every process goes through the runs and trains those that are neither finished nor in training. Each run's folder has a
lock, which the system frees when its process ends, so no two processes train the same run. Any number of processes may
join, on any machines that share the folder. A run that fails leaves its reason, and the other runs continue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from orderdp.comparison.budget import Budget
from orderdp.comparison.checks import LoadedData, check, check_processes, check_recipes, sharing_threads
from orderdp.comparison.engines.base import Engine, Left, Log, Work
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.grid import Comparison, load_comparison, with_method
from orderdp.comparison.member import Member
from orderdp.comparison.outcome import Outcome, summarize
from orderdp.comparison.planned import FILE, Sizes
from orderdp.comparison.records import read_folder
from orderdp.comparison.searched import plan_next
from orderdp.comparison.tuning import trying, tune
from orderdp.data.base import DataSets
from orderdp.lost_ranks import LostRankError, is_loss, reason_of_loss
from orderdp.output.custom import reason_of
from orderdp.output.files import new_folder
from orderdp.strategies import FullData
from orderdp.strategies.registry import to_table
from orderdp.training.heap import keep_freed_memory
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder, alone_in, spent_s
from orderdp.training.trackers import check_trackers, lacking, read_trackers, tracking, write_trackers


def _silent(line: str) -> None:
    """Drops a line."""


def start(
    comparison: Comparison,
    path: Path,
    *,
    processes: int = 1,
    engine: Engine = LOCAL,
    trackers: Sequence[str] = (),
    show: bool = True,
    log: Log = _silent,
) -> Outcome:
    """Creates the folder of a comparison, trains all its runs and returns the outcome.

    If torchrun has restarted this process, and the folder holds this comparison, the runs in it are resumed.

    Args:
        comparison: the runs.
        path: folder to create.
        processes: how many train runs at the same time.
        engine: starts these processes.
        trackers: names of the trackers that get a row an epoch of each run.
        show: show progress bars, or a line an epoch if standard error is no terminal.
        log: called with one line as each run begins, ends or fails.

    Raises:
        FileExistsError: the folder exists; nothing in it is changed.
        ValueError, OSError: settings that do not fit the data or the machine; nothing is written.
        ImportError, RuntimeError: as `Engine.check` and `check_trackers`; nothing is written.
    """
    check_trackers(trackers)
    if _restarted() and _holds(path, sharing_threads(comparison, processes, engine)):
        return resume([path], processes=processes, engine=engine, show=show, log=log)[0]
    data = LoadedData()
    sizes = check(comparison, data, processes=processes, engine=engine)
    path = create_folder(sharing_threads(comparison, processes, engine), path, sizes, trackers)
    return resume([path], processes=processes, engine=engine, show=show, log=log, data=data)[0]


def _restarted() -> bool:
    """Returns whether torchrun has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _holds(path: Path, comparison: Comparison) -> bool:
    """Returns whether a folder holds this comparison, the same on all ranks."""
    state, found = PartialState(cpu=comparison.recipe.device == "cpu"), False
    if state.is_main_process and path.exists():
        with suppress(ValueError):  # the folder holds something else, and is refused
            found = _as_begun(load_comparison(path)[0], comparison) == comparison
    return bool(broadcast_object_list([found])[0])


def _as_begun(there: Comparison, comparison: Comparison) -> Comparison:
    """Returns a comparison without what its runs have decided; `comparison` says with how many seeds it began."""
    if there.lossless is None or comparison.lossless is None:
        return replace(there, tuned={})
    search = replace(there.lossless, seeds_of=comparison.lossless.seeds_of)
    return replace(there, seeds=there.seeds[: len(comparison.seeds)], lossless=search)


def create_folder(comparison: Comparison, path: Path, sizes: Sizes, trackers: Sequence[str] = ()) -> Path:
    """Creates the folder of a comparison that was checked, and returns it by the name that all ranks share.

    Raises:
        FileExistsError: the folder exists; nothing in it is changed.
    """
    path = same_on_all_ranks(path)
    if PartialState().is_main_process:
        with new_folder(path) as folder:
            comparison.write(folder, sizes)
            write_trackers(folder, trackers)
    PartialState().wait_for_everyone()
    return path


def same_on_all_ranks(path: Path) -> Path:
    """Returns the path that the main process was given; a name made of the time may differ between ranks."""
    return Path(broadcast_object_list([str(path)])[0])


def resume(
    paths: Sequence[Path],
    *,
    processes: int = 1,
    engine: Engine = LOCAL,
    show: bool = True,
    log: Log = _silent,
    data: LoadedData | None = None,
    budget: Budget | None = None,
) -> list[Outcome]:
    """Trains the runs in these folders that are not finished, and returns the outcome of each folder.

    Finished runs are kept, a stopped run continues from its checkpoint, and a failed run is tried again.

    Args:
        paths: folders of comparisons.
        processes: how many train runs at the same time.
        engine: starts these processes.
        show: show progress bars, or a line an epoch if standard error is no terminal.
        log: called with one line as each run begins, ends or fails.
        data: the data that is already loaded.
        budget: which runs may still begin; None for all.

    Raises:
        ValueError: the folder holds no comparison, or it holds a run of another recipe than planned.
        ImportError: a package of the engine or of a tracker is missing.
        RuntimeError: the machine lacks the engine, or none of its workers could work.
    """
    found = [load_comparison(path) for path in paths]
    check_processes(processes, PartialState(cpu=found[0][0].recipe.device == "cpu"), engine)
    data = LoadedData() if data is None else data
    for path, (comparison, sizes) in zip(paths, found, strict=True):
        check_trackers(read_trackers(path))
        _write_down_runs(comparison, path, sizes)
        read_folder(path)  # refuses runs of another recipe
        _forget_failures(path)
        _log_finished(comparison, path, sizes)

    def train(folders: Sequence[Path]) -> list[Outcome]:
        return resume(folders, processes=processes, engine=engine, show=show, log=log, data=data, budget=budget)

    def here(*, alone: bool) -> None:
        _work(ready, data, show=show and alone, log=log, budget=budget)

    ready = [path for path in paths if tune(path, data, train, _create_or_extend, log, in_time=budget is not None)]
    planned, before = _plan(ready, log), None
    while ready and planned != before:  # a search plans further runs when it has the results of those before
        engine.share(Work(ready, partial(_help, budget=budget), here, lambda: _left(ready)), processes, log)
        planned, before = _plan(ready, log), planned
    return [summarize(path) for path in paths]


def _plan(paths: Sequence[Path], log: Log) -> list[int]:
    """Plans the next runs of each folder with a search; returns the number of planned runs of each folder."""
    return [plan_next(path, log) for path in paths]


def _create_or_extend(comparison: Comparison, path: Path) -> None:
    there = broadcast_object_list([path.exists()])[0]  # one answer for all ranks: the main one is about to create it
    if not there:
        try:
            create_folder(comparison, path, check(comparison))
        except FileExistsError:  # another process has just created it
            there = True
    if there:
        root = comparison.recipe.data_root
        moved = None if load_comparison(path)[0].recipe.data_root == root else root
        extend(path, methods=comparison.methods, budgets=comparison.budgets, data_root=moved)


def extend(
    path: Path,
    *,
    seeds: Sequence[int] = (),
    methods: Sequence[Mapping[str, Any]] = (),
    budgets: Sequence[float] = (),
    data_root: str | None = None,
    data: LoadedData | None = None,
) -> None:
    """Adds seeds, methods and budgets to a comparison, or records where its data is now. Its runs do not change.

    Args:
        path: the folder.
        seeds: seeds to add; planned ones are ignored.
        methods: methods to add; planned ones are ignored.
        budgets: budgets of full data to add; planned ones are ignored.
        data_root: folder that holds the data; None leaves it as it is.
        data: the data that is already loaded.

    Raises:
        ValueError: the folder holds no comparison, the recipe refuses a seed or method, or the folder holds other data.
        OSError: there is no data.
    """
    if PartialState().is_main_process:
        with alone_in(path):
            comparison, sizes = load_comparison(path)
            if comparison.lossless is not None and (seeds or methods or budgets):
                raise ValueError(
                    f"a search for the largest lossless ratio adds its runs itself, got more for {path}; leave seeds, "
                    "methods and budgets out"
                )
            plain = comparison.recipe.model_copy(update={"strategy": FullData()})
            more = [plain.model_copy(update={"seed": seed}).seed for seed in dict.fromkeys(seeds)]
            changes = {} if data_root is None else {"data_root": data_root}
            added = [method for method in methods if not _is_in(comparison, method, path)]
            present = comparison.methods or (to_table(comparison.recipe.strategy, epochs=comparison.recipe.epochs),)
            changed = replace(
                comparison,
                recipe=comparison.recipe.model_copy(update=changes),
                methods=(*present, *added) if added else comparison.methods,
                seeds=(*comparison.seeds, *(seed for seed in more if seed not in comparison.seeds)),
                budgets=(*comparison.budgets, *(each for each in budgets if each not in comparison.budgets)),
            )
            if data_root is not None:
                (data or LoadedData()).checked(changed.recipe, sizes, path)
            check_recipes(changed, sizes)
            if changed != comparison:
                changed.write(path, sizes)
    PartialState().wait_for_everyone()


def _is_in(comparison: Comparison, method: Mapping[str, Any], path: Path) -> bool:
    """Returns whether a comparison has a method.

    Raises:
        ValueError: it has another one of that label.
    """
    seed = {"seed": comparison.seeds[0]}
    new = with_method(comparison.recipe.model_copy(update=seed), method)
    known = {recipe.label: recipe.strategy for recipe in comparison.pruned()}
    if known.get(new.label, new.strategy) != new.strategy:
        raise ValueError(
            f"a label must stand for one method, got another {new.label} than that in {path}; write a new folder"
        )
    return new.label in known


def _write_down_runs(comparison: Comparison, path: Path, sizes: Sizes) -> None:
    """Adds to a folder of release 0.1 what its readers need to know the runs of a custom strategy."""
    if PartialState().is_main_process and not (path / FILE).exists():
        with alone_in(path):
            comparison.write(path, sizes)
    PartialState().wait_for_everyone()


def _help(paths: Sequence[Path], log: Log, *, budget: Budget | None) -> None:
    _work(paths, LoadedData(), show=False, log=log, budget=budget)


def _left(paths: Sequence[Path]) -> Left:
    """Returns the runs that can be trained now, with their last checkpoint, and those that another process trains."""
    found: dict[str, str] = {}
    held = set()
    for path in paths:
        comparison, sizes = load_comparison(path)
        for member in comparison.members(sizes.num_samples, sizes.num_ranks):
            folder = RunFolder(path / member.name)
            if member.recipe_in(path, sizes.num_samples, sizes.num_ranks) is None or not _is_open(folder):
                continue
            if folder.path.exists() and folder.is_held():
                held.add(str(folder.path))
            else:
                found[str(folder.path)] = folder.last_checkpoint()
    return Left(found, frozenset(held))


def _work(paths: Sequence[Path], loaded: LoadedData, *, show: bool, log: Log, budget: Budget | None) -> None:
    """Trains runs until none is left that this process can train."""
    for path in paths:
        comparison, sizes = load_comparison(path)
        state = PartialState(cpu=comparison.recipe.device == "cpu")
        if state.num_processes != sizes.num_ranks:
            raise ValueError(
                f"the runs in {path} must be trained on {sizes.num_ranks} rank(s), as the first of them were, "
                f"got {state.num_processes}; start as many processes"
            )
        data = loaded.checked(comparison.recipe, sizes, path)
        members = comparison.members(sizes.num_samples, sizes.num_ranks)
        trained = True
        while trained:  # a run may wait for another to end, whose number of steps it takes
            trained = False
            for number, member in enumerate(members, 1):
                folder = RunFolder(path / member.name)
                with _claimed(member, folder, sizes, budget) as recipe:
                    if recipe is not None:
                        trained = True
                        of = trying(comparison) or f", seed {member.recipe.seed}"
                        what = f"[{number}/{len(members)}] {member.title}{of}"
                        if state.is_main_process:
                            log(what)
                        _train(recipe, data, folder, what=what, show=show, log=log)


@contextmanager
def _claimed(member: Member, folder: RunFolder, sizes: Sizes, budget: Budget | None) -> Iterator[Recipe | None]:
    """Yields the recipe of a run to train and holds its lock; yields None if there is nothing to do, or no time."""
    with ExitStack() as stack:
        recipe = None
        if PartialState().is_main_process:  # the other ranks follow: the folder may change meanwhile
            recipe = member.recipe_in(folder.path.parent, sizes.num_samples, sizes.num_ranks)
            if (
                recipe is None
                or not _is_open(folder)
                or not (budget is None or budget.allows(folder, member.label, recipe, sizes))
                or not stack.enter_context(folder.locked())
                or not _is_open(folder)  # it may have been finished before the lock was taken
            ):
                recipe = None
        yield broadcast_object_list([recipe])[0]


def _is_open(folder: RunFolder) -> bool:
    """Returns whether a run still has to be trained. A damaged result is not retrained, but reported at the end."""
    try:
        return folder.is_open()
    except ValueError:
        return False


def _train(recipe: Recipe, data: DataSets, folder: RunFolder, *, what: str, show: bool, log: Log) -> None:
    state = PartialState()
    if state.is_main_process:
        folder.begin(recipe)
    state.wait_for_everyone()
    keep_freed_memory()
    try:
        trackers = read_trackers(folder.path.parent)
        result = Run(recipe, data, folder, show=show, trackers=trackers).train()
        if state.is_main_process:
            log(f"{what}: {result['accuracy_last']:.2f} % after {spent_s(result):.0f} s")
    except Exception as error:
        if state.num_processes > 1 and is_loss(error):  # no fault of the run, which stays open
            raise LostRankError(
                f"{what}: another rank ended, or did not answer in time ({reason_of_loss(error)}); "
                "its own messages say why, and --resume goes on from the last checkpoint"
            ) from error
        reason = reason_of(error)
        if state.is_main_process:
            folder.write_failure(reason)
            log(f"{what} failed: {reason}")
        if state.num_processes > 1:
            raise  # the other ranks may have continued, and would wait for this one


def _forget_failures(path: Path) -> None:
    """Marks failed runs as not begun, except those that another process is rerunning."""
    if PartialState().is_main_process:
        for failed in path.glob("*/failure.txt"):
            with RunFolder(failed.parent).locked() as mine:
                if mine:
                    failed.unlink(missing_ok=True)


def _log_finished(comparison: Comparison, path: Path, sizes: Sizes) -> None:
    """Adds to the trackers of a folder what they lack of its finished runs."""
    if not (names := read_trackers(path)) or not PartialState().is_main_process:
        return
    for member in comparison.members(sizes.num_samples, sizes.num_ranks):
        folder = RunFolder(path / member.name)
        with suppress(ValueError):  # damaged, which is reported at the end
            if folder.path.exists() and (found := folder.record()) is not None:
                history = found[1]
                if missing := lacking(names, folder.path, len(history)):
                    with (
                        folder.locked() as mine,
                        tracking(missing if mine else (), folder.path, folder.recipe()) as log,
                    ):
                        log(history)

"""Makes the runs of a plan in a folder: one after another or by several processes, again after a stop.

Every process goes through the runs and makes those that are neither finished nor being made: a lock in each run's
folder, which the system frees when its process ends, keeps any two from making the same one. So a comparison may be
joined by any number of processes, on any machines that share the folder. A run that fails leaves the reason behind and
the others go on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from orderdp.comparison.grid import Comparison, Member, Sizes, load_comparison, with_method
from orderdp.comparison.table import Row, lines, rows, spent_s
from orderdp.data.datasets import DataSets, ImageFiles, load_dataset
from orderdp.output.files import make_new, write_whole
from orderdp.output.text_table import as_markdown
from orderdp.strategies.registry import to_table
from orderdp.training.check import check_recipe
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder, alone_in
from orderdp.training.steps import total_steps

Tell = Callable[[str], None]


class Outcome(NamedTuple):
    """What a comparison has come to.

    Args:
        table: a row for each label, over the seeds that are finished.
        finished: label to its finished runs.
        results: label to what they ended with.
        failed: label and seed of each run that failed, and the reason.
        damaged: label and seed of each finished run whose files are not whole, and what to do.
        open: label and seed of each run that is neither finished nor failed: another process is making it, or the run
            whose steps it takes did not end.
        at_work: those of them that another process is making.
    """

    table: list[Row]
    finished: dict[str, list[RunFolder]]
    results: dict[str, list[dict[str, Any]]]
    failed: dict[str, str]
    damaged: dict[str, str]
    open: list[str]
    at_work: list[str]


def start(
    plan: Comparison, path: Path, *, processes: int = 1, show: bool = True, tell: Tell = lambda line: None
) -> Outcome:
    """Makes the folder, makes all runs of the plan in it and returns what came out.

    Args:
        plan: the runs.
        path: folder to make.
        processes: how many make runs at the same time.
        show: show progress bars, where standard error is a terminal.
        tell: is called with a line as each run begins, ends or fails.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed.
        ValueError, OSError: settings that fit neither the data nor the machine, before anything is written.
    """
    sizes = check(plan, processes=processes)
    path = begin(sharing_threads(plan, processes), path, sizes)
    return make([path], processes=processes, show=show, tell=tell)[0]


def check(plan: Comparison, *, processes: int = 1) -> Sizes:
    """Checks the plan against the data and the machine, and returns how much data there is. Writes nothing.

    Raises:
        ValueError, OSError: settings that fit neither the data nor the machine.
    """
    state = PartialState(cpu=plan.recipe.device == "cpu")  # first: the number of steps depends on that of the ranks
    _check_processes(processes, state)
    data = _load(plan.recipe)
    sizes = Sizes(len(data.train), len(data.test), state.num_processes)
    for member in plan.members(sizes.num_samples, sizes.num_ranks):
        check_recipe(member.recipe, sizes.num_samples, sizes.num_ranks, in_files=isinstance(data.train, ImageFiles))
    return sizes


def _check_steps(plan: Comparison, sizes: Sizes) -> None:
    """Raises ValueError unless every run of a plan has a step to make."""
    for member in plan.members(sizes.num_samples, sizes.num_ranks):
        total_steps(member.recipe, sizes.num_samples, sizes.num_ranks)


def begin(plan: Comparison, path: Path, sizes: Sizes) -> Path:
    """Makes the folder of a plan that was checked, and returns it by the name that all ranks share.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed.
    """
    path = new_folder(path)
    if PartialState().is_main_process:
        plan.write(path, sizes)
    PartialState().wait_for_everyone()
    return path


def new_folder(path: Path) -> Path:
    """Makes a folder, once for all ranks, and returns it by the name that the main process gives it.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed.
    """
    path = Path(broadcast_object_list([str(path)])[0])  # a name made of the time may differ between ranks
    if PartialState().is_main_process:
        make_new(path)
    return path


def make(paths: list[Path], *, processes: int = 1, show: bool = True, tell: Tell = lambda line: None) -> list[Outcome]:
    """Makes the runs in these folders that are not finished, and returns what came out of each folder.

    Finished runs are kept, a broken one continues where it was, one that failed is tried again.

    Raises:
        ValueError: a folder without a plan, or with runs of another recipe than the plan's.
    """
    plans = [load_comparison(path)[0] for path in paths]
    _check_processes(processes, PartialState(cpu=plans[0].recipe.device == "cpu"))
    for path in paths:
        _forget_failures(path)
    with _helpers(processes - 1, paths):
        _work(paths, show=show and processes == 1, tell=tell)
    if processes > 1:
        _work(paths, show=show, tell=tell)  # what a helper left that was killed
    return [_finish(path) for path in paths]


def amend(
    path: Path,
    *,
    seeds: Sequence[int] = (),
    methods: Sequence[Mapping[str, Any]] = (),
    data_root: str | None = None,
) -> None:
    """Adds to the plan of a folder, or says where its data lies now; the runs that are there stay as they are.

    Args:
        path: the folder.
        seeds: those to have runs of; the ones that the plan has already make no difference.
        methods: keys of a recipe that make a method, likewise.
        data_root: folder that holds the data; None leaves the plan's.

    Raises:
        ValueError: no plan in the folder, seeds or methods that the recipe refuses, or other data there.
        OSError: no data there.
    """
    if PartialState().is_main_process:
        with alone_in(path):
            plan, sizes = load_comparison(path)
            more = [plan.recipe.model_copy(update={"seed": seed}).seed for seed in dict.fromkeys(seeds)]
            changes = {} if data_root is None else {"data_root": data_root}
            labels = {recipe.label for recipe in plan.pruned()}
            added = [method for method in methods if with_method(plan.recipe, method).label not in labels]
            changed = replace(
                plan,
                recipe=plan.recipe.model_copy(update=changes),
                methods=(*(plan.methods or [to_table(plan.recipe.strategy, epochs=plan.recipe.epochs)]), *added)
                if added
                else plan.methods,
                seeds=(*plan.seeds, *(seed for seed in more if seed not in plan.seeds)),
            )
            if data_root is not None:
                _load_checked(changed.recipe, sizes, path)
            _check_steps(changed, sizes)
            if changed != plan:
                changed.write(path, sizes)
    PartialState().wait_for_everyone()


@contextmanager
def _helpers(count: int, paths: list[Path]) -> Iterator[None]:
    """Has other processes work on the folders too, and waits for them; ends them where this one is stopped."""
    context, children = multiprocessing.get_context("spawn"), []
    try:
        for _ in range(count):
            child = context.Process(
                target=_as_helper, args=(paths,)
            )  # no daemon, which could not read by worker processes
            with _no_interrupts():  # the child inherits that, for good: Ctrl-C ends it through this process
                child.start()
                children.append(child)
        yield
        for child in children:
            child.join()
    finally:
        for child in children:
            child.terminate()
            child.join()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where signals may not be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _as_helper(paths: list[Path]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _help(paths)


def _help(paths: list[Path]) -> None:
    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    try:
        _work(paths, show=False, tell=tell)
    except Exception as error:
        tell(f"a process stopped before its time: {_reason(error)}")  # the one that started it makes what is left


def _end_with_parent() -> None:
    """Ends this process once the one that started it is gone, however it ended; its run goes on when it is resumed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _check_processes(processes: int, state: PartialState) -> None:
    whole = isinstance(processes, int) and processes >= 1
    if not whole or (processes > 1 and state.num_processes > 1):
        raise ValueError(
            f"processes must be a whole number from 1, and 1 under several ranks, got {processes}; write --processes 1"
        )


def sharing_threads(plan: Comparison, processes: int) -> Comparison:
    """Returns the plan with the machine's threads divided between so many processes, unless it says how many to use."""
    if plan.recipe.num_threads is not None or processes == 1:
        return plan
    each = max(1, (os.cpu_count() or 1) // processes)
    return replace(plan, recipe=plan.recipe.model_copy(update={"num_threads": each}))


def _work(paths: list[Path], *, show: bool, tell: Tell) -> None:
    """Makes runs until none is left that this process can make."""
    for path in paths:
        plan, sizes = load_comparison(path)
        state = PartialState(cpu=plan.recipe.device == "cpu")
        if state.num_processes != sizes.num_ranks:
            raise ValueError(
                f"the runs in {path} must be made on the {sizes.num_ranks} rank(s) that they were begun on, "
                f"got {state.num_processes}; start as many processes"
            )
        data = _load_checked(plan.recipe, sizes, path)
        members = plan.members(sizes.num_samples, sizes.num_ranks)
        made = True
        while made:  # a run may wait for another to end, whose steps it takes
            made = False
            for number, member in enumerate(members, 1):
                folder = RunFolder(path / member.name)
                with _claimed(member, folder, sizes) as recipe:
                    if recipe is not None:
                        made = True
                        what = f"[{number}/{len(members)}] {member.label}, seed {member.recipe.seed}"
                        if state.is_main_process:
                            tell(what)
                        _make_one(recipe, data, folder, what=what, show=show, tell=tell)


@contextmanager
def _claimed(member: Member, folder: RunFolder, sizes: Sizes) -> Iterator[Recipe | None]:
    """Gives the recipe of a run that this process is to make, and holds it; None where there is nothing to do."""
    with ExitStack() as stack:
        recipe = None
        if PartialState().is_main_process:  # the others follow: what lies in the folder may change in between
            recipe = planned_recipe(member, folder, sizes)
            if (
                recipe is None
                or not _is_open(folder)
                or not stack.enter_context(folder.locked())
                or not _is_open(folder)  # it may have been finished between the look and the lock
            ):
                recipe = None
        yield broadcast_object_list([recipe])[0]


def _is_open(folder: RunFolder) -> bool:
    """Tells whether a run is still to be made; one with a damaged result is not, and is told of at the end."""
    try:
        return folder.is_open()
    except ValueError:
        return False


def _make_one(recipe: Recipe, data: DataSets, folder: RunFolder, *, what: str, show: bool, tell: Tell) -> None:
    state = PartialState()
    if state.is_main_process:
        folder.begin(recipe)
    state.wait_for_everyone()
    try:
        result = Run(recipe, data, folder, show=show).train()
        if state.is_main_process:
            tell(f"{what}: {result['accuracy_last']:.2f} % after {spent_s(result):.0f} s")
    except Exception as error:
        reason = _reason(error)
        if state.is_main_process:
            folder.write_failure(reason)
            tell(f"{what} failed: {reason}")
        if state.num_processes > 1:
            raise  # the other ranks may have come through, and would wait for this one


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def planned_recipe(member: Member, folder: RunFolder, sizes: Sizes) -> Recipe | None:
    """Returns the member's recipe, None while it is not known.

    Raises:
        ValueError: the folder holds a run of another.
    """
    recipe = member.recipe_in(folder.path.parent, sizes.num_samples, sizes.num_ranks)
    if recipe is None or not (folder.path / "recipe.toml").exists():
        return recipe
    elsewhere = {"data_root", "download"}  # where the data lies is not what it is
    there, planned = folder.recipe().model_dump(exclude=elsewhere), recipe.model_dump(exclude=elsewhere)
    for name, value in planned.items():
        if there[name] != value:
            raise ValueError(
                f"all runs of a folder must be of its plan, got {folder.path} with {name} {there[name]!r} where the "
                f"plan has {value!r}; move that run elsewhere, and go on with --resume {folder.path.parent}"
            )
    return recipe


def outcome(path: Path) -> Outcome:
    """Returns what the comparison in a folder has come to so far.

    Raises:
        ValueError: a folder without a plan, or with runs of another recipe than the plan's.
    """
    plan, sizes = load_comparison(path)
    finished: dict[str, list[RunFolder]] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    damaged: dict[str, str] = {}
    left: list[str] = []
    at_work: list[str] = []
    for member in plan.members(sizes.num_samples, sizes.num_ranks):
        folder = RunFolder(path / member.name)
        name = f"{member.label}, seed {member.recipe.seed}"
        planned_recipe(member, folder, sizes)
        try:
            record = folder.record()
        except ValueError as error:
            damaged[name] = str(error)
            continue
        if record is not None:
            finished.setdefault(member.label, []).append(folder)
            results.setdefault(member.label, []).append(record[0])
        elif (reason := folder.failure()) is not None:
            failed[name] = reason
        else:
            left.append(name)
            if folder.path.exists() and folder.is_held():
                at_work.append(name)
    return Outcome(rows(results), finished, results, failed, damaged, left, at_work)


def _forget_failures(path: Path) -> None:
    """Makes failed runs count as not begun, but for those that another process is making anew."""
    if PartialState().is_main_process:
        for failed in path.glob("*/failure.txt"):
            with RunFolder(failed.parent).locked() as mine:
                if mine:
                    failed.unlink(missing_ok=True)


def _finish(path: Path) -> Outcome:
    """Writes the table of a folder and returns what came out."""
    state = PartialState()
    state.wait_for_everyone()  # the main process writes the results
    if state.is_main_process:
        with alone_in(path):  # from the look on: who looks last writes last
            found = outcome(path)
            if found.finished:
                runs = [result for results in found.results.values() for result in results]
                summary = {"rows": [asdict(row) for row in found.table], "runs": runs, "failed": found.failed}
                write_whole(path / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
                write_whole(path / "table.md", as_markdown(lines(found.table)).encode())
    state.wait_for_everyone()
    return outcome(path)


def _load(recipe: Recipe) -> DataSets:
    return load_dataset(
        recipe.dataset,
        data_root=None if recipe.data_root is None else Path(recipe.data_root),
        train_size=recipe.train_size,
        image_size=recipe.image_size,
        download=recipe.download,
    )


def _load_checked(recipe: Recipe, sizes: Sizes, path: Path) -> DataSets:
    """Returns the data, which must have the sizes of the data that the runs in the folder are of."""
    data = _load(recipe)
    if (len(data.train), len(data.test)) != (sizes.num_samples, sizes.num_test_samples):
        raise ValueError(
            f"the data must be that of the runs in {path}, {sizes.num_samples} and {sizes.num_test_samples} "
            f"samples, got {len(data.train)} and {len(data.test)}; write the data_root that they were begun with"
        )
    return data

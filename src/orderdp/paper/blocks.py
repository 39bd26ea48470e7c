"""The paper's studies at one size, in blocks: which are finished, which comes next, and running them within a time.

A block is all runs of one task and one seed, since they are compared with each other. A block that was begun is
finished before another begins. All blocks of the first seeds come before those of the second, the cheap ones first. So
every study has something to show early. A study without a file is one block, and so is a search, which plans its runs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orderdp.comparison import workers
from orderdp.comparison.budget import Budget, whole_s
from orderdp.comparison.checks import LoadedData
from orderdp.comparison.engines.base import Log
from orderdp.comparison.grid import load_comparison
from orderdp.comparison.planned import FILE, read_planned
from orderdp.comparison.records import Missing, read_folder
from orderdp.comparison.results import results_of
from orderdp.comparison.searched import trails_of
from orderdp.comparison.taken import take_over
from orderdp.data.registry import DATASETS, PLACE
from orderdp.output.custom import reason_of
from orderdp.output.files import new_folder
from orderdp.output.suggestions import did_you_mean
from orderdp.paper.contents import Kind, places
from orderdp.paper.failures import Failure, read_failures, write_failures
from orderdp.paper.sources import Found, covers, has_all_methods, other_plan
from orderdp.paper.studies import LOOP_SIZES, LOOPS, Row, find_study, run_computed
from orderdp.paper.study import Study, create_part, load_study
from orderdp.paper.study_file import SIZES, read_study
from orderdp.paper.subsets import add_seeds, choose_subsets, has_subsets
from orderdp.report.outline import load_outline
from orderdp.training.run_folder import claimed

_SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "core-hours": 3_600}


@dataclass(frozen=True, eq=False)
class Block:
    """Runs that are made in one go.

    Args:
        row: the study.
        folder: of the study.
        round: blocks of a lower round come first.
        stated_s: how long it is said to take on one core; None if nobody has said.
        study: all of the study at its size; None for one without a file.
        part: name of the task; "" without a file.
        seed: its seed; None without a file, or for a search.
        options: of `run_computed`, without a file.
    """

    row: Row
    folder: Path
    round: int = 0
    stated_s: float | None = None
    study: Study | None = None
    part: str = ""
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a reader calls it, such as "table2, cifar10, seed 0"."""
        return ", ".join(
            [self.row.name, *([self.part] if self.part else []), *([] if self.seed is None else [f"seed {self.seed}"])]
        )

    @property
    def path(self) -> Path:
        """The folder of its comparison."""
        return self.folder / self.part


@dataclass(frozen=True)
class State:
    """How far a block is.

    Args:
        done: whether nothing of it is left.
        begun: whether a run of it was begun.
        expected_s: how long the rest will take in one process; None if nobody knows.
        runs: how many runs it has, as far as known.
    """

    done: bool
    begun: bool
    expected_s: float | None
    runs: int = 0


def check_size(size: str) -> None:
    """Raises ValueError unless studies have this size."""
    if size not in SIZES:
        hint = did_you_mean(size, SIZES) or f"; choose from {', '.join(SIZES)}"
        raise ValueError(f"no size named {size!r}{hint}")


def check_hours(hours: float) -> None:
    """Raises ValueError unless this is a time to train in."""
    if isinstance(hours, str) or not 0 < hours < math.inf:
        raise ValueError(
            f"hours must be a finite number above 0, got {hours}; write 10, or leave it out to train nothing"
        )


def blocks_of(size: str, folder: Path, studies: Sequence[str] | None = None, **changes: Any) -> list[Block]:
    """Returns all blocks at one size: of the paper's studies, in its order, then of what it leaves open.

    Args:
        size: one of the sizes of studies; a study without it has no block.
        folder: holds a folder for each study.
        studies: which of them; None for all.
        **changes: as of `load_study`.

    Raises:
        ValueError: settings that the recipes refuse, or a study that is not there.
    """
    blocks: list[Block] = []
    for name in studies or ():
        find_study(name)
    for place in places():
        row = place.row
        if row is None or place.kind is Kind.OWN or not (studies is None or row.name in studies):
            continue
        if row in LOOPS and size not in LOOP_SIZES:
            continue
        if row.file is None:
            options = _of_computed(row, size, changes)
            stated_s = seconds_in(row.stated(options.get("size", "full")))
            blocks.append(Block(row, folder / row.name, stated_s=stated_s, options=options))
        elif size in (table := read_study(row.file)):
            study = load_study(row.file, size, **changes)
            blocks += _of_study(row, study, folder / row.name, seconds_in(table.get("takes", {}).get(size, "")))
    if lacking := [name for name in studies or () if name not in {block.row.name for block in blocks}]:
        raise ValueError(
            f"studies must be of the paper or what it leaves open, with size {size}, got {', '.join(lacking)}; "
            f"write 'orderdp study {lacking[0]}'"
        )
    return blocks


def _of_computed(row: Row, size: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a study without a file: its size, if it has any, and where its data are."""
    if size == SIZES[0] and row.smoke:
        return {"size": size}
    if row not in LOOPS:
        return {}
    place = () if DATASETS[row.dataset].is_installed() else PLACE
    return {"size": size, **{name: changes[name] for name in place if name in changes}}


def seconds_in(duration: str) -> float | None:
    """Returns the seconds of a duration as studies state it; None if it states none.

    >>> seconds_in("1.5 h"), seconds_in("")
    (5400.0, None)
    """
    found = re.match(r"([\d.]+) (s|min|h|d|core-hours)\b", duration)
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def _of_study(row: Row, study: Study, folder: Path, takes_s: float | None) -> Iterator[Block]:
    seeds = sum(1 if part.lossless else len(part.seeds) for part in study.parts.values())
    stated = None if takes_s is None else takes_s / seeds
    for name, part in study.parts.items():
        if part.lossless is not None:  # it begins with all its first seeds
            yield Block(row, folder, len(part.seeds) - 1, stated, study, name)
            continue
        for position, seed in enumerate(part.seeds):
            yield Block(row, folder, position, stated, study, name, seed)


def state_of(block: Block, archived: Found | None = None) -> State:
    """Returns how far a block is, in its folder and in archives.

    A block whose folder is damaged or holds something else is not done, and is refused when its turn comes.
    """
    with suppress(ValueError):
        return _state_in(block, archived)
    return State(done=False, begun=False, expected_s=0.0)


def _state_in(block: Block, archived: Found | None) -> State:
    if block.study is None:
        done = any(block.path.glob("*.csv")) or (archived is not None and block.row.name in archived.computed)
        return State(done, begun=False, expected_s=block.stated_s)
    if archived is not None and _is_archived(block, archived):
        return State(done=True, begun=True, expected_s=0.0)
    if not block.path.exists():
        return State(done=False, begun=False, expected_s=block.stated_s)
    records = read_folder(block.path)
    plan = block.study.parts[block.part]
    if other_plan(plan, records.planned):
        return State(done=False, begun=False, expected_s=0.0)  # to be refused
    finished = {name: found for name, found in records.runs.items() if not isinstance(found, Missing)}
    mine = [run for run in records.planned.runs if block.seed in (None, run.seed)]
    left = [run for run in mine if run.name not in finished]
    begun = any((block.path / run.name).exists() for run in mine)
    done = not left and _has_head(block)
    if block.seed is None:
        done = done and all(trail.asks is None for trail in trails_of(results_of(records)).values())
        return State(done, begun, block.stated_s, len(mine))
    done = done and bool(mine) and has_all_methods(plan, records.planned) and _has_its_subsets(block)
    if not finished:
        return State(done, begun, block.stated_s, len(mine))
    mean = sum(whole_s(found.result) for found in finished.values()) / len(finished)
    runs = len(records.planned.runs) // len(records.planned.seeds)
    expected_s = mean * (len(left) if mine else runs)
    if block.part in block.study.subsets and not begun:  # whose proxies were not counted
        expected_s = max(expected_s, block.stated_s or 0.0)
    return State(done, begun, expected_s, len(mine) or runs)


def _has_head(block: Block) -> bool:
    """Returns whether the head of a study is whole and names the task; else nothing reads its runs."""
    try:
        return block.part in load_outline(block.folder)[1]
    except ValueError:
        return False


def _has_its_subsets(block: Block) -> bool:
    """Returns whether the static methods of a task are in its comparison, if it has any."""
    if not has_subsets(block.path):
        return True
    assert block.study is not None
    comparison = load_comparison(block.path)[0]
    return len(comparison.methods) > len(block.study.parts[block.part].methods)


def _is_archived(block: Block, archived: Found) -> bool:
    assert block.study is not None
    sources = archived.tasks.get(block.row.name, {}).get(block.part, ())
    plan = block.study.subsets.get(block.part)
    labels = () if plan is None else plan.labels().values()
    return covers(sources, block.study.parts[block.part], labels, block.seed or 0)


def next_block(states: Sequence[tuple[Block, State]], left_s: float, processes: int = 1) -> tuple[Block, bool] | None:
    """Returns the block to run next and whether it is expected to end in time; None if none is left.

    A block that was begun comes first. If no other one fits the time that is left, the first of them is named all the
    same: as many of its runs are made as fit. Not so a block with proxies to train, which must be whole.
    """

    def order(each: tuple[Block, State]) -> tuple[bool, int, float]:
        block, state = each
        return not state.begun, block.round, math.inf if state.expected_s is None else state.expected_s

    open_ones = sorted(((block, state) for block, state in states if not state.done), key=order)
    for block, state in open_ones:
        if state.expected_s is None or state.expected_s / processes <= left_s:
            return block, True
        if state.begun:
            return block, False
    of_runs = [block for block, _ in open_ones if block.study is not None and not _needs_proxies(block)]
    return (of_runs[0], False) if of_runs else None


def _needs_proxies(block: Block) -> bool:
    return block.study is not None and block.part in block.study.subsets


def run(
    blocks: Sequence[Block],
    folder: Path,
    *,
    hours: float,
    processes: int = 1,
    archived: Found | None = None,
    log: Log,
) -> dict[str, str]:
    """Runs the blocks that are not finished, until the time is over, and returns what went wrong, by block.

    A block is tried once. No run begins that is not expected to end in time. A stopped call leaves everything so that
    the next one continues. What went wrong is also kept in the folder, for the page, until the block is tried again.

    Args:
        blocks: of the studies.
        folder: of all of them.
        hours: wall time.
        processes: how many runs train at the same time.
        archived: results that need not be made again.
        log: called with one line as each block and each run begins and ends.

    Raises:
        ValueError: hours out of range, or another call is at work in the folder.
        OSError: the folder cannot be written.
    """
    check_hours(hours)
    budget = Budget(time.time() + 3600 * hours)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / "lock") as mine:
        if not mine:
            raise ValueError(
                f"only one call may work in a folder, got {folder}, in which another one does; wait for it, or write "
                "another --run"
            )
        return _run(blocks, folder, budget, processes, archived, log)


def _run(
    blocks: Sequence[Block], folder: Path, budget: Budget, processes: int, archived: Found | None, log: Log
) -> dict[str, str]:
    tried: set[str] = set()
    wrong: dict[str, str] = {}
    failures = read_failures(folder)
    while budget.left_s() > 0:
        states = [(block, state_of(block, archived)) for block in blocks if block.name not in tried]
        done = {block.name for block, state in states if state.done}
        failures = [each for each in failures if each.block not in done]
        found = next_block(states, budget.left_s(), processes)
        if found is None:
            break
        block, fits = found
        short = "" if fits else ", too few for all, so only runs that fit begin"
        log(f"{block.name}: {_said(dict(states)[block], processes)}; {budget.left_s() / 3600:.2f} hours left{short}")
        tried.add(block.name)
        failed: dict[str, str] = {}
        try:
            failed = _make(block, folder, budget, processes, log)
        except (ValueError, OSError, ImportError, RuntimeError, ArithmeticError) as error:
            failed[block.name] = reason_of(error)
            log(f"{block.name} failed: {failed[block.name]}")
        wrong.update(failed)
        failures = [each for each in failures if each.block != block.name]
        failures += [Failure(block.row.name, block.part, block.name, *each) for each in failed.items()]
        write_failures(folder, failures)
        if not fits:  # the rest of the time is too short for any other
            break
    write_failures(folder, failures)
    return wrong


def _said(state: State, processes: int) -> str:
    runs = f"{state.runs} runs, " if state.runs else ""
    if state.expected_s is None:
        return f"{runs}nobody knows how long"
    return f"{runs}about {state.expected_s / processes / 60:.1f} minutes"


def _make(block: Block, folder: Path, budget: Budget, processes: int, log: Log) -> dict[str, str]:
    """Runs a block, as far as the time allows, and returns the runs that failed.

    Runs that other studies in the folder have made are not made again.
    """
    if block.study is None:
        with suppress(OSError):
            block.path.rmdir()  # only an empty one, which holds no result
        with new_folder(block.path) as unfinished:
            run_computed(block.row, unfinished, **block.options)
        return {}
    data = LoadedData()  # of this block alone, so that the data of all studies is not held at once
    create_part(_of_first_seeds(block.study), block.part, block.folder, processes=processes, data=data)
    plan = block.study.parts[block.part]
    if other := other_plan(plan, read_planned(block.path)):
        raise ValueError(
            f"the runs in a folder must be those of the study as it is now, got {block.path} with {other}; move it "
            "elsewhere, or write another --run"
        )
    _move_data(block, data)
    if plan.lossless is None:
        workers.extend(block.path, methods=plan.methods, budgets=plan.budgets, data=data)
    if has_subsets(block.path):
        add_seeds(block.path, [] if block.seed is None else [block.seed])
        choose_subsets([block.path], processes=processes, log=log, data=data)
    elif block.seed is not None:
        workers.extend(block.path, seeds=[block.seed], data=data)
    if plan.lossless is None:
        for title, there in take_over(block.path, [file.parent for file in folder.glob(f"*/*/{FILE}")]):
            log(f"{title}: taken over from {there.relative_to(folder)}")
    runs = max(1, state_of(block).runs)
    of_run = replace(budget, stated_s=(block.stated_s or 0.0) / runs)
    (outcome,) = workers.resume([block.path], processes=processes, log=log, data=data, budget=of_run)
    missing: dict[str, str] = {**outcome.failed, **outcome.damaged}
    return {f"{block.row.name}, {block.part}, {run}": why for run, why in missing.items()}


def _move_data(block: Block, data: LoadedData) -> None:
    """Records where the data of a task is now, if this call names another folder than the one before."""
    assert block.study is not None
    root = block.study.parts[block.part].recipe.data_root
    if root is not None and root != load_comparison(block.path)[0].recipe.data_root:
        workers.extend(block.path, data_root=root, data=data)


def _of_first_seeds(study: Study) -> Study:
    """Returns a study with the first seed of each task; a search keeps those it begins with."""
    parts = {name: part if part.lossless else replace(part, seeds=part.seeds[:1]) for name, part in study.parts.items()}
    subsets = {name: replace(plan, seeds=plan.seeds[:1]) for name, plan in study.subsets.items()}
    return replace(study, parts=parts, subsets=subsets)

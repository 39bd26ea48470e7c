"""Scores a data set by static methods and chooses subsets, for one seed or several.

Each method of each seed is a task. Finished tasks are kept, so a stop costs one at most. Several processes may work in
a folder: a task has a lock, so no two of them do the same.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from filelock import Timeout

from orderdp.coresets import Evidence, Scorer, StaticMethod
from orderdp.coresets.base import Work
from orderdp.coresets.evidence import Floats
from orderdp.coresets.quotas import class_sizes
from orderdp.data.base import DataSets
from orderdp.output.files import new_folder, write_whole
from orderdp.output.subset_file import Kept, read_about, read_method, read_scores, write_scores, write_subsets
from orderdp.theory.sizes import default_sizes
from orderdp.training.coreset_plan import QUOTAS, CoresetPlan, Request
from orderdp.training.provenance import commit, environment
from orderdp.training.proxy import Proxy
from orderdp.training.run_folder import alone_in, claimed

SCORES, SUBSETS = "scores.parquet", "subsets.parquet"
Log = Callable[[str], None]
_POLL_S = 0.5


@dataclass(frozen=True, eq=False)
class Coresets:
    """What a folder of `orderdp coreset` holds.

    Args:
        scores: key of each method that scores to (n,) float64; NaN where a sample was held out.
        subsets: key of each method to its subset at each prune ratio.
        labels: key of each method to its name in tables.
        num_samples: size of the data set.
        between_proxies: key of each method that scores to the mean rank correlation of its scores by two proxies; empty
            with one proxy.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    subsets: dict[str, dict[float, Kept]]
    labels: dict[str, str]
    num_samples: int
    between_proxies: dict[str, float] = field(default_factory=dict)


def start(plan: CoresetPlan, data: DataSets, folder: Path, *, show: bool = True, log: Log = lambda _: None) -> Coresets:
    """Creates a folder, scores the data set there, and returns scores and subsets.

    Args:
        plan: what to do.
        data: the data set that the plan's recipe names.
        folder: the new folder.
        show: show progress bars, if standard error is a terminal.
        log: called with one line as each method ends.

    Raises:
        FileExistsError: the folder exists; nothing in it is changed.
        ValueError, OSError: a plan that does not fit the data or the machine; nothing is written.
    """
    plan = replace(plan, data_sha256=data.sha256)
    check(plan, data)
    with new_folder(folder, flag="--output") as made:
        plan.write(made)
    return resume(plan, data, folder, show=show, log=log)


def resume(
    plan: CoresetPlan, data: DataSets, folder: Path, *, show: bool = True, log: Log = lambda _: None
) -> Coresets:
    """Does what is not done in a folder, and returns scores and subsets. Finished methods and proxies are kept.

    Raises:
        ValueError: a plan that does not fit the data or the machine.
        OSError: a file cannot be written. FloatingPointError: the loss of a proxy is not finite.
    """
    check(plan, data)
    work(plan, data, folder, show=show, log=log)
    join(plan, data, folder)
    return load(folder)


def work(plan: CoresetPlan, data: DataSets, folder: Path, *, show: bool = True, log: Log = lambda _: None) -> None:
    """Does the tasks of a folder that are not done, and waits for those of other processes.

    Raises:
        OSError: a file cannot be written. FloatingPointError: the loss of a proxy is not finite.
    """
    commit()  # asked now: the environment is written when all is done
    tasks = _tasks(plan, folder)
    while any(not task.file.exists() for task in tasks) and not is_finished(plan, folder):
        worked = False
        for number, task in enumerate(tasks, 1):
            with claimed(task.file.with_suffix(".lock")) as mine:
                if not mine or task.file.exists() or is_finished(plan, folder):
                    continue
                try:
                    _train_proxies(task, plan, data, show=show, log=log)
                    began_s = time.perf_counter()
                    found = _carried_out(task.request, task.seed, plan, data, folder, show)
                except (Timeout, _ScoresMissingError):  # another process is at work on a proxy or on the scores
                    continue
                _write_part(task.file, found)
                worked = True
                of = f", seed {task.seed}" if len(plan.seeds) > 1 else ""
                took_s = time.perf_counter() - began_s
                log(f"[{number}/{len(tasks)}] {plan.labels()[task.request.key]}{of}: {took_s:.1f} s")
        if not worked:
            time.sleep(_POLL_S)


def open_tasks(plan: CoresetPlan, folder: Path) -> list[Path]:
    """Returns the file that each task will write which is not done."""
    return [task.file for task in _tasks(plan, folder) if not task.file.exists()]


def _tasks(plan: CoresetPlan, folder: Path) -> list[_Task]:
    """Returns the tasks of the seeds whose subsets are not written, the first to do first."""
    seeds = [seed for seed in plan.seeds if seed not in _seeds_in(folder)]
    pairs = [(request, seed) for request in plan.in_order() for seed in seeds]
    return [_Task(request, seed, _part_of(folder, request.key, seed)) for request, seed in pairs]


def _train_proxies(task: _Task, plan: CoresetPlan, data: DataSets, *, show: bool, log: Log) -> None:
    """Trains the proxies of a task that are not trained, and logs how long each takes."""
    if not task.request.needs_proxy:
        return
    proxies = _proxies(task.request, task.seed, plan, data, show=show)
    for number, proxy in enumerate(proxies, 1):
        began_s = time.perf_counter()
        if proxy.train():
            which = f"proxy {number} of {len(proxies)}" if len(proxies) > 1 else "proxy"
            of = f", seed {task.seed}" if len(plan.seeds) > 1 else ""
            log(f"{which}{of}: {time.perf_counter() - began_s:.1f} s")


def join(plan: CoresetPlan, data: DataSets, folder: Path) -> None:
    """Writes the files of a folder whose tasks are done, and removes what they are made of.

    Raises:
        OSError: a file cannot be written.
    """
    with alone_in(folder):
        if not is_finished(plan, folder):
            _join(plan, data, folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)


def is_finished(plan: CoresetPlan, folder: Path) -> bool:
    """Returns whether a folder holds the scores and subsets of all seeds."""
    return set(plan.seeds) <= set(_seeds_in(folder))


def _seeds_in(folder: Path) -> list[int]:
    """Returns the seeds whose scores and subsets are written."""
    seeds: list[int] = read_about(folder / SUBSETS)["seeds"] if (folder / SUBSETS).exists() else []
    return seeds


class _Task(NamedTuple):
    request: Request
    seed: int
    file: Path


def _part_of(folder: Path, key: str, seed: int) -> Path:
    return folder / "parts" / f"{key}-seed{seed}.npz"


class _ScoresMissingError(Exception):
    """The scores that a method chooses by are not there yet."""


def load(folder: Path, seed: int | None = None) -> Coresets:
    """Returns scores and subsets of a finished folder.

    Args:
        folder: the folder.
        seed: of the scores and subsets; None for the first.

    Raises:
        ValueError: a file is missing or damaged.
    """
    about = read_about(folder / SUBSETS)
    seed = about["seeds"][0] if seed is None else seed
    rows = about["methods"].items()
    subsets = {key: read_method(folder / SUBSETS, key).kept[seed] for key, _ in rows}
    labels = {key: str(row["label"]) for key, row in rows}
    between = {key: row["between_proxies"][str(seed)] for key, row in rows if row["between_proxies"]}
    return Coresets(read_scores(folder / SCORES, seed), subsets, labels, about["num_samples"], between)


def check(plan: CoresetPlan, data: DataSets) -> None:
    """Raises ValueError unless a plan fits its data and the machine. Trains nothing and writes nothing."""
    if plan.data_sha256 not in ("", data.sha256):
        raise ValueError(
            "the data must be that of the first call, got other images or labels; write the data_root of the first call"
        )
    for request in plan.requests:
        proxy = _proxies(request, max(plan.seeds), plan, data, show=False)[0]
        epochs = proxy.check(set(request.method.needs) - {"scores"}, request.epoch)
        if epochs < request.method.fewest_epochs:
            name = request.method.name
            raise ValueError(
                f"{name} needs at least {request.method.fewest_epochs} epochs of the proxy, got {epochs}; write more "
                f"epochs, or a smaller {name},window=..."
            )
        labels = data.train.labels.numpy()[proxy.ids]
        for ratio in plan.prune_ratios:
            size = _size(ratio, data)
            if not 1 <= size <= len(labels):
                raise ValueError(
                    f"prune_ratio must keep 1 to {len(labels)} samples, got {ratio:g}, which keeps {size}; "
                    "write another ratio" + ("" if size < 1 else ", or a smaller validation")
                )
            quotas = QUOTAS[plan.quotas]
            if quotas is not None:
                class_sizes(labels, size, quotas)


def _proxies(request: Request, seed: int, plan: CoresetPlan, data: DataSets, *, show: bool) -> list[Proxy]:
    """Returns the proxies that a method reads, or one for its samples if it reads none."""
    share, home = plan.share_held_out(request), Path(plan.home)
    recipes = [plan.recipe_of_proxy(seed, number) for number in range(max(1, plan.num_proxies(request)))]
    return [Proxy(recipe, data, home, validation=share, show=show, wait=False) for recipe in recipes]


def _carried_out(
    request: Request,
    seed: int,
    plan: CoresetPlan,
    data: DataSets,
    folder: Path,
    show: bool,  # noqa: FBT001
) -> dict[str, npt.NDArray[Any]]:
    """Returns the scores of one method with a seed, if it scores, and its subset at each prune ratio."""
    method: StaticMethod = request.method
    proxies = _proxies(request, seed, plan, data, show=show)
    ids, device = proxies[0].ids, proxies[0].device
    if request.needs_proxy:
        runs = [proxy.evidence(set(method.needs) - {"scores"}, epoch=request.epoch) for proxy in proxies]
    else:
        runs = [Evidence(labels=data.train.labels[torch.from_numpy(ids)])]
    if request.scores is not None:
        scores = _part_of(folder, request.scores, seed)
        if not scores.exists():
            raise _ScoresMissingError
        with np.load(scores) as part:
            runs = [replace(runs[0], scores=part["scores"][ids])]
    evidence: Evidence | list[Evidence] = runs if isinstance(method, Scorer) else runs[0]
    found: dict[str, npt.NDArray[Any]] = {}
    if isinstance(method, Scorer):
        single = [method.score(run, seed=seed, device=device, show=show) for run in runs]
        found["scores"] = np.full(len(data.train), np.nan)
        found["scores"][ids] = sum(single) / len(single)  # as the method averages them
        if len(single) > 1:
            found["between_proxies"] = np.array(np.mean([rank_correlation(*pair) for pair in combinations(single, 2)]))
        if type(method).choose is Scorer.choose:  # the same choice, without the scores being computed again
            method, evidence = _Given(), Evidence(labels=runs[0].labels, scores=found["scores"][ids])
    for number, ratio in enumerate(plan.prune_ratios):
        subset = method.choose(
            evidence, _size(ratio, data), quotas=QUOTAS[plan.quotas], seed=seed, device=device, show=show
        )
        found[f"ids-{number}"] = ids[subset.indices]
        if subset.weights is not None:
            found[f"weights-{number}"] = subset.weights
    return found


@dataclass(frozen=True)
class _Given(Scorer):
    """Keeps the highest of the scores that it is given."""

    name = "given"
    label = "given"
    needs = ("scores",)

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        scores: Floats = evidence.scores
        return scores


def rank_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Returns Spearman's rank correlation of two scores; NaN where one is the same for all samples.

    Samples that one of the two did not score are left out.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.5, 9.0]))
    1.0
    """
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second)
    ranks = [rankdata(scores[both]) for scores in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1].round(12)) if all(np.ptp(values) > 0 for values in ranks) else float("nan")


def _num_trained(share_held_out: float, data: DataSets) -> int:
    return len(data.train) - round(share_held_out * len(data.train))


def _size(ratio: float, data: DataSets) -> int:
    return default_sizes(len(data.train), ratio)[1]


def _write_part(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    file.parent.mkdir(exist_ok=True)
    write_whole(file, buffer.getvalue())


def _join(plan: CoresetPlan, data: DataSets, folder: Path) -> None:
    """Writes the two Parquet files from what they hold and from the parts."""
    about = _about(plan, data)
    known = _seeds_in(folder)
    before = {seed: load(folder, seed) for seed in known}
    tables = []
    subsets: dict[str, dict[int, dict[float, Kept]]] = {request.key: {} for request in plan.requests}
    for seed in plan.seeds:
        found = before[seed] if seed in known else _of_parts(plan, folder, seed)
        ids = np.arange(len(data.train))
        rows = ids if data.rows is None else data.rows
        columns = {"seed": np.full(len(ids), seed), "sample_id": ids, "row": rows}
        tables.append({**columns, "label": data.train.labels.numpy(), **found.scores})
        for key, kept in found.subsets.items():
            subsets[key][seed] = kept
        for key, value in found.between_proxies.items():
            about["methods"][key]["between_proxies"][str(seed)] = value
    write_scores(folder / SCORES, tables, about)
    write_subsets(folder / SUBSETS, subsets, about, data.rows)


def _of_parts(plan: CoresetPlan, folder: Path, seed: int) -> Coresets:
    """Returns scores and subsets of a seed whose tasks are done."""
    found = Coresets({}, {}, plan.labels(), 0, {})
    for request in plan.requests:
        with np.load(_part_of(folder, request.key, seed)) as part:
            if "scores" in part:
                found.scores[request.key] = part["scores"]
            if "between_proxies" in part:
                found.between_proxies[request.key] = float(part["between_proxies"])
            found.subsets[request.key] = {
                ratio: Kept(part[f"ids-{number}"], part.get(f"weights-{number}"))
                for number, ratio in enumerate(plan.prune_ratios)
            }
    return found


def _about(plan: CoresetPlan, data: DataSets) -> dict[str, Any]:
    labels = plan.labels()
    methods = {
        request.key: {
            **request.table(),
            "label": labels[request.key],
            "proxies": plan.num_proxies(request),
            "proxy_samples": plan.epochs_of_proxies(request) * _num_trained(plan.share_held_out(request), data),
            "held_out": plan.share_held_out(request),
            "between_proxies": {},
            "references": list(request.method.references),
        }
        for request in plan.requests
    }
    device = torch.device("cuda" if torch.cuda.is_available() and plan.recipe.device != "cpu" else "cpu")
    return {
        "num_samples": len(data.train),
        "recipe": plan.recipe.to_toml(),
        "seeds": list(plan.seeds),
        "proxies": plan.proxies,
        "quotas": plan.quotas,
        "data_sha256": plan.data_sha256,
        "methods": methods,
        **environment(device),
    }

"""The parts of gpu.py, each of which gives what it has found so far to a function that keeps it.

What a part imports is imported in it, so one for which a package is missing fails alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from timing import interleaved, summary, verdict

if TYPE_CHECKING:
    from orderdp.data.base import DataSets
    from orderdp.training.loop import Run
    from orderdp.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
MARGIN = 0.01
NUM_TRAIN, NUM_TRAIN_SMOKE = 50_000, 512
ROUNDS, ROUNDS_SMOKE = 15, 1
NOISE_LR = 1e-3  # at which random labels cannot make the loss diverge
READ_ALONE = (128, 1024)  # samples in a batch
SPARED_S = 20.0  # of the part update, for an epoch of the trainer
WAITED = "called a synchronizing CUDA operation"  # what torch warns of
TARGET_WAITS = 10  # of an epoch of hundreds of steps: it begins and ends with some

Keep: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Settings:
    """What a part is told.

    Args:
        device: "cuda" or "cpu".
        smoke: take the smallest form.
        compile: compile the model.
        data_root: folder that holds cifar-10-batches-py; None if there is none.
        folder: for the files of runs; it is removed after the part.
        deadline: `time.monotonic()` at which the part is stopped.
    """

    device: str
    smoke: bool
    compile: bool
    data_root: str | None
    folder: Path
    deadline: float

    def left_s(self) -> float:
        """Returns the seconds until the part is stopped."""
        return self.deadline - time.monotonic()


def gpu_tests(settings: Settings, keep: Keep) -> None:
    """Runs the tests that need a GPU; without one they are skipped."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    options = ["-v", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider"]
    # What another version of a library deprecates is no error here.
    options += ["-W", "default::DeprecationWarning", "-W", "default::FutureWarning"]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    log = settings.folder / "tests.txt"  # no pipe: a process that a test has started may keep it open
    with log.open("w") as out:
        tests = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            tests.wait(max(1.0, settings.left_s() - 5))
            ended = f"exit code {tests.returncode}"
        except subprocess.TimeoutExpired:
            tests.kill()
            tests.wait()
            ended = "stopped at the limit of its time"
    lines = log.read_text().strip().splitlines() or ["no output"]
    last = lines[-1].strip("= ")
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", last.partition(" in ")[0])}
    found = {"summary": last, "counts": counts, "ended": ended}
    print(last, flush=True)
    passed = tests.returncode == 0 and ("passed" in counts or settings.device == "cpu")
    keep(found if passed else {**found, "output": lines[-80:]})
    if not passed:
        raise RuntimeError(f"{ended}: {last}")


def update_costs(settings: Settings, keep: Keep) -> None:
    """Measures `Pruner.update`; each batch size with ids on the host and on the device. Then waits of the trainer."""
    import update

    torch.set_num_threads(1)
    device = torch.device(settings.device)
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {"unit": "s", "target_kernels": update.TARGET_KERNELS, "rows": rows}
    sizes = (128,) if settings.smoke else (128, 32, 1024, 8192)
    for batch_size, ids_on in product(sizes, dict.fromkeys(("cpu", settings.device))):
        if rows and settings.left_s() < SPARED_S:
            break
        try:
            rows.append(update.measure(NUM_TRAIN, batch_size, device, ids_on))
        except RuntimeError as error:  # it waited for the device, or no kernel was seen
            rows.append({"n": NUM_TRAIN, "batch_size": batch_size, "ids_on": ids_on, "error": str(error)[:500]})
        else:
            update.show(rows[-1])
        if device.type == "cuda" and "error" not in rows[-1]:
            rows[-1]["waits"] = False  # it would have raised
            print(verdict(f"kernels, batch {batch_size}, ids on {ids_on}", rows[-1]["kernels"], update.TARGET_KERNELS))
        keep(found)
    found["epoch"] = waits_of_epoch(settings)
    keep(found)
    if failed := [row["error"] for row in rows if "error" in row]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} rows failed: {failed[0]}")


def waits_of_epoch(settings: Settings) -> dict[str, Any]:
    """Returns how often a pruned epoch of the trainer waits for the device, and where; no step should."""
    import epoch

    run = made_run(replace(settings, compile=False), kept=0.5)
    epoch.timed_epoch(run)  # makes room, and lets libraries choose their kernels
    with noted_waits(settings.device) as waits:
        epoch.timed_epoch(run)
    places = Counter(f"{Path(each.filename).name}:{each.lineno}" for each in waits)
    found = {"steps": len(run.loader), "waits": sum(places.values()), "target": TARGET_WAITS, "places": dict(places)}
    if settings.device == "cuda":
        print(verdict(f"waits of an epoch of {found['steps']} steps", found["waits"], TARGET_WAITS), flush=True)
    return found


@contextmanager
def noted_waits(device: str) -> Iterator[list[warnings.WarningMessage]]:
    """Yields a list, which afterwards has a warning of each wait for the device."""
    waits: list[warnings.WarningMessage] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    waits += [each for each in caught if WAITED in str(each.message)]


def epoch_ratio(settings: Settings, keep: Keep) -> None:
    """Measures pruned epochs beside full ones; without torch.compile if that fails."""
    found: dict[str, Any] = {}
    if settings.compile:
        compile_all()
        try:
            found["first_epoch_s"] = epoch_s(made_run(settings))
            keep(found)
        except Exception as error:
            found["compile_error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
            keep(found)
            settings = replace(settings, compile=False)
    measure_ratio(settings, lambda more: keep({**found, **more}))


def compile_all() -> None:
    """Lets torch.compile serve more models of a process than by default, after which it falls back without an error."""
    torch._dynamo.config.recompile_limit = 64


def measure_ratio(settings: Settings, keep: Keep) -> None:
    """Measures pruned epochs beside full ones, round by round."""
    import epoch

    recipe = recipe_of(settings, epochs=ROUNDS + 2, max_lr=NOISE_LR)
    data = epoch.random_images(num_train(settings), channels=3, side=32)
    runs = epoch.make_runs(recipe, data, settings.folder)
    rows: list[dict[str, Any]] = []
    for number, times in enumerate(epoch.rounds_of(runs, ROUNDS_SMOKE if settings.smoke else ROUNDS), 1):
        rows, full = epoch.rows_of(runs, times, MARGIN), summary(times[1.0]["wall"])
        rate = images_in_epoch(runs[1.0]) / full["median"]
        keep({**described(recipe, data), "rounds": number, "full_epoch_s": full, "images_per_s": rate, "rows": rows})
        round_s = sum(clocks["wall"][-1] for clocks in times.values())  # without what warmed up before the first
        if settings.left_s() < 2 * round_s:
            break
    epoch.show(rows)


def images_per_second(settings: Settings, keep: Keep) -> None:
    """Measures the data path alone, then full epochs without and with torch.compile."""
    run = made_run(replace(settings, compile=False))
    found = {**described(run.recipe, run.data_path.data), "compile": settings.compile, "unit": "images a second"}

    def measure(calls: dict[str, Callable[[], object]], count: int, rounds: int) -> None:
        for name, seconds in interleaved(calls, rounds=ROUNDS_SMOKE if settings.smoke else rounds).items():
            found[name] = summary([count / each for each in seconds])
            print(f"{name}: {found[name]['median']:,.0f} images a second", flush=True)
        keep(found)

    for batch_size in READ_ALONE:
        measure({f"data_path_batch_{batch_size}": reading(run, batch_size)}, len(run.train_set), 5)
    epochs: dict[str, Callable[[], object]] = {"full_epoch": lambda: epoch_s(run)}
    if settings.compile:
        compiled = made_run(settings)
        epochs["full_epoch_compiled"] = lambda: epoch_s(compiled)
    measure(epochs, images_in_epoch(run), 3)


def accuracy(settings: Settings, keep: Keep) -> None:
    """Trains CIFAR-10."""
    import gpu_accuracy

    assert settings.data_root is not None
    recipe = recipe_of(settings, data_root=settings.data_root, num_threads=1, evaluations=1)
    how: dict[str, Any] = {}
    if settings.smoke:
        recipe = recipe.model_copy(update={"train_size": NUM_TRAIN_SMOKE})
        how = {"workers": 1, "most_epochs": 2, "most_seeds": 1}
    gpu_accuracy.train_arms(recipe, settings.folder, settings.left_s, keep, **how)


def made_run(settings: Settings, kept: float = 1.0) -> Run:
    """Returns a run of noise that keeps this share of it in each epoch."""
    import epoch

    data = epoch.random_images(num_train(settings), channels=3, side=32)
    return epoch.make_run(kept, recipe_of(settings, epochs=10, max_lr=NOISE_LR), data, settings.folder)


def epoch_s(run: Run) -> float:
    """Trains an epoch and returns its seconds; the first one compiles the model."""
    import epoch

    return epoch.timed_epoch(run)["wall"]


def recipe_of(settings: Settings, **changes: Any) -> Recipe:
    """Returns the recipe that parts 3 to 5 share; its last batch is left out, so that no other shape is compiled."""
    from orderdp.training.recipe import find_recipe, load_recipe

    path = find_recipe("cifar10", "resnet18")
    assert path is not None
    layout = {"precision": "bf16", "channels_last": True, "data_path": "resident", "drop_last": True}
    how = {"device": settings.device, "compile": settings.compile}
    small = {"model": "small_cnn"} if settings.smoke else {}
    return load_recipe(path, **layout, **how, **small, **changes)


def num_train(settings: Settings) -> int:
    """Returns how many images of noise there are."""
    return NUM_TRAIN_SMOKE if settings.smoke else NUM_TRAIN


def described(recipe: Recipe, data: DataSets) -> dict[str, Any]:
    """Returns what the file says of the recipe."""
    names = ("model", "precision", "channels_last", "compile", "batch_size")
    return {"num_train": len(data.train), **{name: getattr(recipe, name) for name in names}}


def images_in_epoch(run: Run) -> int:
    """Returns how many images an epoch trains."""
    return len(run.loader) * run.recipe.batch_size


def reading(run: Run, batch_size: int) -> Callable[[], None]:
    """Returns what reads all images of a run once, in a random order, and waits for the device."""
    from orderdp.training.data_path import InOrder

    order = torch.randperm(len(run.train_set), generator=torch.Generator().manual_seed(0))

    def read() -> None:
        for _ in InOrder(run.train_set, order, batch_size, run.data_path.loading(run.train_set)):
            pass
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return read

"""Settings of every test; tiny runs, trained here or in forked processes that may be killed; made-up runs."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading

import pytest
import torch
from hypothesis import settings
from tqdm import tqdm

from orderdp.comparison.grid import Comparison
from orderdp.data.imports import import_image_library
from orderdp.data.registry import load_dataset
from orderdp.output import custom
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, gathered
from orderdp.training.run_folder import RunFolder
from reference.made_runs import SIZES, Made
from reference.scripts import Scripts

with contextlib.suppress(ImportError):  # frameworks import it too, and some cannot with one built for another torch
    import_image_library("torchvision")
gc.disable()  # until all is collected
torch.set_num_threads(1)
# By default tqdm shares a lock with forked processes; one that is killed may hold it for ever.
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")

# 200 images in batches of 32 on one thread of the processor: a run takes a tenth of a second.
TINY = {"train_size": 200, "epochs": 3, "batch_size": 32, "device": "cpu", "num_threads": 1}


def pytest_collection_finish():
    """Keeps the garbage collector, also of forked processes, from walking through what was imported and collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_module_of_a_user(monkeypatch):
    """Lets a test begin without the custom modules of those before, whose names orderdp looks for in every failure."""
    monkeypatch.setattr(custom, "_of_users", set())


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", train_size=TINY["train_size"])


@pytest.fixture(scope="session")
def tiny():
    """Makes the recipe of a tiny run, with some settings changed; those of the strategy may be given flat."""
    return lambda **settings: Recipe(**gathered({**TINY, **settings}))


@pytest.fixture
def train(tmp_path, tiny, digits):
    """Trains a tiny recipe in a folder of that name, or goes on with the run there, and returns the folder."""

    def trained(name="run", data=digits, **settings):
        path = tmp_path / name
        folder = RunFolder(path) if path.exists() else RunFolder.create(path, tiny(**settings))
        Run(folder.recipe(), data, folder, show=False).train()
        return folder

    return trained


@pytest.fixture
def outcome():
    """What of a finished run must not depend on how it was run: all but its name, seconds, date and commit."""

    def of(folder):
        result = {name: value for name, value in folder.result().items() if name not in ("name", "commit", "finished")}
        return [without_seconds(line) for line in [result, *folder.metrics()]]

    return of


def without_seconds(line):
    return {name: value for name, value in line.items() if not name.endswith("_s")}


@pytest.fixture
def in_child():
    """Runs a function in a forked process and returns the exit code, which is -9 if it was killed."""
    context = multiprocessing.get_context("fork")

    def run(work, *, kill_after_s=None):
        process = context.Process(target=work)
        process.start()
        process.join(120 if kill_after_s is None else kill_after_s)
        process.kill()
        process.join()
        return process.exitcode

    return run


@pytest.fixture
def kill_at():
    """Patches a function so that its n-th call (of those that count) kills the process; for a forked child only."""

    def patch(owner, name, number=1, *, first=lambda *arguments: None, counts=lambda *arguments: True):
        original = getattr(owner, name)
        calls = []

        def replacement(*arguments, **named):
            calls.extend([name] * counts(*arguments))
            if len(calls) == number:
                first(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        setattr(owner, name, replacement)

    return patch


@pytest.fixture(scope="session")
def tiny_recipe():
    """Makes a recipe of three epochs on 200 digits, with some settings changed."""
    common = {"train_size": SIZES.num_samples, "epochs": 3, "batch_size": 32, "device": "cpu", "num_threads": 1}
    return lambda **settings: Recipe(**gathered({**common, **settings}))


@pytest.fixture
def made(tmp_path, tiny_recipe):
    """Makes the folder of a plan, with no runs in it yet."""

    def make(name="run", recipe=None, **plan):
        return Made(tmp_path / name, Comparison(recipe or tiny_recipe(), **plan))

    return make


@pytest.fixture
def pair(made):
    """OrderDP at 50 %, full data and the shorter schedule, of three seeds each."""
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("OrderDP 50 %", (90.0, 91.0, 92.0))
    folder.finish("full data", (90.5, 91.0, 92.6))
    return folder.finish("full data, steps of OrderDP 50 %", (89.0, 90.5, 91.0))


@pytest.fixture(scope="session")
def scripts():
    """Runs scripts nearly as a new process would."""
    with contextlib.closing(Scripts()) as running:
        yield running

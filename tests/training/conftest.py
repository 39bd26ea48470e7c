"""Runs of two ranks, in forked processes that form a gloo group."""

import multiprocessing
import os
import socket

import pytest
from accelerate.state import AcceleratorState, GradientState

from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder


@pytest.fixture
def on_two_ranks():
    """Runs a function in two forked processes that form a gloo group, and returns their exit codes."""
    context = multiprocessing.get_context("fork")

    def as_rank(rank, port, work):
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1")
        AcceleratorState._reset_state(reset_partial_state=True)  # earlier tests have set up a single process
        GradientState._reset_state()
        work()

    def run(work):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [context.Process(target=as_rank, args=(rank, port, work)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            process.kill()
            process.join()
        return [process.exitcode for process in processes]

    return run


@pytest.fixture
def train_on_two_ranks(tmp_path, tiny, digits, on_two_ranks):
    def trained(name, data=digits, **settings):
        path = tmp_path / name
        folder = RunFolder(path) if path.exists() else RunFolder.create(path, tiny(**settings))
        assert on_two_ranks(lambda: Run(folder.recipe(), data, folder, show=False).train()) == [0, 0]
        return folder

    return trained

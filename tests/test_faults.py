"""Lost ranks, SIGTERM, damaged checkpoints, another number of ranks: no sample is lost or repeated."""

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import TensorDataset

from orderdp import OrderDP, Pruner
from orderdp.lost_ranks import LostRankError, is_loss, meeting
from orderdp.sharded.wire import Wire
from orderdp.stopping import StopRequest
from reference import restarting
from reference.loop import train_epoch

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

HALF = OrderDP(explore=1.0, exploit=0.5)


# The calls of the pruner.


@pytest.fixture
def on_three_ranks(tmp_path):
    """What `work(rank)` returns or raises on each of three gloo ranks; None of one that ends early."""
    context = multiprocessing.get_context("fork")

    def as_rank(rank, work):
        store = dist.FileStore(str(tmp_path / "store"), 3)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=3, timeout=timedelta(seconds=4))
        began_s = time.monotonic()
        try:
            told = work(rank)
        except RuntimeError as error:
            told = f"{type(error).__name__}: {error}"
        (tmp_path / f"{rank}.json").write_text(json.dumps([told, time.monotonic() - began_s]))
        os._exit(0)  # the group is broken

    def run(work):
        processes = [context.Process(target=as_rank, args=(rank, work)) for rank in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
            process.kill()
            process.join()
        found = [tmp_path / f"{rank}.json" for rank in range(3)]
        return [json.loads(path.read_text()) if path.exists() else [None, None] for path in found]

    return run


@pytest.mark.parametrize("how", ["killed", "hangs"])
@pytest.mark.parametrize("call", ["begin_epoch", "state_dict", "synchronize"])
def test_the_other_ranks_end_in_time_and_name_the_call(on_three_ranks, call, how):
    def work(rank):
        pruner = Pruner(HALF, 60)
        loader = pruner.loader(range(60), batch_size=5)
        train_epoch(pruner, loader)
        if rank == 2:
            if how == "hangs":
                time.sleep(6)
            os.kill(os.getpid(), signal.SIGKILL)
        if call == "begin_epoch":
            next(iter(loader))
        else:
            getattr(pruner, call)()

    *others, lost = on_three_ranks(work)
    assert lost == [None, None]
    for told, seconds in others:
        assert told.startswith(f"LostRankError: every rank must take part in {call}, but another one ended, or did not")
        assert told.endswith("restart all of them from the last checkpoint")
        assert "\n" not in told
        assert "third_party" not in told
        assert seconds < 9


def test_a_rank_of_a_sharded_table_says_so_too(on_three_ranks):
    def work(rank):
        wire = Wire()
        wire.sum(np.ones(2, dtype=np.int64))
        if rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        wire.sum(np.ones(2, dtype=np.int64))

    for told, _ in on_three_ranks(work)[:2]:
        assert told.startswith("LostRankError: every rank must take part in the calls of its pruner, but another one")


def test_a_rank_that_ends_while_others_ask_whether_to_stop_is_no_stop(on_three_ranks):
    def work(rank):
        stop = StopRequest()
        assert not stop.agreed()
        if rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        while not stop.agreed():
            time.sleep(0.01)

    for told, _ in on_three_ranks(work)[:2]:
        assert told.startswith("LostRankError: every rank must take part in ")


def test_an_error_of_another_kind_passes():
    with pytest.raises(RuntimeError, match=r"^out of memory$"), meeting("begin_epoch"):
        raise RuntimeError("out of memory")
    assert not is_loss(RuntimeError("every rank must hold the same pruner"))
    assert not is_loss(ValueError("Connection closed by peer"))
    with pytest.raises(LostRankError, match=r"\(Connection closed by peer \[1.2.3.4\]:5\)"), meeting("state_dict"):
        raise RuntimeError("[/a/gloo/transport/tcp/pair.cc:1] Connection closed by peer [1.2.3.4]:5. Check the logs")


# A loop that resumes.


def loop(folder, num_ranks, *arguments, stop_when=lambda: False):
    """The exit codes of the ranks of the loop, in forked processes; SIGTERM goes to the last rank when it is time."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def as_rank(rank):
        began_s = time.monotonic()
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=str(num_ranks), RANK=str(rank))
        with (folder / f"told.{rank}").open("w", buffering=1) as sys.stdout:
            try:
                restarting.main([str(folder), *arguments])
            except RuntimeError as error:
                sys.stdout.write(f"after {time.monotonic() - began_s:.0f} s: {error}\n")
                os._exit(1)
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=as_rank, args=(rank,)) for rank in range(num_ranks)]
    for process in processes:
        process.start()
    ends_s = time.monotonic() + 60
    while any(process.is_alive() for process in processes) and time.monotonic() < ends_s:
        if stop_when():
            processes[-1].terminate()
            break
        time.sleep(0.02)
    for process in processes:
        process.join(30)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def result(folder):
    return json.loads((folder / "result.json").read_text())


def bits(found):
    """What must be equal bit for bit on as many ranks."""
    return found["trained"], found["weights"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What two ranks train undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert loop(folder, 2) == [0, 0]
    return result(folder)


def assert_same_samples(found, expected):
    """Every step of all ranks had the same samples, each once in its epoch."""
    assert [[epoch, sorted(ids)] for epoch, ids in found["trained"]] == [
        [epoch, sorted(ids)] for epoch, ids in expected["trained"]
    ]
    for number in range(3):
        ids = [each for epoch, ids in found["trained"] if epoch == number for each in ids]
        assert len(ids) == len(set(ids)) == 500


@pytest.mark.parametrize("after", [2, 1, 3])
@pytest.mark.parametrize("before", [2, 3])
def test_a_job_that_lost_a_rank_inside_an_epoch_goes_on_with_any_number(tmp_path, undisturbed, before, after):
    assert loop(tmp_path, before, "--kill=1:9") == [-signal.SIGKILL if rank == 1 else 1 for rank in range(before)]
    assert loop(tmp_path, after) == [0] * after
    assert result(tmp_path)["starts"] == [[before, 0], [after, 8]]  # 6 steps an epoch: inside the second
    assert_same_samples(result(tmp_path), undisturbed)
    if before == after == 2:
        assert bits(result(tmp_path)) == bits(undisturbed)


def test_a_rank_that_hangs_ends_the_others_after_the_timeout(tmp_path):
    assert loop(tmp_path, 2, "--hang=1:9") == [1, 0]
    told = (tmp_path / "told.0").read_text()
    assert "Timed out waiting 4000ms" in told  # of DDP's own collective, in the backward pass
    assert 4 <= int(re.search(r"after (\d+) s", told)[1]) < 6


def test_sigterm_to_one_rank_leaves_a_checkpoint_of_the_same_step_on_all(tmp_path, undisturbed):
    codes = loop(tmp_path, 2, "--every=1000", "--slow", stop_when=lambda: (tmp_path / "step.1").exists())
    assert codes == [143, 143]
    (checkpoint,) = tmp_path.glob("*.pt")
    state = torch.load(checkpoint, weights_only=True)
    assert len(state["trained"]) == state["step"] == int(checkpoint.stem) < 18
    assert loop(tmp_path, 2) == [0, 0]
    assert bits(result(tmp_path)) == bits(undisturbed)


def test_the_loop_of_the_page_stops_and_goes_on(tmp_path):
    """The samples of each epoch come once, over a SIGTERM and a damaged checkpoint."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    trained, terminated = [], {150, 240}

    class Noting(Pruner):
        def update(self, index, losses):
            trained.append((self.epoch, index.tolist()))
            if len(trained) in terminated:
                terminated.remove(len(trained))
                os.kill(os.getpid(), signal.SIGTERM)
            return super().update(index, losses)

    data = TensorDataset(torch.randn(600, 4), torch.randint(3, (600,)))
    names = {"torch": torch, "F": torch.nn.functional, "model": model}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    for block in restarting.BLOCKS[1:]:
        exec(block, names)

    def run():
        pruner = Noting(HALF, 600)
        names["train_until_stopped"](pruner, pruner.loader(data, batch_size=10), 10, tmp_path)

    for left in ([100, 150], [200, 240]):
        with pytest.raises(SystemExit, match=r"^143$"):
            run()
        assert [int(path.stem) for path in sorted(tmp_path.glob("*.pt"))] == left
    (tmp_path / "000000240.pt").write_bytes(b"")
    del trained[200:]
    run()
    assert [epoch for epoch, _ in trained] == [number // 30 for number in range(300)]
    for epoch in range(10):
        ids = [each for number, batch in trained if number == epoch for each in batch]
        assert len(ids) == len(set(ids)) == 300
    assert (tmp_path / "000000240.bad").exists()


@pytest.mark.parametrize("damage", ["cut short", "empty", "of another run"])
def test_the_checkpoint_before_a_bad_one_is_used(tmp_path, undisturbed, damage):
    assert loop(tmp_path, 1, "--kill=0:9", "--every=4") == [-signal.SIGKILL]
    first, last = sorted(tmp_path.glob("*.pt"))
    if damage == "of another run":
        state = torch.load(last, weights_only=True)
        state["loader"]["pruner"]["seed"] = 5
        torch.save(state, last)
    else:
        last.write_bytes(last.read_bytes()[: 1000 if damage == "cut short" else 0])
    assert loop(tmp_path, 2) == [0, 0]
    assert f"{last} is passed over: " in "".join((tmp_path / f"told.{rank}").read_text() for rank in range(2))
    assert result(tmp_path)["starts"] == [[1, 0], [2, int(first.stem)]]
    assert_same_samples(result(tmp_path), undisturbed)


def test_the_loop_of_the_page_does_not_begin_anew_if_no_checkpoint_can_be_used(tmp_path):
    assert loop(tmp_path, 1, "--epochs=1") == [0]
    found = sorted(tmp_path.glob("*.pt"))
    assert len(found) == 2
    for path in found:
        path.write_bytes(b"")
    assert loop(tmp_path, 1) == [1]
    told = (tmp_path / "told.0").read_text()
    assert f"no checkpoint in {tmp_path} can be used; remove them to begin anew" in told
    assert told.count(" is passed over: ") == 2
    assert sorted(tmp_path.glob("*.pt")) == found  # a second start is refused too


# torchrun. Each process imports torch anew. Without a store of its own, a restarted gloo group finds the addresses of
# the one before (torch 2.13). So the command of docs/ranks.md sets a variable, which these tests take from there.
RANKS_PAGE = (Path(__file__).parents[1] / "docs" / "ranks.md").read_text(encoding="utf-8")
((VARIABLE, VALUE),) = re.findall(r"^ *(\w+)=(\w+) torchrun .*--max-restarts", RANKS_PAGE, flags=re.MULTILINE)
FRESH_STORE = {**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: VALUE}


def torchrun(script, *arguments):
    """Runs a script on two ranks, with one restart."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command += [str(script), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=FRESH_STORE, timeout=200)


@pytest.mark.slow
def test_torchrun_restarts_a_job_of_which_a_rank_was_killed_and_it_ends_as_undisturbed(tmp_path, undisturbed):
    done = torchrun(restarting.__file__, tmp_path, "--kill=1:9")
    assert done.returncode == 0, done.stderr
    assert result(tmp_path)["starts"] == [[2, 0], [2, 8]]
    assert bits(result(tmp_path)) == bits(undisturbed)


SOAK = """
import sys, warnings
warnings.simplefilter("default")
sys.path.insert(0, {folder!r})
import soak
soak.RECIPE = soak.RECIPE.model_copy(update={{"epochs": 6}})
sys.argv = ["soak.py", "--kills={kills}"]
soak.main()
"""


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_undisturbed_ones(scripts, tmp_path):
    """The soak in a short form; it stops with an error if a run ends otherwise."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    done = scripts.run_code(SOAK.format(folder=folder, kills=6), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": 3 kills, ") == 2
    assert done.stdout.count("ended as the undisturbed one") == 2
    done = scripts.run_code(SOAK.format(folder=folder, kills=1), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("--kills must be even and at least 2, half of them on two ranks, got 1\n")


@pytest.mark.slow
def test_the_command_is_restarted_in_the_folder_that_it_made(tmp_path):
    """A rank kills itself once, inside the first epoch; torchrun starts the same command again."""
    options = "--device cpu --train-size 200 --epochs 2 --batch-size 16 --model small_cnn --num-threads 1 --against"
    killing = tmp_path / "killing.py"
    killing.write_text(
        "import os, sys\n"
        "from orderdp import Pruner\n"
        "from orderdp.cli import main\n"
        "update, calls = Pruner.update, []\n"
        "def killed(*arguments, **named):\n"
        "    calls.append(1)\n"
        "    if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and os.environ['RANK'] == '1' and len(calls) == 6:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return update(*arguments, **named)\n"
        "Pruner.update = killed\n"
        f"sys.exit(main(['train', *{options.split()!r}, '--run', sys.argv[1]]))\n"
    )
    done = torchrun(killing, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "another rank ended, or did not answer in time" in done.stderr
    (run,) = (tmp_path / "run").glob("*/result.json")
    assert json.loads(run.read_text())["epochs"] == 2

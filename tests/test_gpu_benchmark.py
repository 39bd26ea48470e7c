"""benchmarks/gpu.py without a GPU: its smallest form, its limits of time, and how it plans the runs on CIFAR-10."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from orderdp import OrderDP
from orderdp.comparison.grid import Comparison
from orderdp.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
HALF = OrderDP(prune_ratio=0.5)
TINY = Recipe(strategy=HALF, train_size=200, batch_size=32, device="cpu", num_threads=1, evaluations=1)
SHORT = "full data, steps of OrderDP 50 %"
SMOKE = ["--device", "cpu", "--smoke"]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture
def benchmarks(monkeypatch):
    """Makes the scripts importable, here and in new processes."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def gpu(benchmarks):
    import gpu

    return gpu


@pytest.fixture
def accuracy(benchmarks):
    import gpu_accuracy

    return gpu_accuracy


@pytest.fixture
def call(gpu, monkeypatch, tmp_path):
    """Calls the script with arguments, on made-up parts, and returns what the file holds."""

    def called(*arguments, parts):
        monkeypatch.setattr(gpu, "PARTS", {name: gpu.Part(None, *part) for name, part in parts.items()})
        monkeypatch.setattr(gpu, "run_part", lambda part, settings, row, keep: row.update(state="done"))
        monkeypatch.setattr(sys, "argv", ["gpu.py", *SMOKE, "--json", str(tmp_path / "f"), *arguments])
        gpu.main()
        return json.loads((tmp_path / "f").read_text())

    return called


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "gpu.py needs a CUDA device, and torch sees none; to try it, write .*", marks=without_gpu),
        (["--device", "cpu"], "gpu.py measures a GPU, got --device cpu; write --device cpu --smoke .*"),
        ([*SMOKE, "--minutes", "0"], "--minutes must be above 0, got 0; write 12"),
        (
            [*SMOKE, "--data-root", "none"],
            "--data-root: data_root must be a folder .*, got none; .*",
        ),
    ],
)
def test_what_cannot_be_measured_ends_with_one_line(gpu, monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit, match=f"^{message}$"):
        gpu.main()


@pytest.mark.slow
def test_the_smallest_form_runs_on_a_processor_without_the_package_being_installed(tmp_path):
    """Each part but the one that needs CIFAR-10; the tests that need a GPU are skipped, but collected."""
    file = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--device=cpu", "--smoke", "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert {name: part["state"] for name, part in found["parts"].items()} == {
        **dict.fromkeys(("tests", "update", "ratio", "images"), "done"),
        "accuracy": "skipped",
    }, done.stdout
    assert "accuracy: skipped, CIFAR-10 is not here (no --data-root)" in done.stdout
    assert found["smoke"]
    assert {"device", "versions", "commit", "threads"} <= set(found)
    results = {name: part.get("result") for name, part in found["parts"].items()}
    assert results["tests"]["counts"]["skipped" if not torch.cuda.is_available() else "passed"] > 50
    assert results["update"]["rows"][0]["update"]["median"] > 0
    assert (results["update"]["epoch"]["steps"], results["update"]["epoch"]["waits"]) == (2, 0)
    assert [row["target"] for row in results["ratio"]["rows"]] == [0.31, 0.51, 0.71]
    assert all(row["time_ratio"]["median"] > 0 for row in results["ratio"]["rows"])
    assert {"full_epoch", "data_path_batch_128", "data_path_batch_1024"} <= set(results["images"])


@pytest.mark.parametrize(
    ("body", "counts", "why"),
    [
        ("pass", {"passed": 1}, None),
        ("assert 0, 'wrong'", {"failed": 1}, "exit code 1: 1 failed in .*s"),
        ("import time; print('waiting'); time.sleep(100)", {}, "stopped at the limit of its time: .*"),
    ],
)
def test_the_tests_are_counted_and_their_output_is_kept_if_they_fail(
    benchmarks, monkeypatch, tmp_path, body, counts, why
):
    import gpu_parts

    (tmp_path / "tests").mkdir()
    marked = f"import pytest\n\n@pytest.mark.{'gpu'}\ndef test_it():\n    {body}\n"
    (tmp_path / "tests" / "test_made_up.py").write_text(marked)
    (tmp_path / "tests" / "test_not_marked.py").write_text("def test_other():\n    raise ValueError\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    monkeypatch.setattr(gpu_parts, "ROOT", tmp_path)
    settings = gpu_parts.Settings(
        "cuda", True, False, None, tmp_path, time.monotonic() + (8 if "sleep" in body else 100)
    )
    kept = []
    if why is None:
        gpu_parts.gpu_tests(settings, kept.append)
    else:
        with pytest.raises(RuntimeError, match=f"^{why}$"):
            gpu_parts.gpu_tests(settings, kept.append)
    assert kept[-1]["counts"] == counts
    assert ("output" in kept[-1]) == (why is not None)


MADE_UP_PARTS = """
import os, time

def raises(settings, keep):
    keep({"so far": 1})
    raise ValueError("a mistake\\nin two lines")

def dies(settings, keep):
    keep({"so far": 2})
    os._exit(7)

def never_ends(settings, keep):
    time.sleep(1000)
"""


def test_a_part_that_raises_dies_or_never_ends_is_recorded_with_what_it_had_found(gpu, monkeypatch, tmp_path):
    (tmp_path / "made_up_parts.py").write_text(MADE_UP_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import made_up_parts

    states = []

    def row_of(measure, seconds):
        settings = gpu.Settings("cpu", True, False, None, tmp_path, time.monotonic() + seconds)
        row = {}
        gpu.run_part(gpu.Part(measure, seconds), settings, row, lambda: states.append(row["state"]))
        return row

    row = row_of(made_up_parts.raises, 100)
    assert (row["state"], row["why"], row["result"]) == ("failed", "ValueError: a mistake in two lines", {"so far": 1})
    assert "in raises" in row["traceback"]
    assert states[:2] == ["running", "running"]  # kept with its result, before it failed
    row = row_of(made_up_parts.dies, 100)
    assert (row["why"], row["result"]) == ("its process ended with exit code 7", {"so far": 2})
    began_s = time.monotonic()
    row = row_of(made_up_parts.never_ends, 0.2)
    assert (row["state"], row["why"]) == ("stopped", "its 0 s were over")
    assert time.monotonic() - began_s < 30


def test_a_part_that_would_pass_the_total_is_skipped_and_a_shorter_one_runs(call, capsys):
    found = call("--minutes", "1", "--commit", "abc", parts={"long": (61,), "short": (10,), "rest": (20, True)})
    assert {name: part["state"] for name, part in found["parts"].items()} == {
        "long": "skipped",
        "short": "done",
        "rest": "done",
    }
    why = found["parts"]["long"]["why"]
    assert re.fullmatch(r"(5\d|60) s are left, and it needs 61 s", why)
    assert 55 <= found["parts"]["rest"]["budget_s"] <= 60
    assert found["commit"] == "abc"
    assert f"long: skipped, {why}\nshort: done\n" in capsys.readouterr().out


def test_accuracy_is_left_out_without_the_images(call):
    part = call(parts={"accuracy": (1,)})["parts"]["accuracy"]
    assert part["state"] == "skipped"
    assert part["why"].startswith("CIFAR-10 is not here (no --data-root), and made-up images say nothing")


def test_parts_that_are_named_are_added_to_a_file_of_the_same_kind(call, tmp_path, monkeypatch):
    parts = dict.fromkeys(("tests", "update", "ratio"), (1,))
    found = call("--parts", "update", parts=parts)
    assert list(found["parts"]) == ["update"]
    assert list(call("--parts", "ratio", "tests", parts=parts)["parts"]) == ["update", "ratio", "tests"]
    assert list(call(parts=parts)["parts"]) == list(parts)  # a call of all parts begins anew
    message = f"--parts adds to a file of the same commit, got {tmp_path / 'f'} of another; write another --json"
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
        call("--parts", "ratio", "--commit", "another", parts=parts)
    (tmp_path / "f").write_text(json.dumps({**found, "parts": {}, "device": "another"}))
    with pytest.raises(SystemExit, match=r"^--parts adds to a file of the same device, got .* of another; write "):
        call("--parts", "ratio", parts=parts)
    (tmp_path / "f").write_text("[]")
    with pytest.raises(SystemExit, match=r"^--json must be a file that gpu\.py wrote, got .*; write another name$"):
        call("--parts", "ratio", parts=parts)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, True),
        ({"ratio": {"state": "done", "result": {"first_epoch_s": 1.0}}}, True),
        ({"ratio": {"state": "done", "result": {"compile_error": "no compiler"}}}, False),
        ({"ratio": {"state": "stopped"}}, False),
    ],
)
def test_models_are_compiled_unless_the_part_ratio_could_not(gpu, parts, expected):
    assert gpu.is_compiled(parts) is expected


def test_rounds_go_on_while_two_more_fit_whatever_the_first_took_to_compile(benchmarks, monkeypatch, tmp_path):
    import epoch
    import gpu_parts

    left = iter([30.0, 20.0, 10.0, 7.9])

    def rounds(runs, count):
        times = {kept: {"wall": [], "processor": []} for kept in (1.0, 0.5)}
        for _ in range(count):
            for clocks in times.values():
                clocks["wall"].append(2.0)
            yield times

    class Settings(gpu_parts.Settings):
        def left_s(self):
            return next(left)

    monkeypatch.setattr(epoch, "rounds_of", rounds)
    monkeypatch.setattr(epoch, "make_runs", lambda *_: {1.0: None})
    monkeypatch.setattr(epoch, "rows_of", lambda *_: [])
    monkeypatch.setattr(gpu_parts, "images_in_epoch", lambda run: 100)
    monkeypatch.setattr(gpu_parts, "NUM_TRAIN", 10)
    kept = []
    gpu_parts.measure_ratio(Settings("cpu", False, False, None, tmp_path, 0.0), kept.append)
    assert [each["rounds"] for each in kept] == [1, 2, 3, 4]
    assert [each["images_per_s"] for each in kept] == [50] * 4


def test_epochs_are_measured_without_compiling_if_that_fails(benchmarks, monkeypatch, tmp_path):
    import gpu_parts

    def fail(run):
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr(gpu_parts, "compile_all", lambda: None)
    monkeypatch.setattr(gpu_parts, "made_run", lambda settings: None)
    monkeypatch.setattr(gpu_parts, "measure_ratio", lambda settings, keep: keep({"compile": settings.compile}))
    settings, kept = gpu_parts.Settings("cpu", True, True, None, tmp_path, 0.0), []
    monkeypatch.setattr(gpu_parts, "epoch_s", lambda run: 7.0)
    gpu_parts.epoch_ratio(settings, kept.append)
    monkeypatch.setattr(gpu_parts, "epoch_s", fail)
    gpu_parts.epoch_ratio(settings, kept.append)
    assert [kept[1], kept[-1]] == [
        {"first_epoch_s": 7.0, "compile": True},
        {"compile_error": "RuntimeError: no compiler", "compile": False},
    ]


def test_rates_are_images_a_second_of_what_was_read(benchmarks, monkeypatch, tmp_path):
    import gpu_parts

    run = SimpleNamespace(recipe=None, data_path=SimpleNamespace(data=None), train_set=range(60))
    seconds = {"data_path_batch_128": [2.0, 3.0, 4.0], "data_path_batch_1024": [1.0], "full_epoch": [5.0, 2.0]}
    seconds["full_epoch_compiled"] = [1.0, 1.0]
    monkeypatch.setattr(gpu_parts, "made_run", lambda settings: run)
    monkeypatch.setattr(gpu_parts, "described", lambda *given: {})
    monkeypatch.setattr(gpu_parts, "reading", lambda *given: None)
    monkeypatch.setattr(gpu_parts, "images_in_epoch", lambda run: 40)
    monkeypatch.setattr(gpu_parts, "interleaved", lambda calls, rounds: {name: seconds[name] for name in calls})
    kept = []
    gpu_parts.images_per_second(gpu_parts.Settings("cpu", True, True, None, tmp_path, 0.0), kept.append)
    assert {name: kept[-1][name]["median"] for name in seconds} == {
        "data_path_batch_128": 20,
        "data_path_batch_1024": 60,
        "full_epoch": 14,
        "full_epoch_compiled": 40,
    }


def test_waits_are_noted_and_other_warnings_are_not(benchmarks):
    from gpu_parts import WAITED, noted_waits

    with noted_waits("cpu") as waits:
        for _ in range(2):
            warnings.warn(f"{WAITED} (at a place)", stacklevel=1)
        warnings.warn("of something else", stacklevel=1)
    assert [(Path(each.filename).name, WAITED in str(each.message)) for each in waits] == [
        (Path(__file__).name, True)
    ] * 2


def test_kernels_copies_and_waits_of_an_update_are_counted(benchmarks, monkeypatch):
    import update

    class Profile(contextlib.nullcontext):
        def __enter__(self):
            return self

        def events(self):
            on_device = [SimpleNamespace(name=name, device_type=torch.autograd.DeviceType.CUDA) for name in names]
            return [*on_device, SimpleNamespace(name="cudaStreamSynchronize", device_type="the host")]

    def counted():
        return update.kernels_and_copies(pruner, [torch.arange(2)] * 2, torch.device("cpu"))

    pruner = SimpleNamespace(update=lambda index, losses: None)
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: Profile())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    names = ["mean", "mean", "Memcpy DtoD", "Memset"]
    assert counted() == {"kernels": 1, "copies": 1, "waits_traced": 0.5}
    names = ["Memcpy DtoD"]
    with pytest.raises(RuntimeError, match=r"^the profiler saw no kernel of update; it must be allowed to trace"):
        counted()


@pytest.mark.parametrize(
    ("left_s", "epoch_s", "at_once", "expected"),
    [
        (1000, 3.0, 4, (10, 30)),  # 20 units on 4, 5 for the longest: 450 s of 900
        (280, 3.0, 4, (5, 30)),  # 10 units: 2.5 of 90 s each are 225 of 252 s; 6 seeds would take 270
        (140, 3.0, 4, (3, 28)),  # 6 units: 1.5 an epoch
        (25, 3.0, 4, (3, 5)),
        (15, 3.0, 4, (1, 4)),  # 3 epochs would be too few for three seeds
        (600, 3.0, 1, (3, 30)),  # 2 units a seed: 540 of 540 s
    ],
)
def test_the_plan_is_many_seeds_then_long_runs_then_one_seed(accuracy, left_s, epoch_s, at_once, expected):
    assert accuracy.plan(left_s, accuracy.Cost(0.0, epoch_s), at_once) == expected


def test_the_plan_counts_what_a_run_takes_beside_its_epochs(accuracy):
    # Without the 20 s, five seeds fit into 280 s. With them, a whole run and two half ones take 110 + 65 + 65 of 252 s.
    assert accuracy.plan(280, accuracy.Cost(20.0, 3.0), 4) == (4, 30)
    assert accuracy.plan(100, accuracy.Cost(20.0, 3.0), 4) == (3, 6)


def test_a_plan_without_time_says_what_to_give(accuracy):
    with pytest.raises(RuntimeError, match=r"^5 s are left, and an epoch takes 3 s; give more minutes$"):
        accuracy.plan(5, accuracy.Cost(0.0, 3.0), 1)


def test_runs_are_trained_so_many_at_once_and_those_beyond_the_time_are_left_out(accuracy, monkeypatch, tmp_path):
    members = Comparison(TINY, seeds=(0, 1)).members(200)
    hold, running, most = threading.Event(), [], []

    def trained(recipe, path):
        running.append(path.name)
        most.append(len(running))
        if path.name == members[1].name:
            running.remove(path.name)
            raise ValueError("a mistake")
        if path.name == members[3].name:
            hold.wait(60)
        running.remove(path.name)
        return {"accuracy": 90.0}

    monkeypatch.setattr(accuracy, "trained", trained)
    left = iter([100.0] * 3 + [0.0] * 9)
    with ThreadPoolExecutor(4) as pool:
        rows = list(accuracy.rows_of(members[:4], pool, tmp_path, 1, lambda: next(left)))
        hold.set()
    assert [row.get("error") for row in rows] == [None, "ValueError: a mistake", None, "the time was over for 1 runs"]
    assert max(most) == 1


@pytest.mark.parametrize(("epoch_s", "at_once", "planned_s"), [(7.9, 4, 7.9), (8.0, 1, 2.0)])
def test_as_many_are_trained_at_once_as_is_faster_and_the_longest_begin(
    accuracy, monkeypatch, tmp_path, epoch_s, at_once, planned_s
):
    """An epoch takes 2 s alone."""
    pool, asked, begun = SimpleNamespace(shutdown=lambda **named: None), [], []
    monkeypatch.setattr(accuracy, "ProcessPoolExecutor", lambda *given, **named: pool)
    monkeypatch.setattr(accuracy, "costs", lambda *given: (accuracy.Cost(1.0, 2.0), accuracy.Cost(1.0, epoch_s)))
    monkeypatch.setattr(accuracy, "plan", lambda *given: asked.append(given) or (2, 3))

    def rows_of(members, pool, folder, at_once, left_s):
        begun.extend([(member.label, member.recipe.seed) for member in members])
        return [{"label": "full data", "seed": 0, "accuracy": 90.0}]

    monkeypatch.setattr(accuracy, "rows_of", rows_of)
    kept = []
    accuracy.train_arms(TINY, tmp_path, lambda: 100.0, kept.append)
    assert asked == [(90.0, accuracy.Cost(1.0, planned_s), at_once, 30, 10)]
    assert (kept[-1]["at_once"], kept[-1]["seeds"], kept[-1]["epochs"]) == (at_once, 2, 3)
    assert begun[:2] == [("full data", 0), ("full data", 1)]
    assert sorted(begun[2:]) == [(label, seed) for label in ("OrderDP 50 %", SHORT) for seed in (0, 1)]


def test_a_run_among_several_costs_what_the_slowest_takes(accuracy, tmp_path):
    seconds = iter([(9.0, 9.0), (9.0, 9.0), (1.0, 5.0), (2.0, 4.0), (1.0, 3.0)])  # the first ones load and compile

    def submit(function, recipe, path):
        ended = Future()
        ended.set_result(dict(zip(("once_s", "epoch_s"), next(seconds), strict=True)))
        return ended

    found = accuracy.costs(TINY, SimpleNamespace(submit=submit), 2, tmp_path, lambda: 100.0)
    assert found == (accuracy.Cost(1.0, 3.0), accuracy.Cost(2.0, 5.0))


def test_what_a_run_takes_beside_its_epochs_is_told_apart(accuracy, monkeypatch, tmp_path):
    result = dict.fromkeys(("accuracy_last", "steps", "epochs", "samples_backward", "training_s", "data_s"), 1.0)
    made = SimpleNamespace(ended_s=[130.0, 140.0, 152.0], train=lambda: {**result, "selection_s": 0.5})
    monkeypatch.setattr(accuracy, "ClockedRun", lambda *given, **named: made)
    clock = iter([100.0, 160.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    row = accuracy.trained(TINY, tmp_path / "run")
    assert (row["wall_s"], row["epoch_s"], row["once_s"], row["spent_s"]) == (60, 10, 30, 2.5)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_arms_of_a_small_recipe_are_trained_in_other_processes(accuracy, tmp_path):
    """As on CIFAR-10, on the digits; two processes, one seed, two epochs."""
    kept = []
    ends_s = time.monotonic() + 200
    small = {"workers": 2, "most_epochs": 2, "most_seeds": 1}
    accuracy.train_arms(TINY, tmp_path, lambda: ends_s - time.monotonic(), kept.append, **small)
    found = kept[-1]
    assert (found["seeds"], found["epochs"]) == (1, 2)
    assert found["at_once"] == (2 if found["together"]["epoch_s"] < 2 * found["alone"]["epoch_s"] else 1)
    assert len(kept) == 4  # the epochs, then a run each
    rows = {row["label"]: row for row in found["rows"]}
    assert {name: row["steps"] for name, row in rows.items()} == {
        "full data": 2 * 7,
        "OrderDP 50 %": 2 * 4,
        SHORT: 2 * 4,
    }
    (against_full, against_short) = found["differences"].values()
    assert against_full["mean"] == pytest.approx(rows["OrderDP 50 %"]["accuracy"] - rows["full data"]["accuracy"])
    assert (against_full["interval"], against_short["seeds"]) == (None, 1)

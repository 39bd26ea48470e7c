"""`orderdp compare` and `orderdp methods` on the command line."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orderdp import FullData, OrderDP, coresets
from orderdp.comparison import workers
from orderdp.comparison.grid import load_comparison
from orderdp.comparison.planned import REFERENCES
from orderdp.strategies.registry import BY_NAME, to_table
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, load_recipe, shipped_recipes
from orderdp.training.run_folder import RunFolder
from reference.command_line import SMALL, SMALL_RUNS, TINY, labels
from reference.log_lines import begun_or_failed


@pytest.fixture
def planned(call, monkeypatch):
    """The plan that `orderdp compare` would carry out, where, and how, without carrying it out."""

    def plan_of(*options):
        given = []

        def keep(plan, path, **named):
            given.append((plan, path, named))
            raise RuntimeError("enough")

        monkeypatch.setattr(workers, "start", keep)
        assert call("compare", *options) == (1, "", "orderdp: enough\n")
        return given[0]

    return plan_of


@pytest.fixture
def image_folder(here):
    """A data set of 16 and 8 images in two classes."""
    random = np.random.default_rng(0)
    for part, each in (("train", 8), ("val", 4)):
        for label in "ab":
            folder = here / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(each):
                Image.fromarray(random.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def folders(path):
    return sorted(file.name for file in Path(path).iterdir() if file.is_dir())


def test_compare_takes_orderdp_and_infobatch_at_three_ratios_over_three_seeds_beside_random(planned):
    plan, path, named = planned()
    names = ("OrderDP", "InfoBatch", "dynamic random")
    assert labels(plan) == [f"{name} {ratio} %" for ratio in (30, 50, 70) for name in names]
    assert (plan.seeds, plan.against, named["processes"]) == ((0, 1, 2), REFERENCES, 1)
    assert plan.recipe == load_recipe(shipped_recipes()["digits"], strategy=OrderDP(prune_ratio=0.3))
    assert re.fullmatch(r"runs/compare-digits-\d{8}-\d{6}", str(path))


def test_several_learning_rates_are_chosen_from_and_one_is_the_recipes(planned):
    plan, _, _ = planned("--max-lr", "0.3", "0.1")
    assert (plan.recipe.max_lr, plan.max_lrs) == (0.3, (0.3, 0.1))
    plan, _, _ = planned("--max-lr", "0.2")
    assert (plan.recipe.max_lr, plan.max_lrs) == (0.2, ())


def test_compare_takes_methods_with_settings_of_their_own(planned):
    options = "--methods orderdp,explore=0.9,exploit=0.5 ucb,every=1,c=0.5 dynamic_random infobatch,prune_ratio=0.99"
    options += " --prune-ratio 0.5 0.25 --seed 4 2 --run here --processes 3"
    plan, path, named = planned(*options.split())
    assert labels(plan) == [
        "OrderDP explore 0.9 exploit 0.5",
        "UCB 50 % c 0.5 every 1",
        "dynamic random 50 %",
        "InfoBatch 99 %",
        "dynamic random 55 %",
        "dynamic random 99 %",
        "UCB 25 % c 0.5 every 1",
        "dynamic random 25 %",
    ]
    assert (plan.seeds, path, named["processes"]) == ((4, 2), Path("here"), 3)


def test_compare_leaves_the_method_of_a_recipe_aside(planned):
    Recipe(strategy=FullData(), epochs=7, seed=5).write("full.toml")
    Recipe(strategy=OrderDP(explore=0.9, exploit=0.5, uniform_share=0.1, initial_score=0), epochs=7).write("split.toml")
    for name in ("full.toml", "split.toml"):
        plan, _, _ = planned("--recipe", name, "--prune-ratio", "0.5")
        assert labels(plan) == ["OrderDP 50 %", "InfoBatch 50 %", "dynamic random 50 %"]
        assert plan.pruned()[0] == plan.recipe
        assert (to_table(plan.recipe.strategy), plan.recipe.epochs) == ({"name": "orderdp", "prune_ratio": 0.5}, 7)


def test_settings_of_the_training_replace_the_recipes_own(planned):
    plan, _, _ = planned("--dataset", "cifar10", "--model", "resnet18", "--epochs", "3", "--augment", "none")
    shipped = load_recipe(shipped_recipes()["cifar10_resnet18"])
    assert plan.recipe == shipped.model_copy(
        update={"epochs": 3, "augment": "none", "strategy": OrderDP(prune_ratio=0.3)}
    )


USAGE = "'orderdp compare --help' explains"


MISTAKEN = {
    "an unknown method": (
        "--methods orderpd",
        "argument --methods: no strategy named 'orderpd'; did you mean 'orderdp'? ('orderdp methods' lists them; a "
        "class of yours is MODULE:CLASS)",
    ),
    "a setting without value": (
        "--methods ucb,c",
        "argument --methods: a setting is NAME=VALUE without spaces, got 'c'; write epsilon=0.2",
    ),
    "full data": (
        "--methods full",
        "argument --methods: a method must prune, got full, which is trained beside them; leave it out",
    ),
    "an option of train": ("--strategy ucb", "no option --strategy; did you mean '--methods'?"),
    "a value too many": ("--epochs 5 6", "--epochs takes one value, got 5 6; leave 6 out"),
    "a mistyped option": ("--method ucb", "no option --method; did you mean '--methods'?"),
}


@pytest.mark.parametrize(("options", "line"), list(MISTAKEN.values()), ids=list(MISTAKEN))
def test_a_mistaken_call_gets_one_line_and_status_2(call, here, options, line):
    status, out, err = call("compare", *options.split())
    assert (status, out) == (2, "")
    assert err.startswith(f"orderdp compare: {line}")
    assert err.endswith(f" ({USAGE})\n" if line.endswith("?") else f"; {USAGE}\n")
    assert err.count("\n") == 1
    assert not list(here.iterdir())


REFUSED = {
    "percent": (
        "--prune-ratio 30 50",
        "--prune-ratio is a fraction and must lie in [0, 1), got 30; for 30 % write 0.3",
    ),
    "one ratio of several": (
        "--prune-ratio 0.3 50",
        "--prune-ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5",
    ),
    "a seed twice": ("--seed 1 1", "--seed must be given once each, got [1, 1]; leave the repeats out"),
    "a ratio twice": (
        "--prune-ratio 0.5 0.50",
        "--prune-ratio must be given once each, got [0.5, 0.5]; leave the repeats out",
    ),
    "a method twice": (
        "--methods ucb,c=2 orderdp ucb,c=2",
        "--methods must be given once each, got ['ucb,c=2', 'orderdp', 'ucb,c=2']; leave the repeats out",
    ),
    "rates beside what is held out": (
        "--max-lr 0.1 0.2 --held-out 0.1",
        "--max-lr are chosen on training images that no run is evaluated on, got held_out 0.1; leave one of them out",
    ),
    "a seed in words": ("--seed one", "--seed must be a whole number, got 'one'; write --seed 0"),
    "a setting that the method does not take": (
        "--methods ucb,epsilon=0.1",
        "epsilon does not apply to strategy 'ucb', got 0.1; it takes --prune-ratio, c, smoothing, every",
    ),
    "kakurenbo with label smoothing": (
        "--methods kakurenbo",
        "kakurenbo needs plain losses, and label smoothing keeps them high, "
        "got label_smoothing 0.1; write --label-smoothing 0, or set a lower confidence (0.53 for 0.1 on ten classes): "
        "kakurenbo,confidence=0.53",
    ),
    "kakurenbo within a schedule": (
        "--methods scheduled:kakurenbo,start=0.5",
        "kakurenbo needs plain losses, and label smoothing keeps them high, "
        "got label_smoothing 0.1; write --label-smoothing 0, or set a lower confidence (0.53 for 0.1 on ten classes): "
        "scheduled:kakurenbo,start=0.5,confidence=0.53",
    ),
    "a method that cannot be within classes": (
        "--methods per_class:infobatch",
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got "
        "InfoBatch(prune_probability=0.3); write per_class:orderdp",
    ),
    "a method that cannot keep the lowest losses": (
        "--methods scheduled:dynamic_random,easy_from=0.5",
        "easy_from needs a method that can keep the lowest losses, got DynamicRandom(prune_ratio=0.3); "
        "write scheduled:orderdp,easy_from=0.5",
    ),
    "wrong labels in percent": (
        "--label-noise 20",
        "--label-noise is a fraction and must lie in [0, 1], got 20; for 20 % write 0.2",
    ),
    "a share that is no percentage": (
        "--label-smoothing -1",
        "--label-smoothing is a fraction and must lie in [0, 1), got -1; write --label-smoothing 0.1",
    ),
    "no process": (
        "--processes 0",
        "--processes must be a whole number from 1, and 1 under several ranks, got 0; write --processes 1",
    ),
    "processes in words": (
        "--processes two",
        "--processes must be a whole number from 1, and 1 under several ranks, got two; write --processes 1",
    ),
    "half a process": (
        "--processes 1.5",
        "--processes must be a whole number from 1, and 1 under several ranks, got 1.5; write --processes 1",
    ),
    "no folder to go on with": (
        "--resume runs",
        "the folder of a comparison must hold recipe.toml and comparison.toml, got runs; "
        "write the folder of an earlier 'orderdp train' or 'orderdp compare'",
    ),
    "other options beside --resume": (
        "--resume runs --epochs 3 --run new --methods ucb --seed 1 --prune-ratio 0.5 --recipe digits",
        "--resume takes its settings from the run folder, all but --methods, --prune-ratio, --seed, --budgets and "
        "--data-root, got --epochs --recipe --run; leave them out",
    ),
}


@pytest.mark.parametrize(("options", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_bad_input_gets_one_line_and_status_2_and_leaves_no_trace(call, here, options, line):
    assert call("compare", *options.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


def test_compare_prints_the_table_and_goes_on_with_nothing_left(call):
    status, out, err = call(*SMALL)
    assert status == 0
    names = ["OrderDP 50 %", "dynamic random 50 %", "full data", "full data, steps of OrderDP 50 %"]
    end = "settings, metrics, checkpoints: run; 'orderdp report run' makes a page of tables and plots\n"
    begun = [f"[{number}/4] {label}, seed 0" for number, label in enumerate(names, 1)]
    assert begun_or_failed(err) == [*begun, *end.splitlines()]
    table, note, conclusion = out.rstrip("\n").split("\n\n")
    assert [re.split("  +", line)[0] for line in table.splitlines()] == ["run", *names]
    assert note.startswith("Differences are in percentage points, ")
    assert conclusion.startswith("OrderDP at 50 % ended ")
    assert folders("run") == SMALL_RUNS
    assert call("compare", "--resume", "run") == (0, out, end)
    Path("run/full-data-seed0/result.json").unlink()
    status, _, err = call("compare", "--resume", "run", "--processes", "1")
    assert (status, begun_or_failed(err)) == (0, ["[3/4] full data, seed 0", *end.splitlines()])


def test_seeds_are_added_to_what_is_there_and_the_runs_that_are_finished_stay(call):
    assert call(*SMALL)[0] == 0
    before = {name: Path("run", name, "result.json").read_bytes() for name in SMALL_RUNS}
    status, out, err = call("compare", "--resume", "run", "--seed", "2", "0", "1")
    begun = [line for line in begun_or_failed(err) if line.startswith("[")]
    assert status == 0
    assert [re.sub(r"\[\d+/12\] .*, ", "", line) for line in begun] == ["seed 2"] * 4 + ["seed 1"] * 4
    assert load_comparison(Path("run"))[0].seeds == (0, 2, 1)
    assert folders("run") == sorted(name.replace("seed0", f"seed{seed}") for name in SMALL_RUNS for seed in range(3))
    assert {name: Path("run", name, "result.json").read_bytes() for name in SMALL_RUNS} == before
    assert "±" in out


def test_methods_and_ratios_are_added_to_what_is_there(call):
    assert call(*SMALL)[0] == 0
    before = {name: Path("run", name, "result.json").read_bytes() for name in SMALL_RUNS}
    status, out, err = call("compare", "--resume", "run", "--methods", "ucb,every=1", "orderdp")
    assert (status, begun_or_failed(err)[:2]) == (0, ["[3/5] UCB 50 % every 1, seed 0", *begun_or_failed(err)[1:2]])
    assert labels(load_comparison(Path("run"))[0]) == ["OrderDP 50 %", "dynamic random 50 %", "UCB 50 % every 1"]
    status, out, err = call("compare", "--resume", "run", "--prune-ratio", "0.3", "0.5")
    assert status == 0
    assert labels(load_comparison(Path("run"))[0])[3:] == ["OrderDP 30 %", "dynamic random 30 %", "UCB 30 % every 1"]
    assert {name: Path("run", name, "result.json").read_bytes() for name in SMALL_RUNS} == before
    assert "UCB 30 % every 1" in out
    assert "full data, steps of OrderDP 30 %" in out


def test_budgets_are_added_to_what_is_there_and_tell_what_a_method_is_worth(call):
    assert call(*SMALL)[0] == 0
    twice = "orderdp: budgets must be given once each, got [0.25, 1.5, 0.25]; leave the repeats out\n"
    assert call("compare", "--resume", "run", "--budgets", "0.25", "1.5", "0.25") == (2, "", twice)
    status, out, _ = call("compare", "--resume", "run", "--budgets", "0.25", "1.5")
    assert status == 0
    assert load_comparison(Path("run"))[0].budgets == (0.25, 1.5)
    assert {"full-data-25-of-the-steps-seed0", "full-data-150-of-the-steps-seed0"} < set(folders("run"))
    assert "full data, 150 % of the steps" in out
    assert call("report", "run")[0] == 0
    schedules = Path("run/report/tables/schedules.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[0] for line in schedules[1:]] == [
        '"full data, 25 % of the steps",2',
        '"full data, steps of OrderDP 50 %",4',
        "full data,7",
        '"full data, 150 % of the steps",10',
    ]
    assert "of the steps" not in Path("run/report/tables/accuracy.csv").read_text()


def test_methods_are_refused_before_the_plan_is_changed(call):
    assert call(*SMALL)[0] == 0
    before = Path("run/comparison.toml").read_bytes()
    line = "prune_ratio is a fraction and must lie in [0, 1), got 30; for 30 % write 0.3"
    assert call("compare", "--resume", "run", "--prune-ratio", "30") == (2, "", f"orderdp: {line}\n")
    line = "b does not apply to strategy 'ucb', got 1; it takes prune_ratio, c, smoothing, every"
    assert call("compare", "--resume", "run", "--methods", "ucb,b=1") == (2, "", f"orderdp: {line}\n")
    line = (
        "the sizes must keep at least one of the 200 samples, got q = 0 from prune_ratio=0.999; write larger fractions"
    )
    status, out, err = call("compare", "--resume", "run", "--prune-ratio", "0.999")
    assert (status, out, err.startswith(f"orderdp: {line} to keep, ")) == (2, "", True)
    assert Path("run/comparison.toml").read_bytes() == before


def test_seeds_are_refused_before_the_plan_is_changed(call):
    assert call(*SMALL)[0] == 0
    before = Path("run/comparison.toml").read_bytes()
    line = "seed must lie in [0, 2**63), got -1; write seed = 0"
    assert call("compare", "--resume", "run", "--seed", "1", "-1") == (2, "", f"orderdp: {line}\n")
    assert Path("run/comparison.toml").read_bytes() == before


def test_a_comparison_goes_on_where_its_data_has_moved_to(call, image_folder):
    options = [
        "--dataset",
        "folder",
        "--data-root",
        "images",
        "--image-size",
        "8",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    options += ["--epochs", "1", "--model", "small_cnn", "--num-threads", "1", "--methods", "orderdp", "--seed", "0"]
    status, out, err = call("compare", *options, "--prune-ratio", "0.5", "--run", "run")
    assert (status, "OrderDP 50 %" in out) == (0, True), err
    Path("run/full-data-seed0/result.json").unlink()
    Path("images").rename("moved")
    assert call("compare", "--resume", "run")[0] == 2
    assert call("compare", "--resume", "run", "--data-root", "nowhere")[0] == 2
    assert load_comparison(Path("run"))[0].recipe.data_root == "images"
    assert call("compare", "--resume", "run", "--data-root", "moved")[:2] == (0, out)
    Path("moved/train/b/0.png").unlink()
    status, _, err = call("compare", "--resume", "run", "--data-root", "moved")
    assert status == 2
    assert err.startswith("orderdp: the data must be that of the runs in run, 16 and 8 samples, got 15")


def test_a_dynamic_random_choice_stands_beside_each_ratio_that_there_is(planned):
    plan = planned("--methods", "orderdp,explore=0.9,exploit=0.5", "--prune-ratio", "0.3")[0]
    assert labels(plan) == ["OrderDP explore 0.9 exploit 0.5", "dynamic random 55 %"]
    plan, _, _ = planned("--methods", "orderdp,prune_ratio=0.9")
    assert labels(plan) == ["OrderDP 90 %", "dynamic random 90 %"]
    plan = planned("--methods", "orderdp,explore=0.9,exploit=0.5", "infobatch", "--prune-ratio", "0.3", "0.7")[0]
    assert labels(plan) == [
        *("OrderDP explore 0.9 exploit 0.5", "InfoBatch 30 %", "dynamic random 55 %", "dynamic random 30 %"),
        *("InfoBatch 70 %", "dynamic random 70 %"),
    ]


def test_runs_that_fail_get_a_line_each_and_status_1_and_the_others_are_in_the_table(call, monkeypatch):
    train = Run.train

    def fail(run):
        if "random" in run.folder.name:
            raise RuntimeError(f"seed {run.recipe.seed} has no max_lr = 3")
        return train(run)

    monkeypatch.setattr(Run, "train", fail)
    status, out, err = call(*SMALL, "--seed", "0", "1")
    assert status == 1
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "missing" in rows["dynamic random 50 %"]
    assert "missing" not in rows["OrderDP 50 %"]
    failed = [line for line in err.splitlines() if " failed: " in line and not line.startswith("orderdp: ")]
    assert failed == [
        f"[{m}/8] dynamic random 50 %, seed {n} failed: seed {n} has no --max-lr 3" for m, n in ((2, 0), (6, 1))
    ]
    missing = "dynamic random 50 %, seed 0; dynamic random 50 %, seed 1"
    last = f"orderdp: some runs are missing, failed: {missing}; resume with orderdp compare --resume run"
    assert err.splitlines()[-1] == last
    monkeypatch.undo()


def test_what_waits_for_a_run_that_failed_is_named(call, monkeypatch):
    train = Run.train

    def fail(run):
        if "InfoBatch" in run.folder.name and "steps" not in run.folder.name:
            raise RuntimeError("no")
        return train(run)

    monkeypatch.setattr(Run, "train", fail)
    options = "--methods infobatch --prune-ratio 0.5 --seed 0 --run run"
    status, _, err = call("compare", *TINY, "--epochs", "2", *options.split())
    assert status == 1
    assert err.splitlines()[-1] == (
        "orderdp: some runs are missing, failed: InfoBatch 50 %, seed 0, waiting for a run that failed: "
        "full data, steps of InfoBatch 50 %, seed 0; resume with orderdp compare --resume run"
    )


def alive_in(group):
    """The processes of a group that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(path)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no list of processes here")
def test_a_call_of_several_processes_ends_at_once_when_it_is_interrupted():
    """As Ctrl-C does: a signal to all of them."""
    command = [sys.executable, "-W", "error", "-m", "orderdp", *SMALL, "--epochs", "5000", "--processes", "2"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    end = time.monotonic() + 120
    while len(list(Path("run").glob("*/metrics.jsonl"))) < 2 and time.monotonic() < end:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    *told, last = err.splitlines()
    assert sorted(begun_or_failed(told)) == ["[1/4] OrderDP 50 %, seed 0", "[2/4] dynamic random 50 %, seed 0"]
    assert last == "orderdp: stopped; resume with orderdp compare --resume run"
    while (left := alive_in(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left
    assert not list(Path("run").glob("*/failure.txt"))


def test_methods_are_listed_by_name_with_what_their_ratio_is(call):
    status, out, err = call("methods")
    assert (status, err) == (0, "")
    dynamic, static = (part.splitlines() for part in out.split("\n\n"))
    header, *lines = dynamic
    assert re.split("  +", header) == ["name", "method", "what the prune ratio is"]
    assert [re.split("  +", line) for line in lines] == [
        [name, strategy.label, strategy.ratio_means + ("; 0.7 if no size is given" if name == "orderdp" else "")]
        for name, strategy in BY_NAME.items()
    ]
    header, *lines = static
    assert re.split("  +", header) == ["static method", "method", "what it reads"]
    assert [line.split()[0] for line in lines] == list(coresets.registry.BY_NAME)
    assert call("methods", "--all")[0] == 2


def test_the_settings_of_a_method_are_shown_with_their_defaults(call):
    status, out, err = call("methods", "ucb")
    assert (status, err) == (0, "")
    assert out.startswith("ucb: UCB\n\nKeeps the q samples of highest mean")
    assert [re.split("  +", line) for line in out.splitlines()[-5:]] == [
        ["setting", "default", "what it is"],
        [
            "prune_ratio",
            "that of --prune-ratio",
            "fraction of the data left out of each epoch but the first, in [0, 1)",
        ],
        ["c", "1", "weight of the variance, finite in float32"],
        ["smoothing", "0.8", "a, share of the new value in a moving average, in (0, 1]"],
        ["every", "10", "epochs from one ranking to the next"],
    ]


@pytest.mark.parametrize("name", [*BY_NAME, *coresets.registry.BY_NAME])
def test_every_setting_that_is_shown_says_what_it_is(call, name):
    status, out, _ = call("methods", name)
    assert status == 0
    rows = [re.split("  +", line) for line in out.partition("what it is\n")[2].splitlines()]
    assert all(len(row) == 3 for row in rows)


def test_an_unknown_method_is_refused_with_a_suggestion(call):
    message = "no method named 'proportionl'; did you mean 'proportional'? ('orderdp methods' lists them)"
    assert call("methods", "proportionl") == (2, "", f"orderdp: {message}\n")


def test_the_table_of_a_whole_command_is_kept_in_the_folder(small):
    table, _ = (small / "table.md").read_text().split("\n\n")
    names = ["OrderDP 50 %", "dynamic random 50 %", "full data", "full data, steps of OrderDP 50 %"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]] == names


def test_a_damaged_run_is_named_and_gives_status_1(call, small):
    (small / "full-data-seed0" / "result.json").write_text("{")
    status, _, err = call("compare", "--resume", "run")
    assert status == 1
    assert "orderdp: some runs are missing, damaged: full data, seed 0 (run/full-data-seed0/result.json must" in err


def test_a_run_that_another_process_trains_is_named_and_gives_status_1(call, small):
    (small / "full-data-seed0" / "result.json").unlink()
    with RunFolder(small / "full-data-seed0").locked() as mine:
        assert mine
        status, _, err = call("compare", "--resume", "run")
    assert status == 1
    assert "orderdp: some runs are missing, running in another process: full data, seed 0; resume with " in err

"""The command line as a whole, and `orderdp train`."""

import argparse
import fcntl
import gc
import json
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import weakref
from pathlib import Path

import pytest

import orderdp
import orderdp.report.page  # so that it is not first imported while a test replaces what it takes from others
from orderdp import UCB, DynamicRandom, FullData, InfoBatch, OrderDP, OrderedSGD, SeTa, cli
from orderdp.cli.parser import make_parser
from orderdp.cli.settings import add_settings
from orderdp.comparison import workers
from orderdp.report import outline, plots
from orderdp.training.recipe import Recipe, load_recipe
from orderdp.training.run_folder import RunFolder
from reference.command_line import TINY
from reference.log_lines import begun_or_failed

PLOTS = ["accuracy_samples", "accuracy_time", "loss", "scores", "visits"]


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(plots, "draw_plots", lambda groups, references, folder: None)


@pytest.mark.parametrize("typed", [["methods"], None])
def test_the_collector_rests_during_the_imports_of_a_process_that_is_the_command(capsys, monkeypatch, typed):
    """A call from a program leaves the program's collector alone."""
    collects = []

    def seen(*arguments, **named):
        collects.append(gc.isenabled())
        return make_parser(*arguments, **named)

    monkeypatch.setattr(cli, "make_parser", seen)
    monkeypatch.setattr(sys, "argv", ["orderdp", "methods"])
    before = gc.get_freeze_count()
    try:
        assert cli.main(typed) == 0
        assert capsys.readouterr().err == ""
        assert collects == [typed is not None]
        assert (gc.get_freeze_count() > before, gc.isenabled()) == (typed is None, True)
    finally:
        gc.unfreeze()


def test_a_program_that_calls_the_command_twice_keeps_its_collector(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["orderdp", "methods"])
    try:
        assert cli.main() == 0
        frozen = gc.get_freeze_count()
        garbage = argparse.Namespace()
        garbage.itself, gone = garbage, weakref.ref(garbage)
        del garbage
        assert cli.main() == 0  # else each call would keep what the program dropped before it
        gc.collect()
        assert (gc.get_freeze_count() <= frozen, gone()) == (True, None)
        gc.unfreeze()
        gc.disable()
        assert cli.main() == 0
        assert (gc.isenabled(), gc.get_freeze_count()) == (False, 0)
    finally:
        gc.unfreeze()
        gc.enable()
    assert capsys.readouterr().err == ""


def test_each_level_explains_itself(call):
    for arguments, words in (
        (["--help"], ["usage: orderdp", "train", "--version"]),
        (["train", "--help"], ["examples:", "orderdp train --resume", "--run DIR", "--prune-ratio N [N ...]"]),
    ):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        assert all(word in out for word in words)


def test_the_help_of_train_names_every_setting(call):
    _, out, _ = call("train", "--help")
    assert all(f"--{name.replace('_', '-')} " in out for name in Recipe.model_fields)


def test_the_keys_of_a_second_stage_are_given_as_names_and_values():
    parser = argparse.ArgumentParser()
    add_settings(parser)
    assert parser.parse_args(["--finetune", "epochs=2", "mixup=0.8"]).finetune == {"epochs": 2, "mixup": 0.8}


def test_the_version_is_the_packages(call):
    assert call("--version") == (0, f"orderdp {orderdp.__version__}\n", "")


def test_a_whole_run_prints_the_table_a_conclusion_and_the_folder_and_nothing_else(call):
    status, out, err = call("train", *TINY, "--run", "run")
    assert status == 0
    labels = ["OrderDP 50 %", "full data", "full data, steps of OrderDP 50 %"]
    assert begun_or_failed(err) == [f"[{number}/3] {label}, seed 0" for number, label in enumerate(labels, 1)]
    table, note, conclusion, last = out.rstrip("\n").split("\n\n")
    assert [re.split("  +", line)[0] for line in table.splitlines()] == ["run", *labels]
    assert note.startswith("Accuracy: after the last epoch.")
    assert re.match(r"OrderDP at 50 % ended \d+\.\d\d points (above|below) full data and ", conclusion)
    assert "with one seed this may be chance" in " ".join(conclusion.split())
    assert last == "settings, metrics, checkpoints and plots: run"
    # accuracy, best epoch, samples, samples saved, steps: the recipe's batches are of 32.
    cells = [re.split("  +", line.rstrip()) for line in table.splitlines()[1:]]
    assert [(row[3], row[4], row[5]) for row in (cells[0], cells[2])] == [
        ("100", "50.0 %", "4"),
        ("114", "43.0 %", "4"),
    ]
    assert cells[1][3:5] == ["200", "7"]
    files = {path.relative_to("run").as_posix() for path in Path("run").rglob("*") if path.is_file()}
    members = ["OrderDP-50-seed0", "full-data-seed0", "full-data-steps-of-OrderDP-50-seed0"]
    expected = {
        "recipe.toml",
        "comparison.toml",
        "lock",
        "result.json",
        "table.md",
        *(f"plots/{name}.png" for name in PLOTS),
    }
    for name, step in zip(members, (4, 7, 4), strict=True):
        checkpoint = [f"checkpoint/{step:09d}/{file}" for file in ("model.safetensors", "state.pt", "manifest.json")]
        whole = ("recipe.toml", "lock", "metrics.jsonl", "gradient_norms.npy", "result.json", *checkpoint)
        expected |= {f"{name}/{file}" for file in whole}
    assert files == expected


@pytest.mark.usefixtures("no_plots")
def test_the_default_folder_is_named_after_the_data_set_and_the_time(call):
    status, out, _ = call("train", *TINY, "--against")
    assert status == 0
    (path,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits-\d{8}-\d{6}", path.name)
    assert out.endswith(f"settings, metrics, checkpoints and plots: {path}\n")
    status, again, err = call("train", "--resume", str(path))
    assert (status, again, err) == (0, out, "")


# Options, then the folders of the runs that are made.
SEVERAL = {
    "ratios and seeds": (
        "--prune-ratio 0.5 0.8 --seed 1 2 --against",
        ["OrderDP-50-seed1", "OrderDP-50-seed2", "OrderDP-80-seed1", "OrderDP-80-seed2"],
    ),
    "one reference": ("--against short", ["OrderDP-50-seed0", "full-data-steps-of-OrderDP-50-seed0"]),
    "full data only": ("--strategy full", ["full-data-seed0"]),
    "explore and exploit": ("--explore 0.5 --exploit 0.4 --against", ["OrderDP-explore-0.5-exploit-0.4-seed0"]),
    "a recipe by name": ("--recipe digits --prune-ratio 0.25 --against", ["OrderDP-25-seed0"]),
    "a recipe in a file": ("--recipe my.toml --against", ["dynamic-random-40-seed6"]),
}


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(("options", "members"), list(SEVERAL.values()), ids=list(SEVERAL))
def test_options_say_which_runs_are_made(call, options, members):
    Recipe(strategy=DynamicRandom(prune_ratio=0.4), seed=6).write("my.toml")
    status, _, err = call("train", *TINY, "--run", "run", *options.split())
    assert (status, len(begun_or_failed(err))) == (0, len(members))
    assert sorted(path.name for path in Path("run").iterdir() if path.is_dir()) == members
    recipe = load_recipe("run/recipe.toml")
    assert (recipe.train_size, recipe.epochs, recipe.model) == (200, 1, "small_cnn")
    assert all(RunFolder(Path("run") / name).result()["epochs"] == 1 for name in members)


@pytest.mark.usefixtures("no_plots")
def test_a_recipe_by_name_is_the_shipped_one_but_for_what_was_given(call):
    call("train", *TINY, "--recipe", "digits", "--run", "run", "--augment", "none", "--no-compile", "--against")
    changed = {"train_size": 200, "epochs": 1, "model": "small_cnn", "device": "cpu", "augment": "none"}
    shipped = load_recipe(Path(orderdp.__file__).parent / "training" / "recipes" / "digits.toml")
    assert load_recipe("run/recipe.toml") == shipped.model_copy(update=changed)


def test_training_that_diverges_gets_one_line_as_it_fails_and_one_at_the_end(call):
    diverging = "--max-lr 1e30 --epochs 3 --run run --against --checkpoint-steps 1"
    status, out, err = call("train", *TINY, *diverging.split())
    assert (status, out) == (1, "")
    reason = r"the training loss must stay finite, got (nan|inf) in epoch \d; write a smaller --max-lr than 1e\+30"
    begins, fails, at_the_end = err.splitlines()
    assert begins == "[1/1] OrderDP 50 %, seed 0"
    assert re.fullmatch(rf"\[1/1\] OrderDP 50 %, seed 0 failed: {reason}", fails)
    missing = "orderdp: some runs are missing, failed: OrderDP 50 %, seed 0"
    resume = "start a new folder with other settings, or resume with orderdp train --resume run"
    assert at_the_end == f"{missing}; {resume}"
    assert not Path("run/plots").exists()


INTERRUPTED = {
    "train": ("train --run run", "start", "train"),
    "train, resumed": ("train --resume run", "resume", "train"),
    "compare": ("compare --run run", "start", "compare"),
    "compare, resumed": ("compare --resume run --processes 2", "resume", "compare"),
}


@pytest.mark.parametrize(("arguments", "function", "command"), list(INTERRUPTED.values()), ids=list(INTERRUPTED))
def test_an_interruption_says_how_to_go_on(call, monkeypatch, arguments, function, command):
    def interrupt(*arguments, **named):
        Path("run").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, function, interrupt)
    line = f"orderdp: stopped; resume with orderdp {command} --resume run\n"
    assert call(*arguments.split()) == (130, "", line)


def test_an_interruption_before_anything_is_written_or_of_a_report_has_nothing_to_go_on_with(call, monkeypatch):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "start", interrupt)
    assert call("train", *TINY, "--run", "run") == (130, "", "orderdp: stopped\n")
    monkeypatch.setattr(outline, "collect", interrupt)
    Path("run").mkdir()
    assert call("report", "run") == (130, "", "orderdp: stopped\n")


def test_an_error_of_several_lines_is_told_in_one(call, monkeypatch):
    def fail(*arguments, **named):
        raise RuntimeError("first\n  second")

    monkeypatch.setattr(workers, "start", fail)
    assert call("train", *TINY) == (1, "", "orderdp: first second\n")


def test_a_fault_of_the_library_keeps_its_traceback(call, monkeypatch):
    def fail(*arguments, **named):
        raise KeyError("a fault")

    monkeypatch.setattr(workers, "start", fail)
    with pytest.raises(KeyError, match="a fault"):
        call("train", *TINY)


def test_a_process_ends_with_the_status_and_the_line():
    line = "orderdp: --prune-ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5\n"
    for arguments, status, out, err in (
        (["--version"], 0, f"orderdp {orderdp.__version__}\n", ""),
        (["train", "--prune-ratio", "50"], 2, "", line),
    ):
        command = [sys.executable, "-W", "error", "-m", "orderdp", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_progress_shows_on_a_terminal():
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 40, 160, 0, 0))  # a new one has no columns
    command = [sys.executable, "-m", "orderdp", "train", *TINY, "--epochs", "2", "--run", "run", "--against"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True) as process:
        os.close(end)
        shown = b""
        while piece := _read(terminal):
            shown += piece
        out = process.stdout.read()
    os.close(terminal)
    assert process.returncode == 0
    text = shown.decode()
    assert re.search(r"OrderDP-50-seed0: 100%\|█+\| 8/8 ", text)
    assert "epoch 1: " in text
    assert "epoch 2: " in text
    accuracy = json.loads(Path("run/OrderDP-50-seed0/result.json").read_text())["accuracy_last"]
    assert f", accuracy {accuracy:.2f} %" in text
    assert out.startswith("run ")
    assert "█" not in out


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # what Linux says when the other end is closed
        return b""


def test_a_ratio_beside_the_other_two_sizes_is_refused(call):
    status, out, err = call("train", *TINY, "--prune-ratio", "0.5", "--explore", "0.5", "--exploit", "0.5")
    assert (status, out) == (2, "")
    assert err.startswith("orderdp: --prune-ratio excludes explore and exploit, got prune_ratio=0.5, explore=0.5")


@pytest.fixture
def planned(call, monkeypatch):
    """The plan that a call would carry out, without carrying it out."""

    def plan_of(*options):
        plans = []

        def keep(plan, path, **named):
            plans.append(plan)
            raise RuntimeError("enough")

        monkeypatch.setattr(workers, "start", keep)
        assert call("train", *options) == (1, "", "orderdp: enough\n")
        return plans[0]

    return plan_of


def test_zero_and_no_replace_the_recipes_own(planned):
    Recipe(channels_last=True, drop_last=True, num_workers=3, weight_decay=0.1, label_smoothing=0.2).write("my.toml")
    options = "--no-channels-last --no-drop-last --num-workers 0 --weight-decay 0 --label-smoothing 0"
    expected = Recipe(weight_decay=0, label_smoothing=0)
    assert planned("--recipe", "my.toml", *options.split()).recipe == expected


def test_a_data_set_and_a_model_have_the_recipe_made_for_both(planned):
    shipped = Path(orderdp.__file__).parent / "training" / "recipes"
    both = planned("--dataset", "cifar10", "--model", "resnet18").recipe
    assert both == load_recipe(shipped / "cifar10_resnet18.toml")
    other = planned("--dataset", "cifar10", "--model", "cnn").recipe
    assert other == load_recipe(shipped / "cifar10.toml", model="cnn")


STRATEGIES = {
    "the recipe's own": ("", OrderDP(prune_ratio=0.5)),
    "another, at the recipe's ratio": ("--strategy ucb --settings every=1 c=2", UCB(prune_ratio=0.5, c=2, every=1)),
    "another, at its own": ("--strategy infobatch --prune-ratio 0.3", InfoBatch(prune_probability=0.3)),
    "annealed": ("--strategy infobatch --settings delta=0.5 --epochs 8", InfoBatch(epochs=8, delta=0.5)),
    "in the epochs given": ("--strategy seta --epochs 8", SeTa(prune_ratio=0.5, epochs=8)),
    "full data": ("--strategy full", FullData()),
    "explore": ("--explore 0.9", OrderDP(explore=0.9)),
    "settings of orderdp": (
        "--settings per=iteration fresh=true initial_score=-inf",
        OrderDP(prune_ratio=0.5, per="iteration", fresh=True, initial_score=-math.inf),
    ),
    "one of the recipe's two sizes": ("--recipe imagenet_resnet18 --explore 1", OrderDP(explore=1, exploit=0.9)),
    "a ratio in place of two sizes": ("--recipe imagenet_resnet18 --prune-ratio 0.3", OrderDP(prune_ratio=0.3)),
    "another, at the ratio of two sizes": (
        "--recipe imagenet_resnet18 --strategy dynamic_random",
        DynamicRandom(prune_ratio=0.28),
    ),
    "more settings of a recipe's own": ("--recipe ucb.toml --settings c=2", UCB(prune_ratio=0.3, c=2, every=1)),
    "another ratio of a recipe's own": ("--recipe ucb.toml --prune-ratio 0.9", UCB(prune_ratio=0.9, every=1)),
    "another than a recipe's own": ("--recipe ucb.toml --strategy ordered_sgd", OrderedSGD(keep=0.7)),
    "of a recipe of release 0.1": ("--recipe old.toml --settings c=2", UCB(prune_ratio=0.3, c=2, every=1)),
    "where there is no recipe": ("--dataset folder --data-root x", OrderDP(prune_ratio=0.5)),
}


@pytest.mark.parametrize(("options", "strategy"), list(STRATEGIES.values()), ids=list(STRATEGIES))
def test_the_options_of_the_strategy_replace_the_recipes_own(planned, options, strategy):
    Recipe(strategy=UCB(prune_ratio=0.3, every=1)).write("ucb.toml")
    Path("old.toml").write_text('strategy = "ucb"\nprune_ratio = 0.3\nper = "epoch"\n\n[settings]\nevery = 1\n')
    (recipe,) = planned(*options.split()).pruned()
    assert recipe.strategy == strategy


def test_several_ratios_are_as_many_strategies_with_the_other_settings(planned):
    plan = planned("--strategy", "ucb", "--settings", "every=1", "--prune-ratio", "0.3", "0.7")
    assert [recipe.strategy for recipe in plan.pruned()] == [UCB(prune_ratio=ratio, every=1) for ratio in (0.3, 0.7)]


def test_a_reader_that_has_seen_enough_gets_no_error():
    command = [sys.executable, "-m", "orderdp", "plan", "--num-samples", "1000", "--epochs", "5"]
    command += ["--batch-size", "10", "--prune-ratio", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 1)

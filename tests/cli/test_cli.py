"""The command line as a whole, and `orderdp train`."""

import argparse
import fcntl
import gc
import gzip
import hashlib
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
import torch

import orderdp
import orderdp.report.page  # so that it is not first imported while a test replaces what it takes from others
from orderdp import UCB, DynamicRandom, FullData, InfoBatch, OrderDP, OrderedSGD, SeTa, cli
from orderdp.cli.messages import in_flags
from orderdp.cli.parser import make_parser
from orderdp.cli.settings import add_settings
from orderdp.comparison import workers
from orderdp.data import fashion_mnist
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


USAGE = "'orderdp train --help' explains"


MISTAKEN = {
    "nothing": ([], "orderdp: the following arguments are required: COMMAND; 'orderdp --help' explains"),
    "an option before the command": (["-x", "train"], f"orderdp train: no option -x; {USAGE}"),
    "a mistyped option": (
        ["train", "--epoch", "3"],
        f"orderdp train: no option --epoch; did you mean '--epochs'? ({USAGE})",
    ),
    "a mistyped option with its value": (
        ["train", "--prun-ratio=0.5"],
        f"orderdp train: no option --prun-ratio=0.5; did you mean '--prune-ratio'? ({USAGE})",
    ),
    "a word too many": (["train", "fast"], f"orderdp train: got fast, one value too many; leave it out; {USAGE}"),
    "a value too many": (
        ["train", "--max-lr", "0.1", "0.2"],
        "orderdp train: --max-lr takes one value, got 0.1 0.2; leave 0.2 out, or write 'orderdp compare', which takes "
        f"several; {USAGE}",
    ),
    "a value too many behind a sign": (
        ["train", "--epochs=5", "6"],
        f"orderdp train: --epochs takes one value, got 5 6; leave 6 out; {USAGE}",
    ),
    "a value of a switch": (
        ["train", "--download", "3"],
        f"orderdp train: --download takes no value, got 3; leave 3 out; {USAGE}",
    ),
    "an option of compare": (
        ["train", "--budgets", "0.5"],
        f"orderdp train: no option --budgets; 'orderdp compare' has it; {USAGE}",
    ),
    "an option without its value": (
        ["train", "--run"],
        f"orderdp train: argument --run: expected one argument; {USAGE}",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), list(MISTAKEN.values()), ids=list(MISTAKEN))
def test_a_mistaken_call_gets_one_line_and_status_2(call, here, arguments, line):
    assert call(*arguments) == (2, "", f"{line}\n")
    assert not list(here.iterdir())


def test_an_unknown_command_gets_one_line_and_status_2(call):
    explains = "'orderdp --help' explains"
    assert call("trian") == (2, "", f"orderdp: no command 'trian'; did you mean 'train'? ({explains})\n")
    choices = "train, compare, coreset, methods, plan, study, paper, report, images"
    assert call("xyz") == (2, "", f"orderdp: no command 'xyz'; choose from {choices}; {explains}\n")


FRACTION = "--prune-ratio is a fraction and must lie in [0, 1), got"


REFUSED = {
    "prune ratio in percent": ("--prune-ratio 50", f"{FRACTION} 50; for 50 % write 0.5"),
    "negative prune ratio": ("--prune-ratio -1", f"{FRACTION} -1; write a number such as 0.5"),
    "prune ratio nan": ("--prune-ratio nan", f"{FRACTION} nan; write a number such as 0.5"),
    "one of several prune ratios": ("--prune-ratio 0.5 1.5", f"{FRACTION} 1.5; for 1.5 % write 0.015"),
    "no number": ("--prune-ratio half", f"{FRACTION} 'half'; write a number such as 0.5"),
    "no whole number": ("--epochs 2.5", "--epochs must be a whole number, got 2.5; write --epochs 30"),
    "negative seed": ("--seed 0 -1", "--seed must lie in [0, 2**63), got -1; write --seed 0"),
    "a seed twice": ("--seed 3 3", "--seed must be given once each, got [3, 3]; leave the repeats out"),
    "nothing kept": (
        "--train-size 200 --prune-ratio 0.999 --against full",
        "the sizes must keep at least one of the 200 samples, got q = 0 from prune_ratio=0.999; "
        "write larger fractions to keep, or a smaller prune ratio",
    ),
    "prune ratio beside explore": (
        "--prune-ratio 0.5 --strategy full",
        "--prune-ratio does not apply to strategy 'full', got 0.5; leave --prune-ratio out",
    ),
    "a method that cannot be within classes": (
        "--strategy per_class:infobatch",
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got "
        "InfoBatch(); write per_class:orderdp",
    ),
    "unknown strategy": (
        "--strategy orderpd",
        "no strategy named 'orderpd'; did you mean 'orderdp'? ('orderdp methods' lists them; a class of yours is "
        "MODULE:CLASS)",
    ),
    "unknown data set": (
        "--dataset cifar",
        "no data set named 'cifar'; did you mean 'cifar10'?",
    ),
    "unknown model": (
        "--model smallcnn",
        "no model named 'smallcnn'; did you mean 'small_cnn'? (model_names() and timm.list_models() list them)",
    ),
    "unknown reference": (
        "--against nothing",
        "no reference named 'nothing'; choose from full, short, or give none of them",
    ),
    "no data root": (
        "--dataset cifar10 --data-root data",
        "--data-root must be a folder that exists, got data; create it or correct it",
    ),
    "too large a subset": (
        "--train-size 2000",
        "--train-size must lie in [1, 1437], the number of samples, got 2000; leave it out to take all",
    ),
    "a prune ratio twice": (
        "--prune-ratio 0.5 0.25 0.5",
        "--prune-ratio must be given once each, got [0.5, 0.25, 0.5]; leave the repeats out",
    ),
    "a setting twice": ("--strategy ucb,c=2 --settings c=3", "c is given twice, as 2 and 3; write it once"),
    "a ratio in two places": (
        "--strategy ucb,prune_ratio=0.3 --prune-ratio 0.5",
        "--prune-ratio is given twice, as 0.3 and 0.5; write it once",
    ),
    "a setting that the method does not take": (
        "--strategy ucb --settings epsilon=0.1",
        "epsilon does not apply to strategy 'ucb', got 0.1; it takes --prune-ratio, c, smoothing, every",
    ),
    "kakurenbo with label smoothing": (
        "--strategy kakurenbo --prune-ratio 0.3",
        "kakurenbo needs plain losses, and label smoothing keeps them high, "
        "got label_smoothing 0.1; write --label-smoothing 0, or set a lower confidence (0.53 for 0.1 on ten classes): "
        "--settings confidence=0.53",
    ),
    "no recipe": (
        "--recipe digts",
        "a recipe must be a readable file, got 'digts' (No such file or directory); write the path of a TOML file",
    ),
    "no run folder": (
        "--resume runs",
        "the folder of a comparison must hold recipe.toml and comparison.toml, got runs; "
        "write the folder of an earlier 'orderdp train' or 'orderdp compare'",
    ),
    "other options beside --resume": (
        "--resume runs --epochs 3 --run new --against full --recipe digits --strategy ucb --prune-ratio 0.5",
        "--resume takes its settings from the run folder, all but --seed and --data-root, "
        "got --against --epochs --prune-ratio --recipe --run --strategy; leave them out",
    ),
    "sizes, settings and no reference beside --resume": (
        "--resume runs --explore 0.5 --exploit 0.5 --settings fresh=true --no-drop-last --against",
        "--resume takes its settings from the run folder, all but --seed and --data-root, "
        "got --against --drop-last --exploit --explore --settings; leave them out",
    ),
    "one setting beside --resume": (
        "--resume runs --epochs 3",
        "--resume takes its settings from the run folder, all but --seed and --data-root, got --epochs; leave it out",
    ),
}


@pytest.mark.parametrize(("options", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_bad_input_gets_one_line_and_status_2_and_leaves_no_trace(call, here, options, line):
    assert call("train", *options.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(call, here):
    line = "orderdp: --device must exist on this machine, got cuda; write cpu or auto\n"
    assert call("train", "--device", "cuda") == (2, "", line)
    assert not list(here.iterdir())


RECIPES = {
    "unknown key": ("epoch = 3", "no recipe key 'epoch'; did you mean 'epochs'?"),
    "two mistakes": ("epochs = 0\nmax_lr = -1", "epochs must lie in [1, inf), got 0; write epochs = 30 (and 1 more)"),
    "not TOML": (
        "epochs : 3",
        "a recipe must be valid TOML, got 'my.toml': "
        "Expected '=' after a key in a key/value pair (at line 1, column 8); "
        'write a line such as dataset = "digits"',
    ),
}


@pytest.mark.parametrize(("text", "line"), list(RECIPES.values()), ids=list(RECIPES))
def test_a_bad_recipe_gets_one_line(call, here, text, line):
    Path("my.toml").write_text(text)
    assert call("train", "--recipe", "my.toml") == (2, "", f"orderdp: {line}\n")
    assert [path.name for path in here.iterdir()] == ["my.toml"]


def test_half_a_data_set_and_a_wrong_file_are_named(call, here, monkeypatch):
    root = here / "data"
    root.mkdir()
    names = list(fashion_mnist.MD5)
    for name in names[:3]:
        (root / f"{name}.gz").write_bytes(gzip.compress(b"wrong"))
    arguments = ["train", "--dataset", "fashion_mnist", "--data-root", str(root)]
    status, out, err = call(*arguments)
    lacks = f"orderdp: fashion_mnist lacks the file {names[3]} in {root}; put it there, or write --download\n"
    assert (status, out, err) == (2, "", lacks)
    (root / names[3]).write_bytes(b"wrong")
    status, out, err = call(*arguments)
    md5, wrong = fashion_mnist.MD5[names[0]], hashlib.md5(b"wrong", usedforsecurity=False).hexdigest()
    line = (
        f"orderdp: fashion_mnist: the file {root / names[0]}.gz must have content of md5 {md5}, got {wrong}; "
        "delete it and fetch it again\n"
    )
    assert (status, out, err) == (2, "", line)
    assert [path.name for path in here.iterdir()] == ["data"]


def test_a_run_folder_that_exists_is_refused_and_left_alone(call, here):
    Path("mine").mkdir()
    line = "orderdp: the run folder must be new, got mine, which exists; write another --run, or --resume mine\n"
    assert call("train", *TINY, "--run", "mine") == (2, "", line)
    assert [path.name for path in here.rglob("*")] == ["mine"]


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
    for arguments, status, out, err in (
        (["--version"], 0, f"orderdp {orderdp.__version__}\n", ""),
        (["train", "--prune-ratio", "50"], 2, "", f"orderdp: {FRACTION} 50; for 50 % write 0.5\n"),
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


MESSAGES = [
    ("epochs must be whole, got 2.5; write epochs = 30", "--epochs must be whole, got 2.5; write --epochs 30"),
    ("n must be at least 1, got 0; write it", "--num-samples must be at least 1, got 0; write it"),
    (
        "data_root must exist, got data_root; name a data_root",
        "--data-root must exist, got data_root; name a --data-root",
    ),
    ("it is not there; or write download=True", "it is not there; or write --download"),
    ("nothing is there, got 3; write download=False", "nothing is there, got 3; write --no-download"),
    ("nothing is there, got 3; write download = false", "nothing is there, got 3; write --no-download"),
    ("it is not there, got 3; write download = true", "it is not there, got 3; write --download"),
    ("prune_ratios must ascend, got [0.5, 0.3]; sort them", "--prune-ratio must ascend, got [0.5, 0.3]; sort them"),
    ("data_roots must exist, got x; write steps", "--data-root must exist, got x; write steps"),
    ("seeds must be whole, got 2.5; write ranks = 3", None),  # a plural without underscore is no list of settings
    ("a run of batch_sizes, got steps; write batch_size", "a run of --batch-size, got steps; write --batch-size"),
    (
        "must not, got 3; write num_steps = 2, not warmup_steps",
        "must not, got 3; write --num-steps 2, not warmup_steps",
    ),
    ("indices must be whole, got 1.5; write FixedSubset(indices)", None),
    ("the folder must be new, got steps; write --resume prune_ratio", None),
    ("batch_size/plan.png could not be written (no room); make room", None),
    ("a run of epochs and steps, got none; give model_names()", None),
    ("parser must not count, got name_of; write call = 3", None),
    ("see 'batch_size = 3', got none; see data_root.txt or data_root()", None),
]


@pytest.mark.parametrize(("message", "shown"), MESSAGES)
def test_messages_name_settings_as_they_are_typed_and_leave_the_rest(message, shown):
    flags = ["--epochs", "--num-samples", "--data-root", "--download", "--batch-size", "--prune-ratio", "--steps"]
    flags += ["--seed", "--rank", "--num-steps", "--num-step"]
    for file in ({"recipe": "my.toml"}, {"resume": Path("runs")}):
        assert in_flags(message, argparse.Namespace(flags=flags, **file)) == message
    assert in_flags(message, argparse.Namespace(flags=flags, recipe=None, resume=None)) == (shown or message)


def test_a_reader_that_has_seen_enough_gets_no_error():
    command = [sys.executable, "-m", "orderdp", "plan", "--num-samples", "1000", "--epochs", "5"]
    command += ["--batch-size", "10", "--prune-ratio", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 1)

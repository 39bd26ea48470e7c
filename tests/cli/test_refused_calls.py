"""What `orderdp` says of mistaken calls and bad input: one line and status 2, in the words that were typed."""

import argparse
import gzip
import hashlib
from pathlib import Path

import pytest
import torch

from orderdp.cli.messages import in_flags
from orderdp.data import fashion_mnist
from reference.command_line import TINY

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

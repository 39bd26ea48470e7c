"""What is wrong with a call is said in one line that helps, with status 2; what fails in a run has status 1."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orderdp.cli.extras import PACKAGES, what_is_missing
from orderdp.cli.messages import unknown_option
from orderdp.cli.parser import COMMANDS
from orderdp.comparison import workers
from orderdp.output.toml import read_toml
from reference.command_line import TINY

LISTS = {
    "--prune-ratio 0.5,0.7": "several values are separated by spaces, got 0.5,0.7; write 0.5 0.7",
    "--prune-ratio 0.5, 0.7": "several values are separated by spaces, got 0.5,; write 0.5",
    "--prune-ratio 0,5": "several values are separated by spaces, got 0,5; write 0 5, or 0.5 for one number",
    "--seed 0,1,2": "several values are separated by spaces, got 0,1,2; write 0 1 2",
    "--against full,short": "several values are separated by spaces, got full,short; write full short",
    "--settings c=2,every=1": "several settings are separated by spaces, got c=2,every=1; write c=2 every=1",
    "compare --prune-ratio 0.5,0.7": "several values are separated by spaces, got 0.5,0.7; write 0.5 0.7",
    "compare --seed 0,1": "several values are separated by spaces, got 0,1; write 0 1, or 0.1 for one number",
    "compare --methods orderdp,infobatch": (
        "several methods are separated by spaces, got orderdp,infobatch; write orderdp infobatch"
    ),
    "compare --methods orderdp,explore=0.9,my_module:Mine,ucb": (
        "several methods are separated by spaces, got orderdp,explore=0.9,my_module:Mine,ucb; "
        "write orderdp,explore=0.9 my_module:Mine ucb"
    ),
    "study table8 --seed 0,1": "several values are separated by spaces, got 0,1; write 0 1, or 0.1 for one number",
    "report run --accuracy 80,90": "several values are separated by spaces, got 80,90; write 80 90",
}


@pytest.mark.parametrize("typed", list(LISTS))
def test_a_list_with_commas_is_told_to_have_spaces(call, here, typed):
    arguments = typed.split() if typed.split()[0] in COMMANDS else ["train", *typed.split()]
    status, out, err = call(*arguments)
    option = next(argument for argument in arguments if argument.startswith("--"))
    line = f"orderdp {arguments[0]}: argument {option}: {LISTS[typed]}; 'orderdp {arguments[0]} --help' explains\n"
    assert (status, out, err) == (2, "", line)
    assert not list(here.iterdir())


UNKNOWN = {
    "train --lr 0.1": "no option --lr; did you mean '--max-lr'?",
    "paper --size cpu --html page.html": "no option --html; did you mean '--page paper.html'?",
    "train --learning-rate 0.1": "no option --learning-rate; did you mean '--max-lr'?",
    "train --ratio=0.5": "no option --ratio=0.5; did you mean '--prune-ratio'?",
    "train --workers 2": "no option --workers; did you mean '--num-workers'?",
    "train --smoothing 0": "no option --smoothing; did you mean '--label-smoothing'?",
    "train --wd 0": "no option --wd; did you mean '--weight-decay'?",
    "train --method ucb": "no option --method; did you mean '--strategy'?",
    "train --epoch 3": "no option --epoch; did you mean '--epochs'?",
    "compare --method ucb": "no option --method; did you mean '--methods'?",
    "compare --strategy ucb": "no option --strategy; did you mean '--methods'?",
    "compare --lr 0.1": "no option --lr; did you mean '--max-lr'?",
    "report run --out x": "no option --out",
    "report run --html": "no option --html",
    "compare --against full": "no option --against; 'orderdp train' has it",
    "compare --log csv": "no option --log; 'orderdp train' has it",
    "methods orderdp ucb": "got ucb, one value too many; leave it out",
    "plan --num-samples 9 --epochs 9 --batch-size 3 --hour 3": "no option --hour; did you mean '--hours'?",
}


@pytest.mark.parametrize("typed", list(UNKNOWN))
def test_an_option_by_another_name_is_answered_with_its_own(call, typed):
    command = typed.split()[0]
    explains = f"'orderdp {command} --help' explains"
    end = f" ({explains})" if UNKNOWN[typed].endswith("?") else f"; {explains}"
    assert call(*typed.split()) == (2, "", f"orderdp {command}: {UNKNOWN[typed]}{end}\n")


def test_a_word_that_many_options_have_names_the_nearest_only():
    flags = ["--train-size", "--image-size", "--batch-size", "--eval-batch-size"]
    assert unknown_option("--size", flags) == "no option --size; did you mean '--train-size'?"
    assert unknown_option("--size", flags[:2]) == "no option --size; did you mean '--train-size' or '--image-size'?"


EMPTY = [
    "train --data-root=",
    "train --run=",
    "train --resume=",
    "train --model=",
    "study table8 --data-root=",
    "report ''",
]


@pytest.mark.parametrize("typed", EMPTY)
def test_an_empty_value_is_not_the_working_directory(call, here, typed):
    status, out, err = call(*("" if word == "''" else word for word in typed.split()))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "a value must not be empty; leave the option out, or write a value" in err
    assert not list(here.iterdir())


FOLDERS = {
    "ignored": (
        "--data-root .",
        "--data-root applies to data sets 'fashion_mnist', 'rotated_fashion_mnist', 'cifar10', 'cifar100', ",
    ),
    "ignored, and not there": (
        "--data-root no",
        "--data-root applies to data sets 'fashion_mnist', 'rotated_fashion_mnist', ",
    ),
    "mistyped": (
        "--dataset cifar10 --data-root no",
        "--data-root must be a folder that exists, got no; create it or c",
    ),
    "mistyped for a download": (
        "--dataset cifar10 --data-root no/data --download",
        "--data-root must be a folder that exists, got no/data; create it or correct it",
    ),
    "without the files": (
        "--dataset fashion_mnist --data-root .",
        "--data-root must hold fashion_mnist, got . without",
    ),
    "a download that is ignored": (
        "--download",
        "--download applies to data sets 'fashion_mnist', 'rotated_fashion_mnist', ",
    ),
}


@pytest.mark.parametrize(("typed", "line"), list(FOLDERS.values()), ids=list(FOLDERS))
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_folder_of_data_that_is_ignored_or_mistyped_is_refused(call, here, command, typed, line):
    status, out, err = call(command, *typed.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"orderdp: {line}")
    assert not list(here.iterdir())


BAD = [
    "trian",
    "train fast",
    "train --epochs 0",
    "train --epochs -3",
    "train --epochs 1e3",
    "train --epochs nan",
    "train --epochs inf",
    "train --batch-size 0",
    "train --train-size 200 --batch-size 999 --drop-last",
    "train --max-lr inf",
    "train --max-lr -1",
    "train --momentum 1",
    "train --max-steps 99999999",
    "train --prune-ratio 1",
    "train --prune-ratio 1e400",
    "train --explore 2",
    "train --exploit 0",
    "train --explore 1e-9",
    "train --settings per=never",
    "train --settings c=1",
    "train --strategy no_module:Mine",
    "train --strategy os:path",
    "train --strategy :",
    "train --dataset no_module:load",
    "train --dataset .:load",
    "train --dataset os:sep",
    "train --model nothing",
    "train --optimizer sdg",
    "train --schedule sine",
    "train --precision fp16",
    "train --seed -1",
    "train --seed 99999999999999999999",
    "train --num-threads 0",
    "train --recipe nothing.toml",
    "train --recipe .",
    "train --resume nothing",
    "train --run x --resume y",
    "compare --processes 0",
    "compare --methods",
    "compare --prune-ratio 2",
    "compare --resume nothing",
    "compare --margin 0",
    "compare --margin small",
    "compare --margin 0.5 --seeds-max 2",
    "compare --margin 0.5 --prune-ratio 0 0.5",
    "compare --margin 0.5 --prune-ratio 0.5 1",
    "compare --margin 0.5 --budgets 0.5",
    "compare --margin 0.5 --max-lr 0.1 0.2",
    "compare --margin 0.5 --seeds-max 3 --seed 0 1 2 3",
    "compare --seeds-max 20",
    "compare --resume nothing --prune-ratio 0.5",
    "study",
    "study nothing",
    "study nothing.toml",
    "study table8 --size huge",
    "study --resume nothing",
    "report",
    "report nothing",
    "report .",
    "report bad.xz",
    "report nothing --archive a.xz",
    "plan",
    "plan --num-samples 0 --epochs 1 --batch-size 1 --prune-ratio 0.5",
    "plan --num-samples 9 --epochs 1 --batch-size 1",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --prune-ratio 0.5 --steps 3",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --hours nan --full-hours 1",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --hours 1 --full-hours 0",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --steps inf",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --samples 1e400",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --prune-ratio 0.5 --plot p.doc",
    "plan --num-samples 9 --epochs 1 --batch-size 1 --prune-ratio 0.5 --plot no/p.png",
    "methods all",
    "images",
    "images --output new",
    "images --output new --dataset cifar10O --data-root .",
    "images --output new --dataset digits --image-size 0",
    "images --output new --dataset digits --image-size small",
    "images --output new --dataset digits --classes 11",
    "images --output new --dataset digits --train-size 2000",
    "images --output new --dataset digits --download",
    "images --output bad.xz --dataset digits",
]


@pytest.mark.parametrize("typed", BAD)
def test_all_bad_input_gets_one_line_and_status_2(call, here, typed):
    (here / "bad.xz").write_bytes(b"no archive")
    status, _, err = call(*typed.split())
    told = [line for line in err.splitlines() if not line.startswith("orderdp: imports ")]
    assert (status, len(told)) == (2, 1), err
    assert told[0].startswith("orderdp")
    assert [path.name for path in here.iterdir()] == ["bad.xz"]


@pytest.mark.parametrize("error", [RuntimeError, FloatingPointError, MemoryError, ImportError, OSError])
def test_what_is_no_fault_of_the_call_has_status_1(call, monkeypatch, error):
    def fail(*arguments, **named):
        raise error("why")

    monkeypatch.setattr(workers, "start", fail)
    assert call("train", *TINY) == (1, "", "orderdp: why\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_gets_advice_on_it_and_not_on_room(call, here):
    (here / "closed").mkdir(mode=0o500)
    status, _, err = call("train", *TINY, "--run", "closed/run")
    line = (
        "orderdp: closed/run could not be written (Permission denied); existing files are unchanged; write a path where"
    )
    assert (status, err.startswith(line)) == (2, True)


def test_a_system_error_is_told_without_its_number(call, monkeypatch):
    def fail(*arguments, **named):
        raise PermissionError(13, "Permission denied", "there")

    monkeypatch.setattr(workers, "start", fail)
    assert call("train", *TINY) == (2, "", "orderdp: there: Permission denied\n")


BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from orderdp.cli import main
sys.exit(main())
"""


PLAN = ["plan", "--num-samples", "900", "--epochs", "3", "--batch-size", "30", "--prune-ratio", "0.5"]


def without_extras(*arguments):
    """Runs the command where only torch and NumPy can be imported, and what torch brings."""
    blocked = set(PACKAGES) - {"filelock", "jinja2"}
    command = [sys.executable, "-c", f"BLOCKED = {blocked}\n{BLOCK}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["methods"], ["methods", "--help"], ["plan", "--help"], PLAN]
)
def test_without_the_extras_a_newcomer_gets_the_help_and_the_methods(arguments, call):
    assert without_extras(*arguments) == call(*arguments)


@pytest.mark.parametrize("command", ["train", "compare", "coreset", "study"])
def test_without_the_extras_the_help_of_a_command_says_what_its_options_need(command, call):
    status, out, err = without_extras(command, "--help")
    if (status, out, err) == call(command, "--help"):
        return
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: orderdp {command}")
    assert re.search(r"Its options need [\w-]+: pip install .*\bpydantic\b", out)


def test_without_the_extras_training_names_the_packages_to_install_and_no_index_of_this_one():
    status, out, err = without_extras("train")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert re.match(r"orderdp: train needs [\w-]+: pip install ", err)
    packages = err.split("pip install ")[1].split()
    assert {"accelerate", "pydantic", "safetensors", "scikit-learn", "timm", "torchvision"} <= set(packages)


def test_the_packages_to_install_are_those_of_the_extra():
    extras = read_toml(Path(__file__).parents[2] / "pyproject.toml", "a project", example="")["project"]
    listed = [line for extra in ("theory", "coresets", "train") for line in extras["optional-dependencies"][extra]]
    names = {re.match(r"[\w-]+", line)[0] for line in listed} - {"orderdp", "tomli"}
    assert set(PACKAGES.values()) - {"tomli"} == names


def test_a_package_of_the_user_that_is_missing_is_not_sought_among_the_extras():
    assert what_is_missing(ModuleNotFoundError("no", name="pandas.core")) == "pandas, which is not installed"
    assert what_is_missing(ModuleNotFoundError("no", name="timm.optim")) == "timm: pip install timm"

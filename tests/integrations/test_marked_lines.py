"""Without the marked lines, an example of a framework is the plain training script that it was made from."""

import ast
import itertools
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MARK, PLAIN = "  # orderdp", "# plain: "
MARKED = sorted(path.stem for path in EXAMPLES.glob("*.py") if f"{MARK}\n" in path.read_text(encoding="utf-8"))


def text_of(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def plain(text: str) -> str:
    """The script without the marked lines, and with the plain ones."""
    kept = [line for line in text.splitlines() if not line.endswith(MARK)]
    return "\n".join(re.sub(rf"^( *){PLAIN}", r"\1", line) for line in kept) + "\n"


def names(source: str) -> set[str]:
    """All names of a script: of modules, variables, arguments and attributes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.name for alias in node.names} | {str(getattr(node, "module", ""))}
        found |= {value for field in ("id", "attr", "arg") if isinstance(value := getattr(node, field, None), str)}
    return found


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?", line)]


def lightning_fit(lines: list[str]) -> None:
    whole, resumed = (numbers(line) for line in lines[:2])
    assert whole[:2] == resumed[:2] == [6 * -(-1437 // 32), 0]
    assert min(whole[2], resumed[2]) > 90
    assert lines[2].endswith("False")  # Lightning begins the epoch of a plain loader anew


def accelerate_loop(lines: list[str]) -> None:
    steps = 6 * -(-2000 // (2 * 32))
    assert numbers(lines[0]) == [0, 6, steps, steps, 0]
    assert lines[3].endswith("True")


def hf_causal_lm(lines: list[str]) -> None:
    _, planned = numbers(lines[0])
    assert planned == 3 * -(-1000 // 32)
    assert numbers(lines[1]) == [planned, 0]
    assert numbers(lines[2])[1] < 4.2
    assert lines[3].endswith("True")  # the Trainer resumes full data by itself


def hf_text_classification(lines: list[str]) -> None:
    assert numbers(lines[0]) == [12 * -(-2000 // 32), 0]
    assert numbers(lines[1])[0] > 90


def ignite_engine(lines: list[str]) -> None:
    assert [numbers(line)[1] for line in lines[:4]] == [63 * epoch for epoch in range(1, 5)]
    assert numbers(lines[4]) == [4 * 63, 0]


def skorch_net(lines: list[str]) -> None:
    assert [numbers(line)[:2] for line in lines[:4]] == [[epoch, 63] for epoch in range(1, 5)]


def small_gpt(lines: list[str]) -> None:
    assert numbers(lines[0]) == [(60_000 - 65) // 64 + 1, 64]
    assert numbers(lines[3])[2] == 3 * -(-937 // 32)
    assert lines[4].endswith("False")  # the plain loader begins its epoch anew


def timm_train(lines: list[str]) -> None:
    assert numbers(lines[0]) == [6 * 25, 16, 6, 2 * 25]


# The long ones run with fewer epochs or less data.
SHORTER = {
    "hf_causal_lm": ("EPOCHS = 5\n", "EPOCHS = 3\n"),
    "small_gpt": ("TRAIN_BYTES, TEST_BYTES = 200_000,", "TRAIN_BYTES, TEST_BYTES = 60_000,"),
    "timm_train": ("EPOCHS = 12\n", "EPOCHS = 6\n"),
}
# What the plain script prints: full data, in as many steps as that takes.
PRINTS: dict[str, Callable[[list[str]], None]] = {
    printed.__name__: printed
    for printed in (
        *(lightning_fit, accelerate_loop, hf_causal_lm, hf_text_classification, ignite_engine, skorch_net),
        *(small_gpt, timm_train),
    )
}
SLOW = {
    "hf_causal_lm",
    "hf_text_classification",
    "small_gpt",
}  # over ten seconds; tests/test_examples.py runs them with their marked lines


def test_there_are_marked_examples():
    assert "lightning_fit" in MARKED


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MARKED]
)
def test_without_the_marked_lines_a_plain_script_is_left(name, scripts, tmp_path):
    source = plain(text_of(name))
    assert not {found for found in names(source) if re.search("orderdp|prun", found, re.IGNORECASE)}
    for module in re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE):
        if find_spec(module) is None:
            pytest.skip(f"{name} needs {module}")
    long, shorter = SHORTER.get(name, ("", ""))
    assert long in source
    script = tmp_path / f"{name}.py"
    script.write_text(source.replace(long, shorter, 1), encoding="utf-8")
    done = scripts.run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    PRINTS[name](done.stdout.splitlines())


@pytest.mark.parametrize("name", MARKED)
def test_every_plain_line_stands_above_the_lines_that_replace_it(name):
    lines = text_of(name).splitlines()
    for line, following in itertools.pairwise(lines):
        if line.lstrip().startswith(PLAIN):
            assert following.endswith(MARK) or following.lstrip().startswith(PLAIN), line
            assert len(line) - len(line.lstrip()) == len(following) - len(following.lstrip())


def test_the_plain_script_is_found_by_its_marks():
    text = "import a\nimport orderdp  # orderdp\n# plain: b()\nc()  # orderdp\n    # plain: d()\n    e()  # orderdp\n"
    assert plain(text) == "import a\nb()\n    d()\n"

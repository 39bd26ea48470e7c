"""Without the marked lines, an example of a framework is the plain training script that it was made from."""

import ast
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from reference.torchvision_operators import sitecustomize

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


# What the plain script prints: full data, in as many steps as that takes.
PRINTS: dict[str, Callable[[list[str]], None]] = {
    printed.__name__: printed for printed in (lightning_fit, accelerate_loop)
}


def test_there_are_marked_examples():
    assert "lightning_fit" in MARKED


@pytest.mark.parametrize("name", MARKED)
def test_without_the_marked_lines_a_plain_script_is_left(name, tmp_path):
    source = plain(text_of(name))
    assert not {found for found in names(source) if re.search("orderdp|prun", found, re.IGNORECASE)}
    for module in re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE):
        if find_spec(module) is None:
            pytest.skip(f"{name} needs {module}")
    script = tmp_path / f"{name}.py"
    script.write_text(source, encoding="utf-8")
    path = str(Path(sitecustomize.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
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

"""What an integration says where its framework is not installed: a command that works however orderdp was installed."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orderdp.output.toml import parse_toml

ROOT = Path(__file__).parents[2]
EXTRAS = parse_toml((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
USES = {  # what is imported, and what makes the integration say that it is missing
    "ignite": (["ignite"], "import orderdp.integrations.ignite"),
    "lightning": (
        ["lightning", "pytorch_lightning"],
        "from orderdp.integrations.lightning import Pruning; Pruning(None)",
    ),
    "timm": (["timm"], "import orderdp.integrations.timm"),
    "transformers": (["transformers"], "import orderdp.integrations.transformers"),
}


@pytest.fixture
def last_line(scripts, tmp_path):
    """Returns the last line that a new process prints of its error."""
    return lambda code: scripts.run_code(code, tmp_path).stderr.splitlines()[-1]


@pytest.mark.parametrize("extra", USES)
def test_the_packages_of_the_extra_are_named(extra, last_line):
    modules, use = USES[extra]
    line = last_line(f"import sys; sys.modules |= dict.fromkeys({modules}); {use}")
    said = re.fullmatch(r"ImportError: [\w. ]+ needs? [\w\- ]+: pip install ((?:'[^']+' ?)+)", line)
    assert said, line
    named = {str(Requirement(name)) for name in re.findall(r"'([^']+)'", said[1])}
    assert named == {str(Requirement(name)) for name in EXTRAS[extra]}


@pytest.mark.parametrize("extra", ["ignite", "timm", "transformers"])
def test_a_framework_that_lacks_something_itself_says_so(extra, last_line, tmp_path):
    """The integration does not say that the framework is missing."""
    module = USES[extra][0][0]
    (tmp_path / f"{module}.py").write_text("import a_package_that_is_not_there\n")
    line = last_line(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {USES[extra][1]}")
    assert line == "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"


def test_no_message_names_an_extra():
    """orderdp is installed from a clone, so `pip install "orderdp[...]"` would find no such package."""
    for path in (ROOT / "src").rglob("*.py"):
        assert "orderdp[" not in path.read_text(), path

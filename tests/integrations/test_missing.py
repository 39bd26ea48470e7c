"""What an integration says where its framework is not installed: a command that works however orderdp was installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orderdp.output.toml import parse_toml
from reference.torchvision_operators import sitecustomize

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


def last_line(code):
    """The last line that a new process prints of its error."""
    paths = (ROOT / "src", Path(sitecustomize.__file__).parent)
    begin = f"import sys; sys.path[:0] = {[str(path) for path in paths]}; import sitecustomize; "
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("extra", USES)
def test_the_packages_of_the_extra_are_named(extra):
    modules, use = USES[extra]
    line = last_line(f"sys.modules |= dict.fromkeys({modules}); {use}")
    said = re.fullmatch(r"ImportError: [\w. ]+ needs? [\w\- ]+: pip install ((?:'[^']+' ?)+)", line)
    assert said, line
    named = {str(Requirement(name)) for name in re.findall(r"'([^']+)'", said[1])}
    assert named == {str(Requirement(name)) for name in EXTRAS[extra]}


@pytest.mark.parametrize("extra", ["ignite", "timm", "transformers"])
def test_a_framework_that_lacks_something_itself_says_so(extra, tmp_path):
    """The integration does not say that the framework is missing."""
    module = USES[extra][0][0]
    (tmp_path / f"{module}.py").write_text("import a_package_that_is_not_there\n")
    line = last_line(f"sys.path.insert(0, {str(tmp_path)!r}); {USES[extra][1]}")
    assert line == "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"


def test_no_message_names_an_extra():
    """orderdp is installed from a clone, so `pip install "orderdp[...]"` would find no such package."""
    for path in (ROOT / "src").rglob("*.py"):
        assert "orderdp[" not in path.read_text(), path

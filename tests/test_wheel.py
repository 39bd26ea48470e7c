"""The built package: what the sdist and the wheel hold, and that a fresh environment with only the wheel can use it."""

import email
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import orderdp

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "orderdp"
# Folders of the environment that runs the tests, so that torch is not downloaded again. A .pth file puts them after the
# fresh environment's own packages. Their own .pth files are not read, so an editable install there stays out of sight.
BORROWED = [path for path in sys.path if path.endswith("site-packages")]

pytestmark = pytest.mark.slow


def command(*words: str | Path, **settings: object) -> str:
    """Runs a command and returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    command(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the sdist, so that an sdist that lacks a file is noticed."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    command(sys.executable, "-m", "pip", "wheel", sdist, *offline, "--wheel-dir", folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The folder of a fresh environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(BORROWED) + "\n")
    return folder


def files_of_source() -> set[str]:
    return {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_source_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_source()
    assert {"orderdp/py.typed", "orderdp/training/recipes/digits.toml", "orderdp/paper/studies/table2.toml"} <= names
    assert any(name.endswith(".html.j2") for name in names)


def test_the_sdist_holds_source_tests_and_documents_but_no_results(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in files_of_source()} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "Makefile"} <= names
    assert {"tests/test_wheel.py", "examples/four_lines.py", "docs/strategies.md", "benchmarks/timing.py"} <= names
    assert not {name for name in names if name.startswith("results")}
    assert sdist.stat().st_size < 2_000_000


def test_the_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == orderdp.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    needed = {line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert needed == {"numpy>=1.26", "torch>=2.4"}


def test_a_fresh_environment_runs_the_four_lines_with_the_code_of_the_wheel(fresh, tmp_path):
    python = fresh / "bin" / "python"
    where = command(python, "-c", "import orderdp; print(orderdp.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(fresh)
    output = command(python, "-W", "error", ROOT / "examples" / "four_lines.py", cwd=tmp_path)
    assert "718 of 1437 samples in each epoch" in output


def test_a_fresh_environment_has_the_command_with_its_recipes_studies_and_templates(fresh, tmp_path):
    orderdp_command = fresh / "bin" / "orderdp"
    tiny = "--train-size 100 --epochs 1 --model small_cnn --device cpu --num-threads 1 --run run"
    assert "OrderDP" in command(orderdp_command, "train", *tiny.split(), cwd=tmp_path)
    assert (tmp_path / "run" / "table.md").exists()
    assert "table2" in command(orderdp_command, "study", "--help", cwd=tmp_path)

"""Custom data sets on the command line."""

import sys
from pathlib import Path

import pytest

from orderdp.cli import main
from orderdp.report import plots
from orderdp.training.run_folder import RunFolder

LOAD = """
import numpy as np

def load(data_root, image_size=None):
    seed = int((data_root / "seed.txt").read_text())
    rng = np.random.default_rng(seed)
    side = image_size or 8
    return tuple((rng.integers(0, 256, (n, 2, side, side), dtype=np.uint8), np.arange(n) % 3) for n in (90, 30))

def wrong():
    return 3
"""
SMALL = ["--epochs=1", "--model=small_cnn", "--device=cpu", "--num-threads=1", "--batch-size=16", "--prune-ratio=0.5"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with a module that holds a data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plots, "draw_plots", lambda *arguments: None)
    (tmp_path / "custom_sets.py").write_text(LOAD)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "seed.txt").write_text("7")
    yield tmp_path
    sys.modules.pop("custom_sets", None)


def test_train_takes_a_custom_data_set_with_its_data_root_and_image_size(here):
    data = ["--dataset", "custom_sets:load", "--data-root", "kept", "--image-size", "12"]
    assert main(["train", *data, *SMALL, "--against"]) == 0
    (path,) = (here / "runs").iterdir()
    assert path.name.startswith("custom_sets-load-")
    recipe = RunFolder(path / "OrderDP-50-seed0").recipe()
    assert (recipe.dataset, recipe.data_root, recipe.image_size) == ("custom_sets:load", "kept", 12)
    assert RunFolder(path / "OrderDP-50-seed0").result()["samples_backward"] == 45


@pytest.mark.slow
def test_compare_takes_a_custom_data_set_in_all_of_its_processes(scripts):
    data = ["--dataset", "custom_sets:load", "--data-root", "kept"]
    options = [*data, *SMALL, "--methods", "orderdp", "--seed", "0", "--processes", "2", "--run", "compared"]
    done = scripts.run_command("compare", *options)
    assert done.returncode == 0, done.stderr
    assert len(list(Path("compared").glob("*/result.json"))) == 4


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "custom_sets:wrong",
            "a data set function must return ((train images, train labels), (test images, test labels)), got int from "
            "custom_sets:wrong",
        ),
        ("custom_sets:laod", "no laod in module custom_sets; did you mean 'load'?"),
    ],
)
def test_what_is_no_data_set_gets_one_line_and_leaves_no_trace(capsys, here, name, line):
    before = sorted(path.name for path in here.iterdir())
    assert main(["train", "--dataset", name, *SMALL]) == 2
    imports = f"orderdp: imports custom_sets from {here / 'custom_sets.py'}\n"
    assert capsys.readouterr().err == f"{imports}orderdp: {line}\n"
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == before

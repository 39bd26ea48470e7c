import subprocess
import sys

import pytest

from orderdp.data.imports import import_image_library

# A torchvision whose compiled operators cannot be loaded, whatever the one at hand is.
WITHOUT_OPERATORS = """
import torch
def refuse(path):
    raise OSError("built for another torch")
torch.ops.load_library = refuse
"""


def run_python(program: str) -> None:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_torchvision_and_timm_import_without_the_compiled_operators():
    run_python(
        WITHOUT_OPERATORS
        + """
from orderdp.data.imports import import_image_library
timm = import_image_library("timm")
assert timm.version.__version__ == timm.__version__
assert import_image_library("timm.optim").Lars
image = import_image_library("torchvision.transforms.v2.functional").horizontal_flip(torch.tensor([[[1, 2]]]))
assert image.tolist() == [[[2, 1]]]
assert not import_image_library("torchvision.extension")._has_ops()
"""
    )


def test_the_models_of_transformers_import_without_the_compiled_operators():
    run_python(
        WITHOUT_OPERATORS
        + """
from orderdp.training.masked import MaskedAutoencoder
assert MaskedAutoencoder("tiny_vit", in_channels=1, image_size=8).autoencoder
"""
    )


def test_importing_the_trainers_parts_loads_neither_package():
    run_python(
        """
import sys
import orderdp.training.models, orderdp.training.optim
assert not {"timm", "torchvision"} & set(sys.modules)
"""
    )


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"^the trainer needs timm: pip install timm$"):
        import_image_library("timm")


def test_other_errors_of_an_import_pass_and_nothing_is_imported_again(tmp_path, monkeypatch):
    (tmp_path / "broken_once.py").write_text(
        """
from pathlib import Path
marker = Path(__file__).with_suffix(".seen")
if not marker.exists():
    marker.touch()
    raise RuntimeError("no such device")
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"^no such device$"):
        import_image_library("broken_once")

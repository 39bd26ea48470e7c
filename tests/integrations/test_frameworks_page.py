"""The code of each framework's section in the documents runs."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from orderdp.data.imports import import_image_library

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")
SECTIONS = {"accelerate": "accelerate", "torchdata": "torchdata", "PyTorch-Ignite": "ignite"}
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11, torch 2.13


@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_of_a_section_trains(section):
    pytest.importorskip(SECTIONS[section])
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    rng = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3)
    names = {
        "model": model,
        "train_set": TensorDataset(torch.randn(200, 4, generator=rng), torch.randint(3, (200,), generator=rng)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "epochs": 3,
        "__name__": "page",
    }
    first_weights = model.weight.detach().clone()
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(block, names)
    assert names["pruner"].report().visits == 3 * 100
    assert not torch.equal(model.weight, first_weights)


class Pictures(Dataset):
    """Grey pictures; `create_loader` sets `transform`."""

    transform = None

    def __len__(self):
        return 200

    def __getitem__(self, index):
        return self.transform(Image.new("RGB", (32, 32), (index, index, index))), index % 3


def test_the_code_of_the_section_on_timm_trains():
    try:
        import_image_library("timm")  # torchvision may be built for another torch
    except ImportError:
        pytest.skip("needs timm")
    (text,) = re.findall(r"^## timm\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    names = {
        "model": model,
        "train_set": Pictures(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=1e-4),
        "epochs": 2,
        "device": torch.device("cpu"),
        "__name__": "page",
    }
    exec(block, names)
    assert names["pruner"].report().visits == 2 * 96  # of 100 samples, in full batches of 16

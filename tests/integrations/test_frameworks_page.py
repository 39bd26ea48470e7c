"""The code of each framework's section in the documents runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

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

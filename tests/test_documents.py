"""What the documents say is what the files hold and what the code does."""

import doctest
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import orderdp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["README.md", "docs/theory.md"])
def test_each_table_of_results_is_the_file_that_its_command_wrote(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    shown = re.findall(r"<!-- (results/\S+\.md) -->\n\n(.*?)\n\n", text + "\n", flags=re.DOTALL)
    assert len(shown) == text.count("<!-- results/") > 0
    for path, table in shown:
        assert table == (ROOT / path).read_text(encoding="utf-8").strip(), path


def test_the_loop_in_the_readme_trains():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    model = nn.Linear(4, 3)
    train_set = TensorDataset(torch.randn(500, 4), torch.randint(3, (500,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {"model": model, "train_set": train_set, "optimizer": optimizer, "epochs": 3}
    exec(code, names)
    pruner = names["pruner"]
    assert pruner.report().visits == 3 * 250
    assert names["scheduler"].last_epoch == pruner.total_steps(3, batch_size=128)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_line_of_code_in_the_documents_gives_what_it_says(path):
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert (failed, tried > 5) == (0, True)


def test_every_erratum_has_a_check():
    sections = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8").split("\n## ")[1:]
    unchecked = [section.partition("\n")[0] for section in sections if ">>>" not in section]
    assert unchecked == ["Algorithm 1: which loss is stored"]  # a matter of definition


@pytest.mark.parametrize(
    "path", ["README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/theory.md", "docs/errata.md"]
)
def test_links_to_files_lead_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).parent.joinpath(target).exists(), target


def test_the_version_is_the_same_everywhere():
    for path, pattern in (("pyproject.toml", r'^version = "(.+)"$'), ("CITATION.cff", r"^version: (.+)$")):
        (version,) = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert version == orderdp.__version__, path

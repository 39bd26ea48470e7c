"""What the documents say is what the files hold and what the code does."""

import doctest
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import orderdp
import orderdp.diagnostics
from embed_tables import DOCUMENTS, EMBEDDED, with_tables
from orderdp.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_table_of_results_is_the_one_in_the_file_that_its_comment_names(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    tables = [found[3] for found in EMBEDDED.finditer(text)]
    assert len(tables) == text.count("<!-- results/") > 0
    assert all(tables)
    assert with_tables(text) == text


def test_each_number_of_two_decimals_in_the_findings_is_in_a_table_of_results():
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    tables = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "results").rglob("*.md"))
    numbers = re.findall(r"[+−]\d+\.\d\d \[[^\]]+\]|\d+\.\d\d(?: ± \d+\.\d\d)?", prose)
    assert len(numbers) > 5
    assert [number for number in numbers if number not in tables] == []


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


def test_the_average_in_the_training_loop_keeps_whole_numbers_at_any_decay():
    page = (ROOT / "docs/training-loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from torch.optim.swa_utils import AveragedModel.*?)```", page, flags=re.DOTALL)
    assert "(0.999)" in code
    code, each_step = code.replace("(0.999)", "(0.9999)").split("# after each optimizer.step()\n")
    model = nn.BatchNorm1d(4)
    model.register_buffer("positions", torch.arange(512))
    names = {"model": model}
    exec(code, names)
    for _ in range(3):
        model(torch.randn(8, 4))
        exec(each_step, names)
    average = names["averaged_model"].module
    assert torch.equal(average.positions, torch.arange(512))
    assert average.num_batches_tracked == 3
    assert not torch.equal(average.running_mean, model.running_mean)


def test_the_loop_in_the_diagnostics_measures_what_it_says(capsys):
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/diagnostics.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    rng = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    train_set = TensorDataset(torch.randn(256, 4, generator=rng), torch.randint(3, (256,), generator=rng))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {"model": model, "train_set": train_set, "optimizer": optimizer, "epochs": 6}
    names["evaluate"] = lambda model: float(len(names["accuracies"]))
    exec(code, names)
    realised, never_seen, max_age, full, surrogate = map(float, capsys.readouterr().out.split())
    assert (realised, never_seen) == (0.5, 0.0)
    assert 0 < max_age < 6
    assert all(-1 <= cosine <= 1 and cosine not in (-1, 0, 1) for cosine in (full, surrogate))
    assert len(names["unsteady"]) == 6 * 4 - 19
    assert len(names["similarities"]) == 5
    assert -1 <= names["r"] <= 1


def test_every_function_of_the_diagnostics_stands_in_their_table():
    text = (ROOT / "docs/diagnostics.md").read_text(encoding="utf-8")
    functions = {name for name in orderdp.diagnostics.__all__ if inspect.isfunction(getattr(orderdp.diagnostics, name))}
    assert set(re.findall(r"^\| `(\w+)\(", text, flags=re.MULTILINE)) == functions


def strategy_of_the_documents():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extend.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


def test_the_strategy_in_the_documents_is_compared_by_module_and_class(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "most_moved.py").write_text(strategy_of_the_documents(), encoding="utf-8")
    tiny = "--train-size 200 --epochs 2 --model small_cnn --device cpu --num-threads 1 --seed 0 --run run --processes 2"
    try:
        status = main(
            ["compare", *tiny.split(), "--methods", "orderdp", "most_moved:MostMoved", "--prune-ratio", "0.7"]
        )
    finally:
        sys.modules.pop("most_moved", None)
    assert status == 0
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert rows[1:4] == ["OrderDP 70 %", "MostMoved 70 %", "dynamic random 70 %"]
    result = json.loads((tmp_path / "run" / "MostMoved-70-seed0" / "result.json").read_text())
    assert result["samples_backward"] == 2 * 60


def test_the_strategy_in_the_documents_keeps_the_laws_and_is_short():
    code = strategy_of_the_documents()
    assert len(code.strip().splitlines()) <= 30
    module = ModuleType("extend")
    sys.modules["extend"] = module  # where pickle looks for the class
    try:
        exec(code, vars(module))
        pruner = orderdp.Pruner(module.MostMoved(prune_ratio=0.7), 100)
        assert len(pruner.begin_epoch().indices) == 30
    finally:
        del sys.modules["extend"]


def test_every_strategy_has_a_card_whose_calls_are_valid():
    text = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    cards = re.findall(r"^## (\w+)$", text, flags=re.MULTILINE)
    public = {name for name, value in vars(orderdp.strategies).items() if inspect.isclass(value)}
    methods = {name for name in public if issubclass(getattr(orderdp.strategies, name), orderdp.Strategy)} - {
        "Strategy"
    }
    assert set(cards) == methods
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == methods
    names = {**{name: getattr(orderdp, name) for name in orderdp.__all__}, "indices": [1, 2], "weights": [1, 2]}
    calls = re.findall(r"`((?:\w+)\((?!method)[^`]*\))`", text)
    assert len(calls) >= len(methods)
    for call in calls:
        assert isinstance(eval(call, names), orderdp.Strategy), call
    known = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (yes|no) \|", text, flags=re.MULTILINE))
    for name in methods:
        strategy = next(eval(call, names) for call in calls if call.startswith(f"{name}("))
        assert (strategy.num_selected(1_000, 5) is not None) == (known[name] == "yes"), name


@pytest.mark.parametrize("name", ["theory.md", "errata.md"])
def test_every_line_of_code_in_the_documents_gives_what_it_says(name):
    failed, tried = doctest.testfile(str(ROOT / "docs" / name), module_relative=False)
    assert (failed, tried > 5) == (0, True)


def test_every_erratum_has_a_check():
    sections = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8").split("\n## ")[1:]
    unchecked = [section.partition("\n")[0] for section in sections if ">>>" not in section]
    assert unchecked == ["Algorithm 1: which loss is stored"]  # a matter of definition


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "CHANGELOG.md",
        "benchmarks/README.md",
        *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_links_to_files_lead_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", text):
        file = (ROOT / path).parent.joinpath(target)
        assert file.exists(), target
        if file.name == "tables.md" and anchor:
            assert f'<a id="{anchor[1:]}"></a>' in file.read_text(encoding="utf-8"), (target, anchor)


def test_the_version_is_the_same_everywhere():
    for path, pattern in (("pyproject.toml", r'^version = "(.+)"$'), ("CITATION.cff", r"^version: (.+)$")):
        (version,) = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert version == orderdp.__version__, path

"""A loop with Lightning Fabric, and the code of the documents for Lightning and Fabric."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import orderdp
from orderdp import UCB, InfoBatch
from reference.lightning_runs import QUIET, QUIETLY, Trace, bare, built, lightning, losses_of, network, optimizer_of

fabric = pytest.importorskip("lightning.fabric")
pytestmark = QUIETLY
SHRINKING = UCB(prune_ratio=0.5)
PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")


def train(strategy, epochs, *, stop=None, path=None, **arguments):
    """Trains with Fabric; after `stop` batches it saves and ends, and with a path alone it goes on from there."""
    runtime = fabric.Fabric(accelerator="cpu", devices=1)
    pruner, loader = built(strategy, **arguments)
    model, trace = network(), Trace()
    optimizer, scheduler = optimizer_of(model)
    model, optimizer = runtime.setup(model, optimizer)
    batches = runtime.setup_dataloaders(loader)
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    if stop is None and path is not None:
        runtime.load(path, state)
    for _ in range(pruner.next_epoch, epochs):
        for index, (x, y) in batches:
            loss = pruner.update(index, losses_of(model, x, y))
            trace.add(index, loss, optimizer)
            runtime.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            trace.steps += 1
            if trace.steps == stop:
                runtime.save(path, state)
                return trace
    return trace


@pytest.mark.parametrize("strategy", [SHRINKING, InfoBatch(prune_probability=0.9, delta=0.75, epochs=3)], ids=repr)
@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=["plain", "workers"])
def test_a_loop_with_fabric_trains_what_a_bare_loop_trains(strategy, arguments):
    train(strategy, 3, **arguments).equals(bare(strategy, 3))


@pytest.mark.parametrize("stop", [4, 10, 12])
def test_a_loop_with_fabric_resumes_inside_and_at_the_end_of_an_epoch(stop, tmp_path):
    expected = bare(SHRINKING, 3)
    first = train(SHRINKING, 3, stop=stop, path=tmp_path / "state.ckpt")
    then = train(SHRINKING, 3, path=tmp_path / "state.ckpt")
    whole = (getattr(first, name) + getattr(then, name) for name in ("ids", "losses", "rates", "steps"))
    Trace(*whole).equals(expected)


def blocks(section):
    """The Python of a section of the page."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def names(tmp_path):
    model = nn.Linear(4, 3)
    return {
        "model": model,
        "train_set": TensorDataset(torch.randn(200, 4), torch.randint(3, (200,))),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "epochs": 3,
        "path": tmp_path / "state.ckpt",
        "F": nn.functional,
        "orderdp": orderdp,
    }


def test_the_code_of_the_documents_for_fabric_runs(tmp_path):
    (code,) = blocks("Fabric")
    given = names(tmp_path)
    exec(code, given)
    assert given["pruner"].report().visits == 3 * 100
    assert set(torch.load(given["path"], weights_only=True)) == {"model", "optimizer", "loader"}


def test_the_code_of_the_documents_for_lightning_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(lightning.Trainer, "__init__", quietly(lightning.Trainer.__init__))
    given = names(tmp_path)
    first, second = blocks("Lightning")
    exec(first, given)
    assert given["pruner"].report().visits == 3 * 100
    assert given["trainer"].global_step == 3 * 4
    exec(second, given)
    pruner = orderdp.Pruner(InfoBatch(prune_probability=0.9, delta=0.75, epochs=4), 200)
    pruning = given["Pruning"](pruner.loader(given["train_set"], batch_size=32))
    model = given["Falling"](nn.Linear(4, 3), pruning)
    trainer = lightning.Trainer(max_epochs=4, callbacks=[pruning])
    trainer.fit(model, pruning.batches)
    assert trainer.global_step < 4 * 7
    assert model.lr_schedulers().get_last_lr() == [pytest.approx(0.0, abs=1e-12)]


def quietly(init):
    return lambda trainer, **arguments: init(trainer, **{**QUIET, **arguments})

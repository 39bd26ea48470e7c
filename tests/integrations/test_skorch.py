"""The net of the example trains what a bare loop trains, goes on with `partial_fit`, and begins anew with `fit`."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import orderdp

skorch = pytest.importorskip("skorch")
N, BATCH = 90, 8
EXAMPLE = Path(__file__).parents[2] / "examples" / "skorch_net.py"


@pytest.fixture(scope="module")
def pruned_net():
    spec = importlib.util.spec_from_file_location("skorch_net", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PrunedNet


def data():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()


class Zeros(nn.Linear):
    """A linear classifier that begins with zeros."""

    def __init__(self):
        super().__init__(3, 2)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def bare(epochs):
    """Losses of the batches, and the weights, of a loop without skorch."""
    model = Zeros()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), N, seed=0)
    loader = pruner.loader(TensorDataset(*data()), batch_size=BATCH)
    batches = []
    for _ in range(epochs):
        for index, (x, y) in loader:
            loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            batches.append(loss.item())
    return batches, model.weight.detach(), pruner


def losses_of(net):
    return [batch["train_loss"] for epoch in net.history for batch in epoch["batches"]]


def test_epochs_of_fit_and_partial_fit_are_those_of_a_bare_loop(pruned_net):
    arguments = {"criterion": nn.CrossEntropyLoss, "lr": 0.1, "batch_size": BATCH, "train_split": None, "verbose": 0}
    net = pruned_net(Zeros, **arguments)
    net.fit(*data(), epochs=2)
    net.partial_fit(*data(), epochs=2)
    losses, weight, pruner = bare(4)
    assert losses_of(net) == pytest.approx(losses, rel=1e-6)
    torch.testing.assert_close(net.module_.weight.detach(), weight)
    for name, column in pruner.table().items():
        torch.testing.assert_close(net.pruner_.table()[name], column)
    assert pruner.report().visits == 4 * N // 2
    net.fit(*data(), epochs=2)
    assert losses_of(net) == pytest.approx(losses[: len(losses) // 2], rel=1e-6)


@pytest.mark.parametrize("seed", [0, None])
def test_only_a_seeded_split_keeps_the_samples_of_the_pruner(pruned_net, seed):
    trained = []

    class Watched(pruned_net):
        def get_iterator(self, dataset, **how):
            if how.get("training"):
                trained.append(list(dataset.indices))
            return super().get_iterator(dataset, **how)

    split = skorch.dataset.ValidSplit(0.2, random_state=seed)
    net = Watched(Zeros, criterion=nn.CrossEntropyLoss, batch_size=BATCH, train_split=split, verbose=0)
    net.fit(*data(), epochs=1)
    net.partial_fit(*data(), epochs=1)
    assert net.pruner_.report().visits == 2 * len(trained[0]) // 2
    assert (trained[0] == trained[1]) == (seed is not None)

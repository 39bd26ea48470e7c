"""Keras's `fit` is refused; a Keras model on torch trains in a loop of one's own."""

import os

import pytest
import torch
from torch.utils.data import TensorDataset

from orderdp import OrderDP, Pruner

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
N = 40


def parts():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), N)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    return model, pruner, pruner.loader(TensorDataset(x, x.sum(1)), batch_size=4)


def test_fit_is_refused():
    model, _, loader = parts()
    model.compile(optimizer="sgd", loss="mse")
    with pytest.raises(RuntimeError, match=r"Keras's fit reads batches .* on torch is a torch.nn.Module"):
        model.fit(loader, epochs=2, verbose=0, shuffle=False)


def test_a_keras_model_trains_in_a_bare_loop():
    model, pruner, loader = parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        for index, (x, y) in loader:
            loss = pruner.update(index, (model(x)[:, 0] - y) ** 2)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert len(losses) == 10 * 5
    assert losses[-1] < 0.1 * losses[0]

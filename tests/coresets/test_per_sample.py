"""Per-sample gradients in all parameters against one backward pass for each sample."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from orderdp.coresets import per_sample
from orderdp.coresets.per_sample import alignments, gradient_norms, mean_gradient


class Convolution(nn.Module):
    """Batch normalisation, dropout and a frozen first layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3).requires_grad_(False)
        self.body = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 3))

    def forward(self, x):
        return self.body(self.first(x))


class Attention(nn.Module):
    """Tokens, a transformer layer, tied weights and a dictionary of inputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, batch_first=True)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, *, tokens):
        return self.head(self.layer(self.embed(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


def classes(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y, reduction="none")


def next_tokens(model, batch):
    return F.cross_entropy(model(tokens=batch["tokens"]), batch["next"], reduction="none")


def case(name):
    """A model in training mode, its losses, and its 11 samples in batches of 4."""
    torch.manual_seed(0)
    labels = torch.randint(3, (11,))
    if name == "attention":
        data = {"tokens": torch.randint(7, (11, 5)), "next": torch.randint(7, (11,))}
        parts = [tensor.split(4) for tensor in data.values()]
        return Attention(), next_tokens, [dict(zip(data, part, strict=True)) for part in zip(*parts, strict=True)]
    if name == "recurrent":
        model, inputs = Recurrent(), torch.randn(11, 6, 3)
    else:
        model, inputs = Convolution(), torch.randn(11, 1, 6, 6)
        model(inputs)  # sets the running statistics
    return model, classes, list(zip(inputs.split(4), labels.split(4), strict=True))


cases = pytest.mark.parametrize("name", ["convolution", "attention", "recurrent"])


def single(batches):
    for batch in batches:
        parts = batch.values() if isinstance(batch, dict) else batch
        for row in zip(*(tensor.split(1) for tensor in parts), strict=True):
            yield dict(zip(batch, row, strict=True)) if isinstance(batch, dict) else row


def loop(model, losses_of, batches):
    """(n, parameters), one backward pass for each sample."""
    model.eval()
    rows = []
    for sample in single(batches):
        model.zero_grad()
        losses_of(model, sample).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    model.train()
    return torch.stack(rows).numpy()


@cases
def test_norms_are_those_of_a_backward_pass_for_each_sample(name):
    model, losses_of, batches = case(name)
    expected = np.linalg.norm(loop(model, losses_of, batches), axis=1)
    for chunk_size in (None, 3):
        norms = gradient_norms(model, losses_of, batches, chunk_size=chunk_size)
        np.testing.assert_allclose(norms, expected, rtol=1e-4)


@cases
def test_alignments_are_products_with_the_mean_gradient(name):
    model, losses_of, batches = case(name)
    rows = loop(model, losses_of, batches)
    np.testing.assert_allclose(alignments(model, losses_of, batches), rows @ rows.mean(0), rtol=1e-3, atol=1e-5)


@cases
def test_alignments_along_a_given_direction(name):
    model, losses_of, batches = case(name)
    rows = loop(model, losses_of, batches)
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters() if p.requires_grad}
    flat = torch.cat([tensor.flatten() for tensor in direction.values()]).numpy()
    result = alignments(model, losses_of, iter(batches), direction)
    np.testing.assert_allclose(result, rows @ flat, rtol=1e-3, atol=1e-4)


@cases
def test_the_mean_gradient_is_the_mean(name):
    model, losses_of, batches = case(name)
    found = torch.cat([tensor.flatten() for tensor in mean_gradient(model, losses_of, batches).values()])
    np.testing.assert_allclose(found.numpy(), loop(model, losses_of, batches).mean(0), rtol=1e-3, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model, losses_of, batches = case("convolution")
    model.body[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradient_norms(model, losses_of, batches)
    alignments(model, losses_of, batches)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert [model.training, model.body[0].training, model.body[1].training] == [True, True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_as_many_gradients_are_held_as_fit(monkeypatch):
    held = []

    def spy(function, *, in_dims, chunk_size):
        held.append(chunk_size)
        return torch.func.vmap(function, in_dims=in_dims, chunk_size=chunk_size)

    monkeypatch.setattr(per_sample, "vmap", spy)
    monkeypatch.setattr(per_sample, "_CHUNK_BYTES", 5 * 4 * 10)
    gradient_norms(nn.Linear(10, 1, bias=False), lambda model, x: model(x).sum(1), [torch.ones(7, 10)])
    assert held == [5]


def test_what_does_not_fit_is_refused():
    model, losses_of, batches = case("convolution")

    def mean_loss(model, batch):
        return losses_of(model, batch).mean()

    for function in (gradient_norms, alignments, mean_gradient):
        with pytest.raises(ValueError, match=r'one loss per sample, got shape \(\) for \d samples; .*reduction="none"'):
            function(model, mean_loss, batches)
        with pytest.raises(ValueError, match="needs trained parameters"):
            function(nn.ReLU(), losses_of, batches)
        with pytest.raises(TypeError, match="a batch holds tensors, got str"):
            function(model, losses_of, [(*batches[0], "name")])
    with pytest.raises(TypeError, match="read twice, got an iterator"):
        alignments(model, losses_of, iter(batches))
    with pytest.raises(ValueError, match=r"got another one for 'body\.0\.weight'"):
        alignments(
            model, losses_of, batches, mean_gradient(model, losses_of, batches) | {"body.0.weight": torch.ones(2)}
        )

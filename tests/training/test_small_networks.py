"""The language model sees no later token; the graph network sees neither the order of the nodes nor what is padded."""

import math

import numpy as np
import pytest
import torch

from orderdp.data.base import DataSets, Graphs, Windows
from orderdp.training.check import check_recipe
from orderdp.training.graph_network import GraphNetwork
from orderdp.training.models import model_for
from orderdp.training.objective import objective
from orderdp.training.small_gpt import SmallGPT

PLAIN = {"label_smoothing": 0.0, "train_size": None, "optimizer": "adamw", "weight_decay": 0.0}


@pytest.fixture
def windows():
    """Windows in which each token is the one before it plus one, or at times any other."""
    rng = np.random.default_rng(0)
    jumps = np.where(rng.random((240, 10)) < 0.9, 1, rng.integers(0, 8, (240, 10)))
    tokens = torch.from_numpy(jumps.cumsum(1) % 8)
    return DataSets(Windows(tokens[:200]), Windows(tokens[200:]), num_classes=0, vocabulary=8)


@pytest.fixture
def graphs():
    """Rings and chains of up to six nodes; the label grows with the share of the second kind, less in rings."""
    rng = np.random.default_rng(0)
    matrices, labels = torch.zeros(240, 6, 6, dtype=torch.uint8), torch.zeros(240)
    for number, matrix in enumerate(matrices):
        size, ring = int(rng.integers(3, 7)), number % 2
        kinds = torch.from_numpy(rng.integers(1, 3, size))
        for node in range(size - 1 + ring):
            matrix[node, (node + 1) % size] = matrix[(node + 1) % size, node] = 1 + ring
        matrix[range(size), range(size)] = kinds.to(torch.uint8)
        labels[number] = (kinds == 2).double().mean() - 0.5 * ring
    labels = (labels - labels.mean()) / labels.std()
    parts = (Graphs(matrices[part], labels[part]) for part in (slice(200), slice(200, None)))
    return DataSets(*parts, num_classes=0, vocabulary=3)


def test_the_share_of_the_entropy_is_that_of_the_losses():
    rng = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn((6, 4, 5), generator=rng), torch.randint(4, (6, 4), generator=rng)
    goal = objective(0, 0.0, tokens=5)
    each = [-float(row.log_softmax(0)[label]) for row, label in zip(outputs.view(24, 5), labels.flatten(), strict=True)]
    assert torch.allclose(goal.losses(outputs, labels), torch.tensor(each).view(6, 4).mean(1))
    found = goal.evaluation((goal.sums(outputs[:2], labels[:2]) + goal.sums(outputs[2:], labels[2:])).tolist())
    assert found["test_loss"] == pytest.approx(np.mean(each), rel=1e-6)
    shares = np.bincount(labels.flatten(), minlength=5) / 24
    entropy = -sum(share * math.log(share) for share in shares if share)
    assert found["accuracy"] == pytest.approx(100 * (1 - np.mean(each) / entropy), rel=1e-5)
    assert found["accuracy_worst_class"] is None


def test_what_sees_no_context_explains_nothing():
    labels = torch.tensor([[0, 0, 1, 0]])
    outputs = torch.tensor([3 / 4, 1 / 4]).log().expand(1, 4, 2)
    goal = objective(0, 0.0, tokens=2)
    assert goal.evaluation(goal.sums(outputs, labels).tolist())["accuracy"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_language_model_sees_no_later_token(training):
    torch.manual_seed(0)
    model = SmallGPT(16).train(training)
    tokens = torch.randint(16, (2, 12))
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 16
    swapped = tokens[:, [1, 0, *range(2, 12)]]
    with torch.no_grad():
        one, other, order = (model(each) for each in (tokens, changed, swapped))
    assert torch.allclose(one[:, :8], other[:, :8], atol=1e-5)
    assert not torch.allclose(one[:, 8:], other[:, 8:], atol=1e-2)
    assert not torch.allclose(one[:, 2:], order[:, 2:], atol=1e-4)


def test_the_graph_network_sees_neither_order_nor_padding(graphs):
    torch.manual_seed(0)
    model = GraphNetwork(3, 2)
    matrix = graphs.train.matrices[graphs.train.matrices[:, 5, 5] != 0][:1].long()
    order = [3, 1, 5, 0, 2, 4]
    wide = torch.zeros(1, 9, 9, dtype=torch.int64)
    wide[:, :6, :6] = matrix
    other = matrix.clone()
    other[0, 0, 1] = other[0, 1, 0] = 4  # another kind of edge
    with torch.no_grad():
        outputs = model(matrix)
        assert torch.allclose(model(matrix[:, order][:, :, order]), outputs, atol=1e-5)
        assert torch.allclose(model(wide), outputs, atol=1e-5)
        assert not torch.allclose(model(other), outputs, atol=1e-4)


def test_the_graph_network_is_the_one_described():
    """Its four rounds, node by node and neighbour by neighbour."""
    torch.manual_seed(0)
    model = GraphNetwork(4, 2)
    matrix = [[1, 2, 0, 0], [2, 3, 4, 0], [0, 4, 1, 0], [0, 0, 0, 0]]  # a chain of three nodes
    weights = model.messages.weight.view(4, 64, 64)  # of each kind of edge
    with torch.no_grad():
        states = [model.embedding.weight[matrix[node][node]] for node in range(3)]
        for _ in range(4):
            heard = [
                sum(weights[matrix[node][other] - 1] @ states[other] for other in range(3) if 0 < abs(node - other) < 2)
                for node in range(3)
            ]
            states = [model.update(said[None], state[None])[0] for said, state in zip(heard, states, strict=True)]
        expected = model.readout(torch.stack(states).mean(0))
        torch.testing.assert_close(model(torch.tensor([matrix]))[0], expected)
    assert sum(parameter.numel() for parameter in GraphNetwork(30, 1).parameters()) // 1000 == 47


def test_the_language_model_is_the_one_described():
    torch.manual_seed(0)
    model, tokens = SmallGPT(256), torch.randint(256, (2, 9))
    torch.nn.init.normal_(model.norm.weight)  # which is 1 at first
    positions = torch.tensor(
        [
            [wave(place / 10_000 ** (rate / 32)) for wave in (math.sin, math.cos) for rate in range(32)]
            for place in range(9)
        ]
    )
    mask = torch.ones(9, 9).triu(1).bool()
    with torch.no_grad():
        x = model.embedding(tokens) + positions
        for layer in model.layers:
            normal = layer.norm1(x)
            x = x + layer.self_attn(normal, normal, normal, attn_mask=mask, need_weights=False)[0]
            x = x + layer.linear2(torch.nn.functional.gelu(layer.linear1(layer.norm2(x))))
        torch.testing.assert_close(model(tokens), model.head(model.norm(x)), rtol=1e-4, atol=1e-4)
    assert (len(model.layers), model.layers[0].self_attn.num_heads) == (2, 4)
    assert sum(parameter.numel() for parameter in model.parameters()) // 1000 == 133


def test_a_run_learns_to_predict_tokens(train, windows):
    folder = train(data=windows, model="small_gpt", max_lr=0.01, epochs=6, strategy="orderdp", prune_ratio=0.3, **PLAIN)
    result = folder.result()
    assert result["accuracy_last"] > 40  # of about 74, if all was learnt
    assert (result["predicted"], result["num_classes"]) == ("tokens", 0)
    assert result["test_loss_last"] == folder.metrics()[-1]["test_loss"]
    assert folder.metrics()[0]["loss"] < 3  # nats of a token; ln 8 = 2.1


def test_a_run_learns_graphs(train, graphs):
    settings = {"model": "graph_network", "max_lr": 0.01, "epochs": 12, "strategy": "orderdp", "prune_ratio": 0.3}
    folder = train(data=graphs, **settings, **PLAIN)
    assert folder.result()["accuracy_last"] > 60
    assert folder.result()["predicted"] == "numbers"


REFUSED = {
    "a model of images": (
        "windows",
        {},
        "model 'small_cnn' reads images, got windows of tokens; choose from small_gpt",
    ),
    "a model of texts": (
        "graphs",
        {"model": "text_bag"},
        "model 'text_bag' reads texts, got graphs; choose from graph_n",
    ),
    "augmented graphs": (
        "graphs",
        {"model": "graph_network", "augment": "crop"},
        "augment is for images, got crop for graphs; leave it out",
    ),
    "smoothing": (
        "windows",
        {"model": "small_gpt", "label_smoothing": 0.1},
        "label_smoothing is for classes, got 0.1 for labels that are tokens; write label_smoothing = 0",
    ),
    "a method of probabilities": (
        "windows",
        {"model": "small_gpt", "strategy": "kakurenbo", "prune_ratio": 0.3},
        "strategy 'kakurenbo' reads probabilities off its losses, got labels that are tokens; choose another",
    ),
}


@pytest.mark.parametrize(("name", "settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_settings_for_another_kind_of_data_are_refused(name, settings, message, tiny, request):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_recipe(tiny(**{**PLAIN, **settings}), 200, data=request.getfixturevalue(name))


def test_equal_tokens_have_no_entropy_to_explain(windows, tiny):
    same = Windows(torch.ones(40, 9, dtype=torch.int64))
    data = DataSets(windows.train, same, num_classes=0, vocabulary=8)
    with pytest.raises(ValueError, match=r"^tokens to predict must differ between the 40 test samples, got 1 for all;"):
        check_recipe(tiny(model="small_gpt", **PLAIN), 200, data=data)


def test_a_model_has_an_output_for_each_token_or_number(windows, graphs):
    assert model_for("small_gpt", windows)(windows.train.tokens[:2]).shape == (2, 10, 8)
    assert model_for("graph_network", graphs)(graphs.train.matrices[:2].long()).shape == (2, 1)

"""What a run minimises and how it is evaluated, against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional as F

from orderdp.data.base import DataSets, Features, ImageArrays, Texts, from_arrays
from orderdp.training.check import check_recipe
from orderdp.training.models import model_for
from orderdp.training.objective import EVALUATED, OF_CLASSES, objective


def evaluated(goal, outputs, labels, *, parts=3):
    """Evaluates in parts whose sums are added, as batches and ranks do."""
    each = zip(outputs.tensor_split(parts), labels.tensor_split(parts), strict=True)
    return goal.evaluation(sum(goal.sums(*part) for part in each).tolist())


def test_classes_are_evaluated_without_the_smoothing_that_is_trained():
    rng = torch.Generator().manual_seed(0)
    outputs = torch.randn((200, 4), generator=rng)
    labels = torch.randint(3, (200,), generator=rng)  # none of the fourth class
    goal = objective(4, 0.1, rare=(2, 3))
    assert torch.equal(
        goal.losses(outputs, labels), F.cross_entropy(outputs, labels, reduction="none", label_smoothing=0.1)
    )
    found = evaluated(goal, outputs, labels)
    assert tuple(found) == EVALUATED
    predicted = outputs.argmax(1).numpy()
    assert found["test_loss"] == pytest.approx(float(F.cross_entropy(outputs, labels)), rel=1e-6)
    assert found["accuracy"] == pytest.approx(100 * metrics.accuracy_score(labels, predicted))
    recalls = metrics.recall_score(labels, predicted, average=None, labels=[0, 1, 2])
    assert found["accuracy_worst_class"] == pytest.approx(100 * recalls.min())
    assert found["accuracy_mean_class"] == pytest.approx(100 * recalls.mean())
    assert found["accuracy_rare_classes"] == pytest.approx(100 * recalls[2])  # of class 3 there is no test sample


def test_numbers_are_evaluated_by_the_variance_explained():
    rng = torch.Generator().manual_seed(0)
    labels = torch.randn(300, generator=rng) + 5
    outputs = (labels + torch.randn(300, generator=rng) / 2)[:, None]
    goal = objective(0, 0.0)
    assert torch.allclose(goal.losses(outputs, labels), (outputs[:, 0] - labels) ** 2)
    assert goal.losses(outputs, labels.double()).dtype == torch.float32  # as a DataLoader collates numbers
    found = evaluated(goal, outputs, labels)
    assert found["test_loss"] == pytest.approx(metrics.mean_squared_error(labels, outputs[:, 0]), rel=1e-6)
    assert found["accuracy"] == pytest.approx(100 * metrics.r2_score(labels, outputs[:, 0]), rel=1e-6)
    assert [found[name] for name in OF_CLASSES] == [None] * 3
    assert evaluated(goal, -outputs, labels)["accuracy"] < 0


@pytest.fixture
def texts():
    """Texts of two classes, each with words of its own besides common ones."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 240)
    tokens = np.where(rng.random((240, 6)) < 0.5, 1 + rng.integers(0, 9, (240, 6)), 10 + labels[:, None])
    lengths = rng.integers(1, 7, 240)
    tokens[np.arange(6) >= lengths[:, None]] = 0
    parts = [
        Texts(torch.from_numpy(tokens[part]), torch.from_numpy(labels[part])) for part in (slice(200), slice(200, None))
    ]
    return DataSets(*parts, num_classes=2, vocabulary=12)


@pytest.fixture
def numbers():
    """Images whose brightness is to be predicted."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (240, 1, 8, 8), dtype=np.uint8) // 2)
    labels = torch.from_numpy(rng.random(240).astype(np.float32))
    images = (images * (0.2 + labels[:, None, None, None])).to(torch.uint8)
    standard = (labels - labels.mean()) / labels.std()
    return from_arrays(ImageArrays(images[:200], standard[:200]), ImageArrays(images[200:], standard[200:]))


@pytest.fixture
def equal_numbers(numbers):
    """The same, but all test images have one brightness."""
    return replace(numbers, test=replace(numbers.test, labels=torch.ones(40)))


def test_a_method_within_classes_is_refused_for_numbers_before_anything_is_built(tiny, numbers):
    recipe = tiny(**PLAIN, strategy={"name": "per_class", "inner": "orderdp", "prune_ratio": 0.5})
    with pytest.raises(ValueError, match=r"^strategy 'per_class' needs labels that are classes, got numbers; choose"):
        check_recipe(recipe, 200, data=numbers)


PLAIN = {"label_smoothing": 0.0, "epochs": 12, "train_size": None}


def test_a_run_learns_texts(train, texts):
    folder = train(
        data=texts, model="text_bag", optimizer="adamw", max_lr=0.05, strategy="orderdp", prune_ratio=0.3, **PLAIN
    )
    assert folder.result()["accuracy_last"] > 80
    assert folder.result()["num_classes"] == 2


def test_a_run_learns_rows_of_numbers(train):
    rng = torch.Generator().manual_seed(0)
    labels = (torch.rand(240, generator=rng) < 0.15).long()  # the second class is rare
    values = torch.randn(240, 3, generator=rng) + 2 * labels[:, None]
    parts = [Features(values[part], labels[part]) for part in (slice(200), slice(200, None))]
    settings = {"model": "mlp", "optimizer": "adamw", "max_lr": 0.02, "strategy": "orderdp", "prune_ratio": 0.3}
    result = train(data=DataSets(*parts, num_classes=2), **settings, **PLAIN).result()
    assert result["accuracy_last"] > 85
    assert result["accuracy_rare_classes"] == result["accuracy_worst_class"] > 50
    assert result["accuracy_mean_class"] > result["accuracy_worst_class"]


def test_the_network_of_rows_separates_what_no_line_separates(train):
    """Both hidden layers are rectified: the class is the sign of a product of two numbers."""
    values = torch.randn(240, 2, generator=torch.Generator().manual_seed(0))
    labels = (values.prod(1) > 0).long()
    parts = [Features(values[part], labels[part]) for part in (slice(200), slice(200, None))]
    settings = {"model": "mlp", "optimizer": "adamw", "max_lr": 0.02, "strategy": "full"}
    assert train(data=DataSets(*parts, num_classes=2), **settings, **PLAIN).result()["accuracy_last"] > 85
    rows = Features(torch.zeros(2, 16), torch.tensor([0, 1]))
    model = model_for("mlp", DataSets(rows, rows, num_classes=26))
    assert [type(layer).__name__ for layer in model] == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert sum(parameter.numel() for parameter in model.parameters()) // 1000 == 22


def test_a_run_learns_numbers(train, numbers):
    folder = train(data=numbers, max_lr=0.1, strategy="orderdp", prune_ratio=0.3, **PLAIN)
    result = folder.result()
    assert result["accuracy_last"] > 60
    assert (result["accuracy_worst_class"], result["num_classes"]) == (None, 0)
    assert folder.metrics()[0]["loss"] < 3  # squared errors of standardised labels


def test_numbers_may_be_read_by_a_dataloader(train, numbers):
    settings = {"max_lr": 0.1, "strategy": "full", **PLAIN, "epochs": 2}
    found = [train(path, data=numbers, data_path=path, **settings).result() for path in ("loader", "resident")]
    assert found[0]["digests"]["model"] == found[1]["digests"]["model"]


REFUSED = {
    "a model of images": ("texts", {}, "model 'small_cnn' reads images, got texts; choose from text_bag"),
    "augmented texts": (
        "texts",
        {"model": "text_bag", "augment": "crop"},
        "augment is for images, got crop for texts; leave",
    ),
    "channels": (
        "texts",
        {"model": "text_bag", "channels_last": True},
        "channels_last is for images, got True for texts;",
    ),
    "a loader": (
        "texts",
        {"model": "text_bag", "data_path": "loader"},
        "data_path 'loader' is for images, got texts; leave",
    ),
    "smoothing": (
        "numbers",
        {"label_smoothing": 0.1},
        "label_smoothing is for classes, got 0.1 for labels that are numbers;",
    ),
    "a method of probabilities": (
        "numbers",
        {"strategy": "kakurenbo", "prune_ratio": 0.3},
        "strategy 'kakurenbo' reads probabilities off its losses, got labels that are numbers; choose another",
    ),
    "equal numbers": (
        "equal_numbers",
        {},
        "numbers to predict must differ between the 40 test samples, got 1 for all; evaluate on more samples",
    ),
    "a model of texts": (
        "numbers",
        {"model": "text_bag"},
        "model 'text_bag' reads texts, got images; choose from small_cnn",
    ),
}


@pytest.mark.parametrize(("name", "settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_settings_for_another_kind_of_data_are_refused(name, settings, message, train, request):
    with pytest.raises(ValueError, match=f"^{message}"):
        train(data=request.getfixturevalue(name), **{**PLAIN, **settings})

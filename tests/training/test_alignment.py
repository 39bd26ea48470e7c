"""Where the gradient of the next epoch's choice points, as a run measures it."""

import signal

import pytest
import torch
from torch.nn import functional as F

from orderdp import OrderDP, Pruner
from orderdp.diagnostics import alignment
from orderdp.training import models
from orderdp.training.loop import Run
from orderdp.training.models import build_model
from orderdp.training.run_folder import RunFolder

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N = 200
HALF = {"strategy": "orderdp", "prune_ratio": 0.5}
# Settings, and what the gradient of the choice is compared with; None for a choice that is made within the batch.
METHODS = {
    "orderdp": (HALF, {"full", "surrogate"}),
    "orderdp, explore and exploit": ({"explore": 0.8, "exploit": 0.25}, {"full", "surrogate"}),
    "orderdp, uniform share": ({**HALF, "uniform_share": 0.2}, {"full"}),
    "orderdp, per iteration": ({**HALF, "per": "iteration"}, {"full"}),
    "orderdp, fresh": ({**HALF, "per": "iteration", "fresh": True}, None),
    "full": ({"strategy": "full"}, {"full"}),
    "dynamic random": ({"strategy": "dynamic_random", "prune_ratio": 0.5}, {"full"}),
    "infobatch": ({"strategy": "infobatch", "prune_ratio": 0.5}, {"full"}),
    "seta": ({"strategy": "seta", "prune_ratio": 0.3}, {"full"}),
    "kakurenbo": ({"strategy": "kakurenbo", "prune_ratio": 0.5, "label_smoothing": 0.0}, {"full"}),
    "ordered sgd": ({"strategy": "ordered_sgd", "prune_ratio": 0.5}, None),
    "selective backprop": ({"strategy": "selective_backprop", "prune_ratio": 0.5}, None),
}


def epochs_of(folder):
    """The epochs at whose end there is an alignment."""
    return [line["epoch"] for line in folder.metrics() if line["alignment"] is not None]


@pytest.fixture
def dropout(monkeypatch):
    """Gives every model a layer of dropout, which draws from torch's global generator at each step."""
    build = models.build_model

    def with_dropout(name, **sizes):
        *layers, last = build(name, **sizes)
        return torch.nn.Sequential(*layers, torch.nn.Dropout(0.3), last)

    monkeypatch.setattr(models, "build_model", with_dropout)


# Settings, times, epochs: of E epochs the k-th of m is ceil(k·E/m).
TIMES = [
    (HALF, 5, 0, []),
    (HALF, 5, 1, [5]),
    (HALF, 5, 2, [3, 5]),
    (HALF, 7, 3, [3, 5, 7]),
    (HALF, 3, 5, [1, 2, 3]),
    (METHODS["infobatch"][0], 4, 2, [2, 4]),
    # 7 steps an epoch, so that two epochs are begun; then one that ends with the second.
    ({"strategy": "full", "max_steps": 10}, 9, 2, [1, 2]),
    ({"strategy": "full", "max_steps": 14}, 9, 1, [2]),
]


@pytest.mark.parametrize(("settings", "epochs", "times", "expected"), TIMES)
def test_alignment_is_measured_so_many_times_evenly_over_the_run(train, settings, epochs, times, expected):
    folder = train(**settings, epochs=epochs, alignment=times)
    assert epochs_of(folder) == expected
    assert all("alignment" in line for line in folder.metrics())


def by_hand(folder, digits):
    """Alignment of the final model, all images in one batch, with what the pruner would choose next."""
    saved, state = folder.load_checkpoint()
    recipe = folder.recipe()
    model = build_model(recipe.model, num_classes=10, in_channels=1, image_size=8)
    model.load_state_dict(saved)
    pruner = Pruner(recipe.strategy, N, seed=recipe.seed)
    pruner.load_state_dict(state["loader"]["pruner"])
    selection = pruner.preview(recipe.batch_size)
    images = (digits.train.images.float() / 255 - digits.mean[0]) / digits.std[0]
    smoothing = recipe.label_smoothing
    labels = digits.train.labels
    return alignment(
        model.eval(),
        lambda model, batch: F.cross_entropy(model(batch), labels, reduction="none", label_smoothing=smoothing),
        [(torch.arange(N), images)],
        torch.from_numpy(selection.indices),
        weights=None if selection.weights is None else torch.from_numpy(selection.weights),
        sizes=pruner.strategy.sizes(N) if isinstance(pruner.strategy, OrderDP) else None,
    )


@pytest.mark.parametrize(("settings", "names"), list(METHODS.values()), ids=list(METHODS))
def test_the_last_alignment_is_that_of_the_final_model_and_the_choice_to_come(train, digits, settings, names):
    folder = train(**{"label_smoothing": 0.2, **settings}, alignment=1, augment="crop", eval_batch_size=70)
    found = folder.metrics()[-1]["alignment"]
    assert (found and set(found)) == names
    if names is not None:
        expected = by_hand(folder, digits)
        for name in names:
            assert found[name] == pytest.approx(expected[name]._asdict(), rel=1e-3), name
            assert -1 <= found[name]["cosine"] <= 1 + 1e-9


def test_all_the_data_is_aligned_with_itself(train):
    found = train(strategy="full", alignment=1).metrics()[-1]["alignment"]
    assert found == {"full": pytest.approx({"cosine": 1, "norm_ratio": 1})}


def without_alignment(lines):
    return [{name: value for name, value in line.items() if name != "alignment"} for line in lines]


@pytest.mark.usefixtures("dropout")
@pytest.mark.parametrize(
    "settings",
    [
        {**HALF, "augment": "crop"},
        {**HALF, "data_path": "loader", "num_workers": 2, "epochs": 2},
        {**HALF, "per": "iteration", "checkpoint_steps": 2},
        METHODS["infobatch"][0],
        METHODS["ordered sgd"][0],
    ],
    ids=str,
)
def test_measuring_the_alignment_leaves_the_run_as_it_is(train, outcome, settings):
    plain, measured = train("plain", **settings), train("measured", **settings, alignment=3)
    assert plain.result()["digests"] == measured.result()["digests"]
    assert without_alignment(outcome(plain)) == without_alignment(outcome(measured))


@pytest.mark.usefixtures("dropout")
@pytest.mark.parametrize("number", [9, 12])  # in the third epoch, before and after its checkpoint inside
def test_alignment_goes_through_a_checkpoint(tmp_path, tiny, digits, train, outcome, in_child, kill_at, number):
    settings = {**HALF, "alignment": 3, "checkpoint_steps": 2, "epochs": 4}
    expected = outcome(train("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(Pruner, "update", number)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == -signal.SIGKILL
    assert epochs_of(folder) == [2]
    assert outcome(train()) == expected
    assert epochs_of(folder) == [2, 3, 4]
    assert epochs_of(RunFolder(tmp_path / "unbroken")) == [2, 3, 4]

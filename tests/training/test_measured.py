"""What a run measures of itself as it goes: gradient norms, how its choice moves, what it has covered."""

import itertools
import math
import signal
import statistics
from collections import Counter

import numpy as np
import pytest
import torch

from orderdp import DynamicRandom, Pruner
from orderdp.diagnostics import jaccard
from orderdp.diagnostics.dynamics import ROLLING_WINDOW
from orderdp.training import models
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N = 200
HALF = {"strategy": "orderdp", "prune_ratio": 0.5}
# Each chooses in its own way: by epoch, by chance, within the batch, with weights; the last stops inside an epoch.
METHODS = {
    "full": {"strategy": "full"},
    "orderdp": HALF,
    "dynamic random": {"strategy": "dynamic_random", "prune_ratio": 0.5},
    "infobatch": {"strategy": "infobatch", "prune_ratio": 0.5},
    "ordered sgd": {"strategy": "ordered_sgd", "prune_ratio": 0.5},
    "fresh": {**HALF, "per": "iteration", "fresh": True},
    "stopped inside an epoch": {"strategy": "full", "max_steps": 16, "epochs": 5},
}
each_method = pytest.mark.parametrize("settings", list(METHODS.values()), ids=list(METHODS))


def norms_of(folder):
    return np.load(folder.path / "gradient_norms.npy")


@each_method
def test_there_is_a_gradient_norm_for_every_step(train, settings):
    folder = train(**settings)
    norms, ends = norms_of(folder), [0, *(line["step"] for line in folder.metrics())]
    assert (norms.shape, norms.dtype) == ((folder.result()["steps"],), np.float32)
    assert (norms > 0).all()
    for line, (begin, end) in zip(folder.metrics(), itertools.pairwise(ends), strict=True):
        assert line["gradient_norm"] == pytest.approx(statistics.fmean(norms[begin:end].tolist()), rel=1e-12)


# 7, 25 and 13 steps an epoch: no window before the third epoch, one in the first already, one from the second on.
@pytest.mark.parametrize(("batch_size", "ratio", "first"), [(16, 0.5, 3), (8, 0.0, 1), (8, 0.5, 2)])
def test_the_deviation_of_the_norm_is_over_the_last_steps_also_of_the_epoch_before(train, batch_size, ratio, first):
    folder = train(prune_ratio=ratio, batch_size=batch_size, epochs=4)
    norms, begin = norms_of(folder).tolist(), 0
    for line in folder.metrics():
        ends = [end for end in range(begin + 1, line["step"] + 1) if end >= ROLLING_WINDOW]
        assert bool(ends) == (line["epoch"] >= first)
        windows = [statistics.stdev(norms[end - ROLLING_WINDOW : end]) for end in ends]
        expected = pytest.approx(statistics.fmean(windows), rel=1e-9) if ends else None
        assert line["gradient_norm_deviation"] == expected
        begin = line["step"]


@pytest.mark.parametrize("number", [5, 18, 23])  # before the first window is full, and in the second and third epoch
def test_the_norms_of_a_run_killed_inside_an_epoch_are_those_of_one_that_was_not(
    tmp_path, tiny, digits, train, outcome, in_child, kill_at, number
):
    settings = {**HALF, "batch_size": 10, "checkpoint_steps": 3}
    unbroken = train("unbroken", **settings)
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(Pruner, "update", number)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == -signal.SIGKILL
    saved = folder.load_checkpoint()[1]["progress"]
    assert saved["gradient_norms"].tolist() == norms_of(unbroken)[: saved["step"]].tolist()
    assert saved["step"] % 10 > 0  # inside an epoch
    assert not (folder.path / "gradient_norms.npy").exists()
    train()
    assert np.array_equal(norms_of(folder), norms_of(unbroken))
    assert outcome(folder) == outcome(unbroken)


@pytest.fixture
def sets(monkeypatch):
    """The sets of samples that each epoch of the runs to come trains, by what the pruner counts as a visit."""
    found, evaluate, before = [], Run._evaluate, [torch.zeros(N)]

    def watch(run):
        visits = run.pruner.visits()
        found.append(set((visits - before[0]).nonzero().squeeze(1).tolist()))
        before[0] = visits
        return evaluate(run)

    monkeypatch.setattr(Run, "_evaluate", watch)
    return found


@each_method
def test_the_similarity_of_two_epochs_is_that_of_the_sets_that_they_trained(train, sets, settings):
    found = [line["jaccard"] for line in train(**settings).metrics()]
    assert found == [None] + [len(a & b) / len(a | b) for a, b in itertools.pairwise(sets)]
    assert len(found) == len(sets) == 3
    if settings == METHODS["full"]:
        assert found == [None, 1.0, 1.0]


def test_checkpoints_are_compared_with_each_other(train, sets):
    lines = train(**HALF, epochs=12).metrics()
    at = [3, 5, 8, 10, 12]  # ⌈12/5⌉, ⌈24/5⌉, ...
    expected = [None] * 12
    for before, now in itertools.pairwise(at):
        a, b = sets[before - 1], sets[now - 1]
        expected[now - 1] = len(a & b) / len(a | b)
    assert [line["jaccard_checkpoint"] for line in lines] == expected


def test_the_similarity_of_a_random_choice_is_that_of_its_pruner(train):
    folder = train(**METHODS["dynamic random"], epochs=5, seed=4)
    pruner = Pruner(DynamicRandom(prune_ratio=0.5), N, seed=4)
    chosen = []
    for epoch in range(5):
        pruner.set_epoch(epoch)  # a random choice needs no losses
        chosen.append(pruner.preview().indices)
    assert [line["jaccard"] for line in folder.metrics()] == [
        None,
        *itertools.starmap(jaccard, itertools.pairwise(chosen)),
    ]


@each_method
def test_coverage_is_a_recount_of_the_checkpoint(train, digits, settings):
    folder = train(**settings)
    state = folder.load_checkpoint()[1]["loader"]["pruner"]
    pruner, epochs = Pruner(folder.recipe().strategy, N), folder.result()["epochs"]
    pruner.load_state_dict(state)
    visits = pruner.visits().tolist()
    counts, total = Counter(visits), sum(visits)
    ages = [age for age in pruner.ages().tolist() if age >= 0]
    shares = [
        sum(visit for visit, label in zip(visits, digits.train.labels.tolist(), strict=True) if label == number) / total
        for number in range(10)
    ]
    pairs = sum(abs(a - b) for a, b in itertools.product(visits, repeat=2))
    assert total == folder.result()["samples_backward"]
    assert folder.result()["coverage"] == {
        "never_seen": counts[0] / N,
        "gini": pytest.approx(pairs / (2 * N * total), abs=1e-12),
        "histogram": [counts[number] for number in range(max(visits) + 1)],
        "class_shares": pytest.approx(shares),
        "realised_ratio": pytest.approx(1 - total / (N * epochs)),
        "mean_age": pytest.approx(statistics.fmean(ages)),
        "max_age": max(ages),
    }
    last = folder.metrics()[-1]
    assert (last["mean_age"], last["max_age"]) == (pytest.approx(statistics.fmean(ages)), max(ages))
    assert folder.result()["coverage"]["never_seen"] == folder.metrics()[-1]["never_seen"] / N


@pytest.mark.parametrize("worst", [math.nan, math.inf])
def test_a_test_loss_that_is_not_finite_is_said_and_leaves_no_line(tmp_path, train, monkeypatch, worst):
    """As of a model whose weights have grown so far that only the statistics of the batch kept them in check."""

    class Unsteady(torch.nn.Linear):
        evaluated = 0

        def forward(self, images):
            logits = super().forward(images.flatten(1))
            Unsteady.evaluated += not self.training
            return logits * worst if Unsteady.evaluated == 2 else logits

    monkeypatch.setattr(models, "build_model", lambda name, **sizes: Unsteady(64, 10))
    message = r"the test loss must stay finite, got nan after epoch 2; write a smaller max_lr than 0\.1"
    with pytest.raises(FloatingPointError, match=f"^{message}$"):
        train(**HALF)
    folder = RunFolder(tmp_path / "run")
    assert [line["epoch"] for line in folder.metrics()] == [1]
    assert folder.result() is None
    assert not (folder.path / "gradient_norms.npy").exists()

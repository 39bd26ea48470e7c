"""The two passes of a step that chooses within its batch, and how they are measured."""

import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from orderdp import OrderedSGD, Pruner
from orderdp.data.images import SampleImages
from orderdp.training import loop, models, passes
from orderdp.training.loop import Run
from orderdp.training.models import build_model
from orderdp.training.optim import build_schedule
from orderdp.training.passes import first_pass, measure_passes
from orderdp.training.run_folder import RunFolder

ORDERED = {"strategy": "ordered_sgd", "prune_ratio": 0.75}
LONG = 1200  # the fewest steps of a run that measures its passes


class Counting(nn.Module):
    """Has a buffer that is no batch norm's, and a dropout, which draws from the global generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        self.last = nn.Linear(16, 10)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, images):
        self.calls += 1
        return self.last(self.layers(images))


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_first_pass_normalises_by_its_batch_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model, images = Counting().train(), 3 + torch.randn(32, 1, 8, 8)
    before = bits(model)
    with first_pass(model):
        logits = model(images)
    assert not logits.requires_grad
    assert equal(bits(model), before)
    torch.manual_seed(1)
    with first_pass(model):
        first = model(images)
    torch.manual_seed(1)
    second = model(images)  # as a pass in training, which does move the buffers
    assert torch.equal(first, second)
    assert not equal(bits(model), before)
    assert int(model.calls) == 1


def test_a_batch_that_is_not_finite_does_not_reach_the_statistics():
    model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=8).train()
    before = bits(model)
    with first_pass(model):
        model(torch.full((4, 1, 8, 8), torch.nan))
    assert equal(bits(model), before)


def two_passes(recipe, data):
    """A run of ordered SGD as one would write it down: the model, and the loss of each epoch."""
    torch.manual_seed(recipe.seed)
    model = models.build_model(recipe.model, num_classes=10, in_channels=1, image_size=8).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    pruner = Pruner(recipe.strategy, len(data.train), seed=recipe.seed)
    schedule = build_schedule(
        optimizer, total_steps=pruner.total_steps(recipe.epochs, recipe.batch_size), max_lr=recipe.max_lr
    )
    train_set = SampleImages(data.train, mean=data.mean, std=data.std, seed=recipe.seed)

    def losses_of(ids):
        images = torch.stack([train_set[int(i)][0] for i in ids])
        return F.cross_entropy(model(images), data.train.labels[ids], reduction="none", label_smoothing=0.1)

    means = []
    for _ in range(recipe.epochs):
        trained = []
        for ids, _ in pruner.loader(range(200), batch_size=recipe.batch_size):
            before = bits(model)
            with torch.no_grad():
                first = losses_of(ids)
                model.load_state_dict(before)
            kept = pruner.choose(ids, first)
            highest = torch.argsort(first, descending=True, stable=True)[: round(0.25 * len(ids))]
            assert sorted(kept.tolist()) == sorted(highest.tolist())
            losses = losses_of(ids[kept])
            pruner.update(ids[kept], losses)
            losses.mean().backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            trained.append(losses.detach())
        means.append(torch.cat(trained).mean().item())
    return model, means


@pytest.fixture
def counting(monkeypatch):
    """Trains a model with dropout and a buffer of its own."""
    monkeypatch.setattr(models, "build_model", lambda name, **sizes: Counting())


@pytest.mark.parametrize("model", ["small_cnn", "counting"])
def test_a_step_chooses_by_a_first_pass_and_trains_what_it_kept_in_a_second(train, digits, request, model):
    if model == "counting":
        request.getfixturevalue("counting")
    folder = train(**ORDERED)
    expected, losses = two_passes(folder.recipe(), digits)
    saved = folder.load_checkpoint()[0]
    if model == "counting":
        expected.calls += folder.recipe().epochs  # the evaluations
    assert set(saved) == set(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(saved[name].double(), tensor.double(), rtol=1e-5, atol=1e-6), name
    assert [line["loss"] for line in folder.metrics()] == pytest.approx(losses, rel=1e-4)


def test_the_samples_of_both_passes_count_forward_and_those_kept_backward(train):
    lines = train(**ORDERED).metrics()  # 7 steps of 28 or 29 samples, of which 7 are kept
    assert [line["samples_forward"] for line in lines] == [249, 498, 747]
    assert [line["samples_backward"] for line in lines] == [49, 98, 147]


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("strategy", ["ordered_sgd", "selective_backprop"])
def test_a_run_in_two_passes_that_is_interrupted_goes_on_to_the_same_end(train, outcome, monkeypatch, strategy):
    settings = {"strategy": strategy, "prune_ratio": 0.5, "checkpoint_steps": 2}
    expected, calls, update = outcome(train("unbroken", **settings)), [], Pruner.update

    def stops(*arguments, **named):
        calls.append(None)
        if len(calls) == 12:  # the fifth step of the second epoch; the last checkpoint is after the fourth
            raise KeyboardInterrupt
        return update(*arguments, **named)

    monkeypatch.setattr(Pruner, "update", stops)
    with pytest.raises(KeyboardInterrupt):
        train(**settings)
    assert outcome(train()) == expected


LAYOUTS = {
    "bf16": {"precision": "bf16"},
    "channels last": {"channels_last": True},
    "read by a loader": {"data_path": "loader"},
}


@pytest.mark.parametrize("settings", list(LAYOUTS.values()), ids=list(LAYOUTS))
def test_both_passes_have_the_arithmetic_and_the_layout_of_the_recipe(tmp_path, tiny, digits, train, settings):
    plain, other = train("plain", **ORDERED), train("other", **ORDERED, **settings)
    losses = [folder.metrics()[0]["loss"] for folder in (plain, other)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    run = Run(tiny(**ORDERED, **settings), digits, RunFolder(tmp_path / "seen"), show=False)
    seen = []
    run.model.register_forward_hook(lambda _, inputs, output: seen.append((len(output), output.dtype)))
    run.net.train()
    index, batch = next(iter(run.loader))
    trained, loss = run._forward(index, batch)
    loss.backward()
    dtype = torch.bfloat16 if "precision" in settings else torch.float32
    assert seen == [(len(index), dtype), (7, dtype)]
    assert len(trained) == 7
    assert all(parameter.grad is not None for parameter in run.model.parameters())


def test_a_run_without_a_finite_loss_to_choose_by_ends_with_a_message(train, monkeypatch):
    def losses(run, batch, net=None):
        return torch.full((len(batch[1]),), torch.nan, requires_grad=torch.is_grad_enabled())

    choose = Pruner.choose
    monkeypatch.setattr(Run, "_losses", losses)
    monkeypatch.setattr(Pruner, "choose", lambda *arguments: choose(*arguments)[:0])
    with pytest.raises(FloatingPointError, match=r"^the training loss must stay finite, got nan in epoch 1; write "):
        train(**ORDERED)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_model_makes_both_passes_as_the_plain_one(train, monkeypatch):
    def small(name, **sizes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))  # little to compile

    monkeypatch.setattr(models, "build_model", small)
    plain = train("plain", **ORDERED, max_steps=8)
    compiled = train("compiled", **ORDERED, max_steps=8, compile=True)
    assert compiled.result()["samples_backward"] == plain.result()["samples_backward"]
    for line, other in zip(compiled.metrics(), plain.metrics(), strict=True):
        assert [line[name] for name in ("loss", "test_loss")] == pytest.approx(
            [other[name] for name in ("loss", "test_loss")], rel=1e-4
        )


def test_on_one_rank_both_passes_are_of_the_net_that_is_trained(tmp_path, tiny, digits):
    run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
    assert run.chooser is run.net


def measured(run, **changed):
    given = {"model": run.model, "recipe": run.recipe, "data": run.data_path.data, "losses_of": run._losses, **changed}
    steps = given.pop("steps", LONG)
    return measure_passes(**given, steps=steps)


@pytest.mark.usefixtures("counting")
def test_measuring_changes_nothing_of_the_run(tmp_path, tiny, digits):
    run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
    before, state, generator = bits(run.model), run.optimizer.state_dict(), torch.get_rng_state()
    schedule, training = run.schedule.state_dict(), run.model.training
    found = measured(run)
    assert equal(bits(run.model), before)
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert run.optimizer.state_dict() == state
    assert run.schedule.state_dict() == schedule
    assert torch.equal(torch.get_rng_state(), generator)
    assert run.model.training == training
    assert run.pruner.selection is None
    assert set(found) == {"first", "kept", "full"}
    assert all(0 < seconds < 1 for seconds in found.values())


@pytest.mark.usefixtures("counting")
def test_a_run_first_makes_a_pass_forward_and_back_that_warms_up_and_changes_nothing(
    tmp_path, tiny, digits, monkeypatch
):
    run = Run(tiny(strategy="full"), digits, RunFolder(tmp_path), show=False)
    before, generator, sizes = bits(run.model), torch.get_rng_state(), []
    backward = torch.Tensor.backward
    losses = Run._losses
    monkeypatch.setattr(
        Run, "_losses", lambda self, batch, net: sizes.append(len(batch[1])) or losses(self, batch, net)
    )
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: sizes.append("back") or backward(loss))
    run._measure_passes()
    assert sizes == [32, "back"]
    assert equal(bits(run.model), before)
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_run_that_measures_ends_as_one_that_does_not(train, outcome, monkeypatch):
    plain = train("plain", **ORDERED)
    monkeypatch.setattr(passes, "_STEPS_A_ROUND", 7)
    with_prices = train("measured", **ORDERED)
    assert plain.result()["pass_s"] is None
    assert set(with_prices.result()["pass_s"]) == {"first", "kept", "full"}
    assert outcome(with_prices) == outcome(plain)


def test_a_resumed_run_keeps_what_it_measured_first(tmp_path, train, monkeypatch):
    monkeypatch.setattr(passes, "_STEPS_A_ROUND", 7)
    folder = train(**ORDERED)
    expected = folder.result()["pass_s"]
    (folder.path / "result.json").unlink()
    monkeypatch.setattr(loop, "measure_passes", None)
    assert train().result()["pass_s"] == expected


@pytest.mark.parametrize(("steps", "rounds"), [(1199, 0), (1200, 3), (1600, 4), (2800, 7), (10**6, 7)])
def test_the_times_are_the_shortest_a_sample_and_short_runs_measure_nothing(
    tmp_path, tiny, digits, monkeypatch, steps, rounds
):
    """By a clock on which a forward pass takes a second a sample and the optimiser 16; all rounds but two are slow.

    The first round, which warms up, takes no time at all and does not count.
    """
    run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
    clock, calls = [0.0], []
    step = torch.optim.SGD.step

    def taking(seconds):
        number = (len(calls) - 1) // 3
        return {0: 0, 1: seconds}.get(number, 1000)

    def losses_of(batch, model):
        calls.append(len(batch[0]))
        clock[0] += taking(len(batch[0]))
        return run._losses(batch, model)

    def slow_step(optimizer, *arguments):
        clock[0] += taking(16)
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", slow_step)
    monkeypatch.setattr(passes.time, "process_time", lambda: clock[0])
    found = measured(run, losses_of=losses_of, steps=steps)
    if rounds:
        assert found == {"first": 1, "kept": (8 + 16) / 8, "full": (32 + 16) / 32}
        assert calls == [32, 8, 32] * (rounds + 1)
    else:
        assert found is None
        assert calls == []


@pytest.mark.parametrize(
    "settings", [{"strategy": "full"}, {"prune_ratio": 0.5}, {**ORDERED, "compile": True}], ids=str
)
def test_runs_that_need_no_price_measure_none(tmp_path, tiny, digits, settings, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model: model)
    run = Run(tiny(**settings), digits, RunFolder(tmp_path), show=False)
    assert measured(run, losses_of=None) is None


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (ORDERED, 8),
        ({"strategy": "selective_backprop", "prune_ratio": 0.25}, 24),
        ({"explore": 0.9, "exploit": 0.6, "per": "iteration", "fresh": True}, 19),
    ],
    ids=str,
)
def test_the_step_of_the_samples_kept_is_measured_at_its_own_size(tmp_path, tiny, digits, settings, kept):
    run = Run(tiny(**settings), digits, RunFolder(tmp_path), show=False)
    sizes = []
    measured(run, losses_of=lambda batch, model: sizes.append(len(batch[1])) or run._losses(batch, model))
    assert set(sizes) == {32, kept}


def test_the_steps_are_measured_in_training_mode(tmp_path, tiny, digits):
    run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
    run.model.eval()
    modes = []
    measured(run, losses_of=lambda batch, model: modes.append(model.training) or run._losses(batch, model))
    assert set(modes) == {True}
    assert not run.model.training


def test_a_small_data_set_is_measured_in_batches_that_it_can_fill(tmp_path, tiny, digits):
    run = Run(tiny(**ORDERED, batch_size=512), digits, RunFolder(tmp_path), show=False)
    sizes = []
    measured(run, losses_of=lambda batch, model: sizes.append(len(batch[1])) or run._losses(batch, model))
    assert set(sizes) == {200, 50}


def test_the_first_pass_takes_no_gradients(tmp_path, tiny, digits, monkeypatch):
    run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
    run.net.train()
    given, choose = [], Pruner.choose
    monkeypatch.setattr(
        Pruner, "choose", lambda self, index, losses: given.append(losses) or choose(self, index, losses)
    )
    index, batch = next(iter(run.loader))
    losses, _ = run._forward(index, batch)
    assert not given[0].requires_grad
    assert losses.requires_grad
    kept = OrderedSGD(keep=0.25).batch_weights(given[0], None) != 0
    assert int(kept.sum()) == len(losses) == 7

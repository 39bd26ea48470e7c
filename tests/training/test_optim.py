import copy
import io
import itertools

import pytest
import torch
from torch import nn

from orderdp.training.optim import build_optimizer, build_schedule

NAMES = ["sgd", "adamw", "lars", "lamb", "lars_release", "lamb_release"]


def small_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def optimizer_of(model: nn.Module, name: str = "sgd", *, lr: float = 0.1, **changes) -> torch.optim.Optimizer:
    optimizer = build_optimizer(model, **{"name": name, "momentum": 0.9, "weight_decay": 5e-4, **changes})
    optimizer.param_groups[0]["lr"] = lr  # as a schedule does
    return optimizer


def step_on_fixed_batch(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """The loss before the step."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(16, 4, generator=generator), torch.randint(3, (16,), generator=generator)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def momentum_of(optimizer: torch.optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group["momentum"]


def curve(num_steps: int, optimizer_name: str = "sgd", **settings) -> tuple[list[float], list[float]]:
    """Learning rate and momentum with which each of `num_steps` optimiser steps is made."""
    model = small_model()
    optimizer = optimizer_of(model, optimizer_name)
    schedule = build_schedule(optimizer, **{"total_steps": num_steps, "max_lr": 0.2, **settings})
    rates, momenta = [], []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(momentum_of(optimizer))
        step_on_fixed_batch(model, optimizer)
        schedule.step()
    return rates, momenta


@pytest.mark.parametrize(
    ("name", "made"), [("sgd", lambda p: torch.optim.SGD(p, momentum=0.9)), ("adamw", torch.optim.AdamW)]
)
def test_a_state_from_before_the_fused_step_goes_on_without_it(name, made):
    old, new = (small_model() for _ in range(2))
    before, after = made(old.parameters()), optimizer_of(new, name)
    for _ in range(2):
        step_on_fixed_batch(old, before)
    new.load_state_dict(old.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert not after.param_groups[0]["fused"]
    assert [step_on_fixed_batch(new, after) for _ in range(3)] == [step_on_fixed_batch(old, before) for _ in range(3)]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_are_fused_on_a_processor_alone(name):
    assert optimizer_of(small_model(), name).param_groups[0]["fused"] is True
    assert optimizer_of(small_model().to("meta"), name).param_groups[0]["fused"] is None


@pytest.mark.parametrize("name", NAMES)
def test_one_step_lowers_the_loss_of_a_fixed_batch(name):
    model = small_model()
    optimizer = optimizer_of(model, name, lr=0.01)
    before, after = (step_on_fixed_batch(model, optimizer) for _ in range(2))
    assert after < before


def test_nesterov_looks_ahead_by_its_momentum():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer(nn.ParameterList([weight]), name="sgd", momentum=0.5, weight_decay=0.0, nesterov=True)
    optimizer.param_groups[0]["lr"] = 0.1
    for gradient in (1.0, 1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    # The velocity is 1, then 1.5; each step adds half of it to the gradient.
    assert weight.item() == pytest.approx(1 - 0.1 * (1 + 0.5 * 1) - 0.1 * (1 + 0.5 * 1.5))


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_shrinks_biases_too(name):
    model = small_model()
    optimizer = optimizer_of(model, name, weight_decay=0.1)
    sizes = {key: value.norm().item() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    assert all(value.norm().item() < sizes[key] for key, value in model.named_parameters())


def test_adamw_decays_apart_from_the_gradient():
    model = small_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = optimizer_of(model, "adamw", lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (1 - 0.1 * 0.5))


def test_each_name_is_its_own_optimizer():
    classes = ["SGD", "AdamW", "Lars", "Lamb", "ReleaseLars", "ReleaseLamb"]
    assert [type(optimizer_of(small_model(), name)).__name__ for name in NAMES] == classes
    for name in ("adamw", "lamb", "lamb_release"):
        assert optimizer_of(small_model(), name).defaults["betas"][1] == 0.999


def test_the_settings_arrive_where_each_optimizer_reads_them():
    for name in NAMES:
        optimizer = optimizer_of(small_model(), name, momentum=0.8, weight_decay=0.01)
        (group,) = optimizer.param_groups
        assert (momentum_of(optimizer), group["weight_decay"]) == (0.8, 0.01)


@pytest.mark.parametrize("name", ["lars", "lamb", "lars_release", "lamb_release"])
def test_layerwise_scaling_stays_without_weight_decay(name):
    """The first step is as long as the weights are large, for one and the same gradient."""
    lengths = []
    for size in (1.0, 2.0):
        model = nn.Linear(4, 3, bias=False)
        nn.init.constant_(model.weight, size)
        optimizer = optimizer_of(model, name, momentum=0.0, weight_decay=0.0)
        model.weight.grad = torch.full_like(model.weight, 0.01)
        optimizer.step()
        lengths.append((model.weight - size).norm().item())
    assert lengths[0] > 0
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=1e-3)


def test_onecycle_starts_peaks_and_ends_where_it_says():
    rates, momenta = curve(100)
    assert rates[0] == pytest.approx(0.2 / 25)
    assert rates[29] == pytest.approx(0.2)  # the 30th of 100 steps
    assert max(rates) == rates[29]
    assert rates[-1] == pytest.approx(0.2 / 25 / 1e4)
    assert all(a < b for a, b in itertools.pairwise(rates[:30]))
    assert all(a > b for a, b in itertools.pairwise(rates[29:]))
    assert (momenta[0], momenta[29], momenta[-1]) == pytest.approx((0.95, 0.85, 0.95))


def test_onecycle_obeys_its_factors():
    rates, _ = curve(20, max_lr=0.5, pct_start=0.5, div_factor=10.0, final_div_factor=100.0)
    assert (rates[0], rates[9], rates[-1]) == pytest.approx((0.05, 0.5, 0.0005))


@pytest.mark.parametrize("name", NAMES)
def test_onecycle_replaces_the_momentum_of_every_optimizer(name):
    _, momenta = curve(10, name)
    assert momenta[0] == pytest.approx(0.95)
    assert min(momenta) == pytest.approx(0.85)
    assert 0.9 not in momenta


@pytest.mark.parametrize("total_steps", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("pct_start", [0, 0.1, 0.3, 1 / 3, 0.5, 0.99])
def test_exactly_total_steps_can_be_made_whatever_their_number(total_steps, pct_start):
    rates, _ = curve(total_steps, pct_start=pct_start)
    assert rates[-1] == pytest.approx(0.2 / 25 / 1e4)
    assert all(0 < rate <= 0.2 for rate in rates)


def test_a_rise_of_one_step_begins_at_the_peak():
    rates, _ = curve(10, pct_start=0.1)
    assert rates[0] == pytest.approx(0.2)


def test_one_step_too_many_is_an_error():
    model = small_model()
    optimizer = optimizer_of(model)
    schedule = build_schedule(optimizer, total_steps=3, max_lr=0.2)
    for _ in range(3):
        step_on_fixed_batch(model, optimizer)
        schedule.step()
    with pytest.raises(ValueError, match="Tried to step 4 times"):
        schedule.step()


def test_a_constant_schedule_leaves_the_momentum_alone():
    rates, momenta = curve(5, name="constant")
    assert rates == [0.2] * 5
    assert momenta == [0.9] * 5


def test_a_cosine_rises_in_a_straight_line_and_leaves_the_momentum_alone():
    rates, momenta = curve(21, name="cosine", pct_start=0.2, div_factor=10.0, final_div_factor=10.0)
    assert rates[:5] == pytest.approx([0.02, 0.065, 0.11, 0.155, 0.2])
    assert rates[12] == pytest.approx(0.101)  # halfway down to 0.002
    assert rates[-1] == pytest.approx(0.002)
    assert momenta == [0.9] * 21
    assert curve(1, name="cosine")[0] == [0.2]


@pytest.mark.parametrize("schedule_name", ["onecycle", "cosine", "constant"])
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_makes_the_same_steps(name, schedule_name):
    def build(seed: int):
        model = small_model(seed)
        optimizer = optimizer_of(model, name)
        return model, optimizer, build_schedule(optimizer, total_steps=12, max_lr=0.2, name=schedule_name)

    def advance(model, optimizer, schedule, num_steps: int) -> list[tuple[float, float, float]]:
        trace = []
        for _ in range(num_steps):
            rate, momentum = optimizer.param_groups[0]["lr"], momentum_of(optimizer)
            trace.append((rate, momentum, step_on_fixed_batch(model, optimizer)))
            schedule.step()
        return trace

    parts = build(seed=0)
    advance(*parts, num_steps=5)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in parts], buffer)
    resumed = build(seed=1)
    buffer.seek(0)
    for part, state in zip(resumed, torch.load(buffer, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert advance(*resumed, num_steps=7) == advance(*parts, num_steps=7)


def test_an_unknown_name_is_refused():
    names = "'sgd', 'adamw', 'lars', 'lamb', 'lars_release' or 'lamb_release'"
    with pytest.raises(ValueError, match=f"^no optimizer named 'adam'; write {names}$"):
        optimizer_of(small_model(), name="adam")
    with pytest.raises(ValueError, match=r"^no schedule named 'step'; write 'onecycle', 'cosine' or 'constant'$"):
        build_schedule(optimizer_of(small_model()), total_steps=10, max_lr=0.2, name="step")

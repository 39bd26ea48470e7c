"""Two steps of LARS and LAMB by hand, as timm and as the paper's release compute them, and where the two differ."""

import math

import pytest
import torch
from torch import nn

from orderdp.training.optim import build_optimizer

LR, MOMENTUM, DECAY = 0.5, 0.8, 0.1


def norm(values):
    return math.hypot(*values)


def two_steps(name, weights, gradients, *, momentum=MOMENTUM, weight_decay=DECAY, **changes):
    """The weights after a step with each gradient."""
    parameter = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    optimizer = build_optimizer(nn.ParameterList([parameter]), name=name, momentum=momentum, weight_decay=weight_decay)
    optimizer.param_groups[0].update(lr=LR, **changes)
    found = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        assert parameter.grad.tolist() == pytest.approx(gradient)
        found.append(parameter.tolist())
    return found


def lars_by_hand(name, weights, gradients):
    velocity, found = [0.0] * len(weights), []
    for gradient in gradients:
        ratio = 0.001 * norm(weights) / (norm(gradient) + DECAY * norm(weights))
        decayed = [g + DECAY * w for g, w in zip(gradient, weights, strict=True)]
        if name == "lars":  # the scaling is in the velocity
            velocity = [MOMENTUM * v + ratio * d for v, d in zip(velocity, decayed, strict=True)]
            weights = [w - LR * v for w, v in zip(weights, velocity, strict=True)]
        else:
            clamped = [min(10.0, max(-10.0, d)) for d in decayed]
            velocity = [MOMENTUM * v + d for v, d in zip(velocity, clamped, strict=True)]
            weights = [w - LR * min(ratio, 50.0) * v for w, v in zip(weights, velocity, strict=True)]
        found.append(weights)
    return found


def lamb_by_hand(name, weights, gradients):
    mean, square, found = [0.0] * len(weights), [0.0] * len(weights), []
    for step, gradient in enumerate(gradients, start=1):
        if name == "lamb":  # the gradient of all weights together is cut to length 1
            gradient = [g / max(1.0, norm(gradient)) for g in gradient]
        mean = [MOMENTUM * m + (1 - MOMENTUM) * g for m, g in zip(mean, gradient, strict=True)]
        square = [0.999 * v + 0.001 * g * g for v, g in zip(square, gradient, strict=True)]
        first, second = (1 - MOMENTUM**step, 1 - 0.999**step) if name == "lamb" else (1.0, 1.0)
        parts = zip(mean, square, weights, strict=True)
        update = [m / first / (math.sqrt(v / second) + 1e-6) + DECAY * w for m, v, w in parts]
        length = norm(weights) if name == "lamb" else min(norm(weights), 10.0)
        weights = [w - LR * length / norm(update) * u for w, u in zip(weights, update, strict=True)]
        found.append(weights)
    return found


# Short weights and gradients; then gradients beyond ±10; then weights longer than 10.
CASES = {
    "small": ([3.0, -4.0], [[0.3, 0.4], [-0.6, 0.1]]),
    "large gradients": ([3.0, -4.0], [[30.0, -4.0], [-12.0, 50.0]]),
    "long weights": ([30.0, -40.0], [[0.3, 0.4], [-0.6, 0.1]]),
}


@pytest.mark.parametrize(("weights", "gradients"), list(CASES.values()), ids=list(CASES))
@pytest.mark.parametrize("name", ["lars", "lars_release", "lamb", "lamb_release"])
def test_two_steps_are_those_computed_by_hand(name, weights, gradients):
    by_hand = lars_by_hand if name.startswith("lars") else lamb_by_hand
    found, expected = two_steps(name, weights, gradients), by_hand(name, weights, gradients)
    for step, (mine, right) in enumerate(zip(found, expected, strict=True)):
        before = expected[step - 1] if step else weights
        moved = [a - b for a, b in zip(mine, before, strict=True)]
        assert moved == pytest.approx([a - b for a, b in zip(right, before, strict=True)], rel=1e-6), step


def distance(first, second):
    return norm([a - b for a, b in zip(first, second, strict=True)])


def test_lars_differs_from_the_second_step_on_or_where_a_gradient_is_cut():
    one, two = ([*two_steps(name, *CASES["small"])] for name in ("lars", "lars_release"))
    assert one[0] == pytest.approx(two[0], rel=1e-6)
    assert distance(one[1], two[1]) > 1e-4
    one, two = (two_steps(name, *CASES["large gradients"]) for name in ("lars", "lars_release"))
    assert distance(one[0], two[0]) > 1e-4


def test_lars_without_momentum_or_cut_is_the_same_in_both_forms():
    one, two = (two_steps(name, *CASES["small"], momentum=0.0) for name in ("lars", "lars_release"))
    assert one[1] == pytest.approx(two[1], rel=1e-6)


def test_the_release_s_lamb_is_timm_s_without_bias_correction_and_without_a_cut_of_the_gradient():
    """As far as the weights are no longer than 10."""

    def timm(case):
        parameter = nn.Parameter(torch.tensor(CASES[case][0], dtype=torch.float64))
        optimizer = build_optimizer(nn.ParameterList([parameter]), name="lamb", momentum=MOMENTUM, weight_decay=DECAY)
        optimizer.defaults["max_grad_norm"] = None
        optimizer.param_groups[0].update(lr=LR, bias_correction=False)
        for gradient in CASES[case][1]:
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
            optimizer.step()
        return parameter.tolist()

    for case in ("small", "large gradients"):
        assert two_steps("lamb_release", *CASES[case])[1] == pytest.approx(timm(case), rel=1e-5)
    assert distance(two_steps("lamb_release", *CASES["long weights"])[1], timm("long weights")) > 1


def test_a_tiny_gradient_moves_the_weights_by_fifty_times_itself_at_most():
    (after,) = two_steps("lars_release", [3.0, -4.0], [[3e-6, 4e-6]], weight_decay=0.0)
    assert [3.0 - after[0], after[1] + 4.0] == pytest.approx([LR * 50 * 3e-6, -LR * 50 * 4e-6], rel=0.01)


@pytest.mark.parametrize("name", ["lars_release", "lamb_release"])
def test_weights_of_zero_are_moved_by_the_plain_step(name):
    (after,) = two_steps(name, [0.0, 0.0], [[0.5, 0.0]])
    plain = 0.5 if name == "lars_release" else (1 - MOMENTUM) * 0.5 / (math.sqrt(0.001) * 0.5 + 1e-6)
    assert after == pytest.approx([-LR * plain, 0.0])


@pytest.mark.parametrize("name", ["lars_release", "lamb_release"])
def test_a_gradient_of_zero_leaves_weights_without_decay_where_they_are(name):
    assert two_steps(name, [3.0, -4.0], [[0.0, 0.0]] * 2, weight_decay=0.0) == [[3.0, -4.0]] * 2


@pytest.mark.parametrize("name", ["lars_release", "lamb_release"])
def test_weights_without_a_gradient_stay_and_a_closure_is_called_once(name):
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(nn.ParameterList([moved, still]), name=name, momentum=0.9, weight_decay=0.1)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (moved**2).sum()
        loss.backward()  # needs gradients inside the step
        calls.append(loss.item())
        return loss

    assert optimizer.step(closure).item() == 2
    assert calls == [2]
    assert still.tolist() == [1, 1]
    assert moved.tolist() != [1, 1]

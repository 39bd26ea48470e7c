"""DeepFool: closed form for a linear model, a plain loop for others, and labels that flip."""

import numpy as np
import pytest
import torch
from torch import nn

from orderdp.coresets import DeepFool, Evidence
from orderdp.coresets.deepfool import perturbation_norms, perturbations
from reference import static_scores


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(model, *, seed=0, scale=1.0):
    """The model in evaluation mode with normal parameters."""
    draws = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=draws))
    return model.eval()


def network(dtype=torch.float64):
    layers = [nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 5)]
    return filled(nn.Sequential(*layers), scale=0.5).to(dtype)


@pytest.fixture(scope="module")
def images():
    return torch.randn(40, 3, 2, 2, generator=generator(1), dtype=torch.float64)


def closed_form(weight, bias, inputs, num_classes=None):
    """(b,) the distance to the nearest boundary of a linear model: min over k of |f_k - f_o| / ‖w_k - w_o‖.

    `num_classes`: how many of the most probable classes k is among.
    """
    logits = inputs @ weight.T + bias
    first = logits.argmax(1)
    gaps = (logits - logits.gather(1, first[:, None])).abs()
    norms = torch.cdist(weight, weight)[first]
    gaps[norms == 0] = torch.inf
    gaps.scatter_(1, logits.argsort(1, descending=True)[:, num_classes or len(weight) :], torch.inf)
    return (gaps / norms).min(1).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_linear_model_it_is_the_smallest_perturbation(dtype):
    model = filled(nn.Linear(7, 4)).to(dtype)
    inputs = torch.randn(200, 7, generator=generator(1), dtype=dtype)
    expected = closed_form(model.weight.detach().double(), model.bias.detach().double(), inputs.double())
    torch.testing.assert_close(perturbation_norms(model, inputs), expected, rtol=1e-3, atol=1e-5)
    after = model(inputs + 1.001 * perturbations(model, inputs)).argmax(1)
    before = model(inputs + 0.999 * perturbations(model, inputs)).argmax(1)
    assert (after != model(inputs).argmax(1)).all()
    assert (before == model(inputs).argmax(1)).all()


def test_of_a_linear_model_it_takes_one_step():
    model = filled(nn.Linear(7, 4)).double()
    inputs = torch.randn(50, 7, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(perturbations(model, inputs, max_steps=1), perturbations(model, inputs))


def test_of_a_network_it_flips_the_label(images):
    model = network()
    changed = model(images + 1.001 * perturbations(model, images)).argmax(1)
    assert (changed != model(images).argmax(1)).all()


def test_it_is_its_twin(images):
    model = network()

    def gradients(point):
        tensor = torch.from_numpy(point)[None].requires_grad_()
        logits = model(tensor)[0]
        slopes = [torch.autograd.grad(logit, tensor, retain_graph=True)[0][0].numpy() for logit in logits]
        return logits.detach().numpy(), slopes

    expected = np.stack([static_scores.deepfool(gradients, image) for image in images[:12].numpy()])
    np.testing.assert_allclose(perturbations(model, images[:12]), expected, rtol=1e-3, atol=1e-6)


def test_a_sample_does_not_depend_on_its_batch(images):
    model = network()
    alone = torch.cat([perturbation_norms(model, image[None]) for image in images])
    torch.testing.assert_close(perturbation_norms(model, images), alone)


def test_looking_at_fewer_classes_finds_no_nearer_boundary():
    model = filled(nn.Linear(7, 6))
    inputs = torch.randn(100, 7, generator=generator(1))
    fewer = perturbation_norms(model, inputs, num_classes=2)
    all_classes = perturbation_norms(model, inputs)
    assert (fewer >= all_classes * (1 - 1e-6)).all()
    assert (fewer > all_classes * 1.01).any()
    torch.testing.assert_close(perturbation_norms(model, inputs, num_classes=6), all_classes)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_the_classes_looked_at_are_the_most_probable(number):
    model = filled(nn.Linear(7, 6)).double()
    inputs = torch.randn(100, 7, generator=generator(1), dtype=torch.float64)
    expected = closed_form(model.weight.detach(), model.bias.detach(), inputs, number)
    torch.testing.assert_close(perturbation_norms(model, inputs, num_classes=number), expected, rtol=1e-3, atol=1e-5)


def test_a_sample_on_a_flat_part_of_the_network_ranks_last():
    flat = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    flat = filled(flat)
    with torch.no_grad():
        flat[0].weight.copy_(torch.eye(2))
        flat[0].bias.zero_()
    norms = perturbation_norms(flat, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [3.0, 1.0]]))
    assert norms.argmax() == 0
    assert DeepFool().choose(Evidence(perturbations=norms), 2, quotas=None).indices.tolist() != [0]
    assert torch.isfinite(norms).all()


def test_it_leaves_the_model_and_the_inputs_as_they_were(images):
    model, inputs = network(), images.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # a caller may be in this mode
        perturbation_norms(model, inputs)
    assert torch.equal(inputs, images)
    assert not inputs.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_scorer_keeps_the_smallest():
    kept = DeepFool().choose(Evidence(perturbations=[3.0, 1.0, 2.0, 5.0]), 2, quotas=None).indices
    assert kept.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: perturbations(network().train(), x), ValueError, "model must be in evaluation mode"),
        (lambda x: perturbations(network(), x, num_classes=1), ValueError, r"num_classes must lie in 2 .. 5.*got 1"),
        (lambda x: perturbations(network(), x, num_classes=6), ValueError, r"num_classes must lie in 2 .. 5.*got 6"),
        (lambda x: perturbations(network(), x, max_steps=0), ValueError, "max_steps must be at least 1, got 0"),
        (lambda x: perturbations(nn.Identity().eval(), x), ValueError, r"logits of shape \(40, classes\).*got \(40, 3"),
    ],
)
def test_wrong_calls_are_refused(call, error, message, images):
    with pytest.raises(error, match=message):
        call(images)

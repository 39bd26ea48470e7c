"""DeepFool: the samples nearest to the decision boundary in input space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.theory.sizes import check_count

_LAST_STEP = 1e-4  # of the perturbation so far: a smaller step has reached the boundary, within rounding


@dataclass(frozen=True)
class DeepFool(Scorer):
    """Keeps the samples with the smallest perturbation that changes the prediction: score -`perturbations`.

    `deepfool.perturbation_norms` computes it.

    Departures: Ducoffe and Precioso choose unlabelled samples, in rounds. They also train on the perturbed inputs.

    Source: Ducoffe and Precioso, "Adversarial active learning for deep networks", 2018; Moosavi-Dezfooli et al.,
        "DeepFool", CVPR 2016.

    >>> DeepFool().score(Evidence(perturbations=[0.5, 2.0]))
    array([-0.5, -2. ])
    """

    name = "deepfool"
    label = "DeepFool"
    needs = ("perturbations",)
    references = (
        """@misc{ducoffe2018adversarial,
  title = {Adversarial Active Learning for Deep Networks: a Margin Based Approach},
  author = {Ducoffe, Melanie and Precioso, Frederic},
  year = {2018},
  eprint = {1802.09841},
  archiveprefix = {arXiv},
}""",
        """@inproceedings{moosavi2016deepfool,
  title = {{DeepFool}: a simple and accurate method to fool deep neural networks},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Frossard, Pascal},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages = {2574--2582},
  year = {2016},
}""",
    )

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        scores: Floats = 0 - evidence.perturbations
        return scores


def perturbation_norms(
    model: nn.Module, inputs: Tensor, *, num_classes: int | None = None, max_steps: int = 50
) -> Tensor:
    """Returns (b,) float64, the L2 norm of the perturbation of each input that `perturbations` finds.

    A sample whose gradients vanish before its prediction changes has none. It gets the largest float32, so that it
    ranks last.

    Args:
        model: from inputs to (b, c) logits, in evaluation mode.
        inputs: (b, ...) float, on the model's device.
        num_classes: how many of the most probable classes are looked at; None for all.
        max_steps: after so many steps, what was found so far counts.

    Raises:
        ValueError, TypeError: as `perturbations`.

    >>> model = nn.Linear(2, 2).eval()
    >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "bias": torch.zeros(2)})
    >>> perturbation_norms(model, torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor([1.4142, 0.7071], dtype=torch.float64)
    """
    found, stuck = _search(model, inputs, num_classes, max_steps)
    norms = _norms(found.double())
    norms[stuck] = torch.finfo(torch.float32).max
    return norms


def perturbations(model: nn.Module, inputs: Tensor, *, num_classes: int | None = None, max_steps: int = 50) -> Tensor:
    """Returns the change of each input that leads to the nearest decision boundary of the model, by DeepFool.

    Each step takes the model as linear around the point so far. Let o be the class predicted at first, f the logits,
    g_k = f_k - f_o, and w_k the gradient of g_k in the input. Of the other classes, l has the smallest |g_l| / ‖w_l‖.
    The step is |g_l| / ‖w_l‖² · w_l. The search ends without overshoot: when the prediction changes, or when the
    boundary is reached within rounding. For a linear model it is one step, and the smallest change there is.

    All inputs are searched at once. Those that are finished leave the batch.

    Departures: the authors' code multiplies the perturbation by 1.02 to cross the boundary, and looks at ten classes.

    Args:
        model: from inputs to (b, c) logits, in evaluation mode, where samples do not depend on each other.
        inputs: (b, ...) float, on the model's device.
        num_classes: how many of the most probable classes are looked at; None for all. Each one costs a backward pass.
        max_steps: after so many steps, what was found so far is returned.

    Returns:
        A tensor like `inputs`, without gradient.

    Raises:
        ValueError: the model is in training mode or gives no (b, c) logits with two classes or more, or a number is out
            of range. TypeError: a number that is no whole number.

    Source: Moosavi-Dezfooli et al., "DeepFool", CVPR 2016, Algorithm 2.
    """
    return _search(model, inputs, num_classes, max_steps)[0]


def _search(model: nn.Module, inputs: Tensor, num_classes: int | None, max_steps: int) -> tuple[Tensor, Tensor]:
    """Returns the perturbations, and (b,) bool whether the gradients vanished on the way."""
    max_steps = check_count("max_steps", max_steps)
    if any(module.training for module in model.modules()):
        raise ValueError("model must be in evaluation mode, got training mode; call model.eval()")
    inputs = inputs.detach()
    with torch.no_grad():
        classes = _most_probable(model(inputs), len(inputs), num_classes)
    total = torch.zeros_like(inputs)
    stuck = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    rows = torch.arange(len(inputs), device=inputs.device)
    for _ in range(max_steps):
        same, step = _step(model, inputs[rows] + total[rows], classes[rows])
        lost = same & ~step.flatten(1).isfinite().all(1)
        stuck[rows[lost]] = True
        moved = same & ~lost
        rows, step = rows[moved], step[moved]
        total[rows] += step
        rows = rows[_norms(step) > _LAST_STEP * _norms(total[rows])]
        if len(rows) == 0:
            break
    return total, stuck


def _most_probable(logits: Tensor, batch: int, num_classes: int | None) -> Tensor:
    """Returns (b, k) the classes to look at, the predicted one first."""
    if logits.ndim != 2 or len(logits) != batch or logits.shape[1] < 2:
        raise ValueError(
            f"model must give logits of shape ({batch}, classes) with at least 2 classes, got {tuple(logits.shape)}"
        )
    available = logits.shape[1]
    number = available if num_classes is None else check_count("num_classes", num_classes)
    if not 2 <= number <= available:
        raise ValueError(f"num_classes must lie in 2 .. {available}, the classes of the model, got {number}")
    return logits.argsort(dim=1, descending=True, stable=True)[:, :number]


def _step(model: nn.Module, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (b,) whether the prediction is still the first class, and the step to the nearest linear boundary."""
    with torch.enable_grad():
        points.requires_grad_()
        logits = model(points)
        chosen = logits.gather(1, classes)  # (b, k)
        first = _gradient(chosen[:, 0], points)
        nearest = torch.full_like(chosen[:, 0], torch.inf)
        step = torch.full_like(points, torch.inf)
        for column in range(1, classes.shape[1]):
            slope = _gradient(chosen[:, column], points) - first
            gap = (chosen[:, column] - chosen[:, 0]).detach().abs()
            norm = _norms(slope)
            distance = gap / norm  # infinite where the gradient vanishes
            nearer = distance < nearest
            nearest = torch.where(nearer, distance, nearest)
            # Not distance / norm, which may overflow.
            step = torch.where(_like(nearer, step), slope / _like(norm, step) * _like(distance, step), step)
    return logits.argmax(1) == classes[:, 0], step


def _gradient(outputs: Tensor, points: Tensor) -> Tensor:
    # One output for each sample, and samples do not depend on each other, so the sum has the gradient of each.
    (gradient,) = torch.autograd.grad(outputs.sum(), points, retain_graph=True)
    return gradient


def _norms(tensor: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms


def _like(values: Tensor, other: Tensor) -> Tensor:
    return values.view(-1, *[1] * (other.ndim - 1))

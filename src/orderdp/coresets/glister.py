"""GLISTER: the samples whose gradient steps lower the validation loss most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.last_layer import NEEDS, LastLayer
from orderdp.theory.sizes import check_count, check_number


@dataclass(frozen=True)
class GLISTER(Chooser):
    """Keeps the samples whose gradient has the largest product with the mean validation gradient.

    Times the learning rate, the product is to first order by how much a step on that sample lowers the validation loss.
    The mean validation gradient is taken after a step on the mean loss of the samples chosen so far, so that later ones
    add what is still missing. For the last layer alone the logits after such a step are exact.

    Departures: The publication steps on the sum of the losses. Over thousands of samples such a step leaves the range
    of the first order, so the mean is taken here. The gradient is refreshed `rounds` times; between, the largest
    products are taken together. The authors' library does so too, 15 times by default.

    With quotas each class begins at the proxy and looks at the validation samples of its own, as in that library and in
    DeepCore. The validation loss of other classes would rise with every sample chosen, since no step on theirs makes up
    for it, so the choice would be the samples with the smallest gradients. A class without validation samples looks at
    all of them.

    Args:
        learning_rate: of the step, above 0.
        rounds: how often the validation gradient is taken anew; at least the size, it is after every sample.

    Raises:
        TypeError: `rounds` no whole number, or `learning_rate` no number. ValueError: one of them not above 0.

    Source: Killamsetty et al., "GLISTER", AAAI 2021, Algorithm 2.
    """

    name = "glister"
    label = "GLISTER"
    needs = (*NEEDS, "validation")
    references = (
        """@inproceedings{killamsetty2021glister,
  title = {{GLISTER}: Generalization based Data Subset Selection for Efficient and Robust Learning},
  author = {Killamsetty, Krishnateja and Sivasubramanian, Durga and Ramakrishnan, Ganesh and Iyer, Rishabh},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {35},
  pages = {8110--8118},
  year = {2021},
}""",
    )

    learning_rate: float = 0.1
    rounds: int = 100

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, example="0.1")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must lie above 0 and be finite, got {self.learning_rate}; write 0.1")
        object.__setattr__(self, "rounds", check_count("rounds", self.rounds))

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        gradients = LastLayer.of(evidence, work.device)
        validation = Validation.of(evidence, work.device)
        chosen = torch.empty(0, dtype=torch.int64, device=work.device)
        direction = validation.gradients.mean()
        total = torch.zeros_like(direction)
        for count in work.progress(_counts(size, self.rounds), self.label):
            gains = gradients.along(direction)
            gains[chosen] = -torch.inf
            new = gains.argsort(descending=True, stable=True)[:count]
            chosen = torch.cat([chosen, new])
            total += gradients.take(new).sum()
            direction = validation.mean_after(total * (-self.learning_rate / len(chosen)))
        return Subset(chosen.cpu().numpy())


@dataclass(frozen=True, eq=False)
class Validation:
    """Samples held out, and their logits up to a constant for each sample.

    Args:
        gradients: (m,) at the proxy.
        logits: (m, c) float32.
        targets: (m, c) float32, one at the label.
    """

    gradients: LastLayer
    logits: Tensor
    targets: Tensor

    @classmethod
    def of(cls, evidence: Evidence, device: torch.device) -> Validation:
        """Returns the validation samples of the classes in the evidence, or all if there are none of these."""
        gradients, held_out = LastLayer.of_validation(evidence, device), evidence.validation
        assert held_out is not None
        probabilities = torch.tensor(np.asarray(held_out.probabilities, dtype=np.float32), device=device)
        logits = probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
        targets = probabilities - gradients.residuals
        same = torch.from_numpy(np.flatnonzero(np.isin(held_out.labels, evidence.labels))).to(device)
        return cls(gradients.take(same), logits[same], targets[same]) if len(same) else cls(gradients, logits, targets)

    def mean_after(self, step: Tensor) -> Tensor:
        """Returns (c, d + 1), the mean gradient once the last layer has moved by a (c, d + 1) step."""
        probabilities = (self.logits + self.gradients.inputs @ step.T).softmax(1)
        return LastLayer(probabilities - self.targets, self.gradients.inputs).mean()


def _counts(size: int, rounds: int) -> Iterable[int]:
    """Returns how many samples each round takes, as equal as possible."""
    rounds = min(rounds, size)
    return [(size * (number + 1)) // rounds - (size * number) // rounds for number in range(rounds)]

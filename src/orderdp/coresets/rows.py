"""Features as rows of a tensor, rounded so that their products are exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.evidence import Floats


def unit_rows(features: Floats, device: torch.device) -> Tensor:
    """Returns (n, d) float64, each row divided by its norm, in multiples of 2⁻²⁶. A row of zeros stays.

    The product of two rows is then exact in float64: it does not depend on the order in which it is summed.
    """
    rows = torch.from_numpy(np.array(features, dtype=np.float64)).to(device)
    rows /= rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float64).tiny)  # squares could overflow
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=0.5)  # at least 1, but for a row of zeros
    return rounded(rows, 26)


def centred_rows(features: Floats, device: torch.device) -> tuple[Tensor, float]:
    """Returns (n, d) float64, the features minus their mean divided by the largest number left, and that number.

    Distances stay the same but for this factor. With multiples of 2⁻²⁰, squared distances are exact in float64 up to
    2,048 features.
    """
    rows = torch.from_numpy(np.array(features, dtype=np.float64)).to(device)
    rows -= rows.mean(0)
    largest = float(rows.abs().max()) or 1.0
    return rounded(rows.div_(largest), 20), largest


def rounded(numbers: Tensor, bits: int) -> Tensor:
    """Rounds to multiples of 2⁻ᵇⁱᵗˢ, in place."""
    return numbers.mul_(2.0**bits).round_().mul_(2.0**-bits)

"""The theory of the paper, computed exactly, in the paper's letters.

| letter | meaning |
|---|---|
| n | number of samples |
| s | exploration size: drawn uniformly without replacement |
| q | exploitation size: the samples of the draw that are kept, those with the largest losses |
| j | rank of a sample, 1 the largest loss |
| γ_j | probability that the sample of rank j is kept, eq. (3) |
| L, L_q | mean of all losses; the surrogate (1/q) Σ_j γ_j L_(j) |
| σ_j | γ_j/q, the spectrum of L_q |
| C_s, Q_n | the two gaps of Theorem 4 |
| E, b | epochs, samples a step |

Nothing here imports the training side. Only the limits and `sampling_distance` need SciPy.
"""

from orderdp.theory.bounds import (
    GeneralizationBound,
    convergence_bound,
    generalization_bound,
    sampling_bound,
    sampling_distance,
    selection_bias,
    spectrum_gap,
)
from orderdp.theory.inclusion import inclusion_blocks, inclusion_probabilities
from orderdp.theory.limit import limit_density, limit_distribution
from orderdp.theory.losses import loss_at
from orderdp.theory.planner import Decomposition, Plan, plan
from orderdp.theory.proportional import (
    ProportionalDraw,
    proportional_draw,
    proportional_probabilities,
    proportional_sizes,
)
from orderdp.theory.surrogate import limit_spectrum, spectral_risk, spectrum, surrogate_loss, surrogate_weights
from orderdp.theory.toy import toy_infobatch, toy_orderdp
from orderdp.theory.windows import window_probabilities

__all__ = [
    "Decomposition",
    "GeneralizationBound",
    "Plan",
    "ProportionalDraw",
    "convergence_bound",
    "generalization_bound",
    "inclusion_blocks",
    "inclusion_probabilities",
    "limit_density",
    "limit_distribution",
    "limit_spectrum",
    "loss_at",
    "plan",
    "proportional_draw",
    "proportional_probabilities",
    "proportional_sizes",
    "sampling_bound",
    "sampling_distance",
    "selection_bias",
    "spectral_risk",
    "spectrum",
    "spectrum_gap",
    "surrogate_loss",
    "surrogate_weights",
    "toy_infobatch",
    "toy_orderdp",
    "window_probabilities",
]

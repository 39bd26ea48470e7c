"""Dynamic uncertainty: the samples whose predictions vary most while training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.theory.sizes import check_count


@dataclass(frozen=True)
class DynamicUncertainty(Scorer):
    """Keeps the samples whose probability of the true class varies most, over all windows of J epochs.

    The score is the standard deviation of p(y) in epochs k .. k + J - 1, with J - 1 in its denominator, averaged over
    all k.

    Args:
        window: J, epochs in a window, at least 2.

    Raises:
        TypeError: `window` no whole number. ValueError: below 2, or when it scores, more than the epochs.

    Departures: the publication leaves out the last window, which would leave none if t = J. Here it counts.

    Source: He et al., "Large-scale dataset pruning with dynamic uncertainty", CVPR workshops 2024, with J = 10.

    >>> trajectory = [[[0.5, 0.5], [0.9, 0.1]], [[0.7, 0.3], [0.9, 0.1]]]
    >>> DynamicUncertainty(window=2).score(Evidence(labels=[0, 0], trajectory=trajectory)).round(3)
    array([0.141, 0.   ])
    """

    name = "dynamic_uncertainty"
    label = "dynamic uncertainty"
    needs = ("labels", "trajectory")
    references = (
        """@inproceedings{he2024large,
  title = {Large-scale Dataset Pruning with Dynamic Uncertainty},
  author = {He, Muyang and Yang, Shuo and Huang, Tiejun and Zhao, Bo},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR) Workshops},
  pages = {7713--7722},
  year = {2024},
}""",
    )

    window: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_window(self.window, 2))

    @property
    def fewest_epochs(self) -> int:
        """One window."""
        return self.window

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        num_windows = count_windows(self, self.window, len(evidence.trajectory))
        rows = np.arange(evidence.num_samples)
        right = np.stack([p[rows, evidence.labels] for p in evidence.trajectory]).astype(np.float64)  # (t, n)
        total: npt.NDArray[np.float64] = np.zeros(evidence.num_samples)
        for begin in range(num_windows):
            total += right[begin : begin + self.window].std(axis=0, ddof=1)
        return total / num_windows


def check_window(window: int, least: int) -> int:
    """Returns a number of epochs as an int, if it is at least `least`."""
    window = check_count("window", window)
    if window < least:
        raise ValueError(f"window must be at least {least} epochs, got {window}; write 10")
    return window


def count_windows(method: Scorer, window: int, epochs: int) -> int:
    """Returns how many windows of epochs there are, if there is one."""
    if epochs < window:
        name = type(method).__name__
        raise ValueError(
            f"{name} needs a trajectory of at least {window} epochs, got {epochs}; write {name}(window={epochs})"
        )
    return epochs - window + 1

"""TDDS: the samples whose predictions change in the most uneven steps while training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.divergence import divergences
from orderdp.coresets.dynamic_uncertainty import check_window, count_windows
from orderdp.coresets.evidence import Array, Evidence, Floats
from orderdp.theory.sizes import check_fraction


@dataclass(frozen=True)
class TDDS(Scorer):
    """Keeps the samples whose change from epoch to epoch varies most within windows. Late windows count most.

    With p_t the prediction after epoch t, J = `window` and β = `decay`:

        change in epoch t:   d_t = Σ p_t·log(p_t / p_{t-1})
        of a window:         R = √Σ (d_t - mean d)², over its J - 1 changes
        over the windows:    G ← β·R + (1 - β)·G, from G = 0; the score is the last G

    Args:
        window: J, epochs in a window, at least 3, for two changes.
        decay: β, share of the newest window, in (0, 1].

    Raises:
        TypeError: a setting that is no number. ValueError: out of range, or when it scores, a window longer than the
            trajectory.

    Departures: the public code adds up the absolute values of the terms of d_t. Here d_t is the Kullback–Leibler
    divergence, which estimates the change of the loss. It is never negative. Probabilities below 1e-8 count as 1e-8.
    The public code takes the outputs during training, of augmented inputs, not after each epoch.

    The public code has J = 10 and β = 0.9. It tunes the length of the trajectory: 30 epochs of 200 in its example for
    CIFAR-100.

    Source: Zhang et al., "Spanning training progress: temporal dual-depth scoring", CVPR 2024, and its code.

    >>> trajectory = [[[0.5, 0.5], [0.9, 0.1]], [[0.8, 0.2], [0.9, 0.1]], [[0.8, 0.2], [0.9, 0.1]]]
    >>> TDDS(window=3).score(Evidence(trajectory=trajectory)).round(3)
    array([0.123, 0.   ])
    """

    name = "tdds"
    label = "TDDS"
    needs = ("trajectory",)
    references = (
        """@inproceedings{zhang2024spanning,
  title = {Spanning Training Progress: Temporal Dual-Depth Scoring ({TDDS}) for Enhanced Dataset Pruning},
  author = {Zhang, Xin and Du, Jiawei and Li, Yunsong and Xie, Weiying and Zhou, Joey Tianyi},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages = {26223--26232},
  year = {2024},
}""",
    )

    window: int = 10
    decay: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_window(self.window, 3))
        check_fraction("decay", self.decay, low_open=True, high_open=False)

    @property
    def fewest_epochs(self) -> int:
        """One window."""
        return self.window

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        trajectory: Array = evidence.trajectory
        num_windows = count_windows(self, self.window, len(trajectory))
        pairs = work.progress(zip(trajectory[1:], trajectory[:-1], strict=True), self.label, len(trajectory) - 1)
        changes = np.stack([by_rows(divergences, after, before) for after, before in pairs])  # (t - 1, n)
        score: npt.NDArray[np.float64] = np.zeros(evidence.num_samples)
        for begin in range(num_windows):
            part = changes[begin : begin + self.window - 1]
            score = self.decay * np.linalg.norm(part - part.mean(axis=0), axis=0) + (1 - self.decay) * score
        return score

"""CCS: an even draw over the range of a score, without its hardest samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.strategies.order import floor_share
from orderdp.theory.sizes import check_count, check_fraction


@dataclass(frozen=True)
class CCS(Chooser):
    """Drops the hardest samples, then draws evenly from strata of the remaining scores.

    1. Drop the ⌊β·n⌋ highest scores, β = `hard_cutoff`.
    2. Cut the range of the other scores into `num_strata` intervals of equal width.
    3. From the smallest stratum to the largest, draw the number left to draw, divided by the number of strata left.

    A stratum with fewer samples, perhaps none, gives all it has, and the others share the rest.

    The publication tunes β for each share kept. Its code shows 0.2 for 20 % and 0.3 for 10 %.

    Args:
        hard_cutoff: β, share of the hardest samples to drop, in [0, 1).
        num_strata: intervals; 50 in the public code.

    Raises:
        TypeError: a setting that is no number. ValueError: out of range.

    Departures: the publication chooses from all classes together, and so does quotas=None. Otherwise each class has
    strata of its own. The public code measures the hardness in step 1 by the area under the margin, whatever the score;
    here both are one score. β drops no more samples than can be spared. Equal scores are one stratum. The maximum
    belongs to the last stratum; the public code loses it if all scores are negative.

    Source: Zheng et al., "Coverage-centric coreset selection for high pruning rates", ICLR 2023, Algorithm 1.

    >>> scores = [0.0, 0.1, 0.2, 0.3, 0.4, 2.1, 3.9, 4.0, 9.0, 9.0]
    >>> np.sort(CCS(hard_cutoff=0.2, num_strata=2).choose(Evidence(scores=scores), 6, quotas=None).indices[:3])
    array([5, 6, 7])
    """

    name = "ccs"
    label = "CCS"
    needs = ("scores",)
    references = (
        """@inproceedings{zheng2023coverage,
  title = {Coverage-centric Coreset Selection for High Pruning Rates},
  author = {Zheng, Haizhong and Liu, Rui and Lai, Fan and Prakash, Atul},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
}""",
    )

    hard_cutoff: float = 0.1
    num_strata: int = 50

    def __post_init__(self) -> None:
        check_fraction("hard_cutoff", self.hard_cutoff, low_open=False, high_open=True)
        object.__setattr__(self, "num_strata", check_count("num_strata", self.num_strata))

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        scores: Floats = evidence.scores.astype(np.float64)
        dropped = min(floor_share(self.hard_cutoff, len(scores)), len(scores) - size)
        pool = work.rng.permutation(np.argsort(-scores, kind="stable")[dropped:])
        stratum = strata(scores[pool], self.num_strata)
        sizes = np.bincount(stratum, minlength=self.num_strata)
        drawn = []
        left = size
        for position, number in enumerate(np.argsort(sizes, kind="stable")):
            budget = min(int(sizes[number]), left // (self.num_strata - position))
            drawn.append(pool[stratum == number][:budget])
            left -= budget
        return Subset(np.concatenate(drawn))


def strata(scores: Floats, number: int) -> npt.NDArray[np.intp]:
    """Returns (n,) the interval of each score, of `number` intervals of equal width; 0 if all scores are equal."""
    low, width = scores.min(), np.ptp(scores)
    if width == 0:
        return np.zeros(len(scores), dtype=np.intp)
    intervals: npt.NDArray[np.intp] = ((scores - low) / width * number).astype(np.intp)
    return np.minimum(intervals, number - 1)

"""Graph cut: samples that are similar to all and not to each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.greedy import bar, lazy_greedy
from orderdp.coresets.rows import rounded, unit_rows
from orderdp.theory.sizes import check_number

GUO_2022 = """@inproceedings{guo2022deepcore,
  title = {{DeepCore}: A Comprehensive Library for Coreset Selection in Deep Learning},
  author = {Guo, Chengcheng and Zhao, Bo and Bai, Yanbing},
  booktitle = {Database and Expert Systems Applications},
  pages = {181--195},
  year = {2022},
}"""


@dataclass(frozen=True)
class GraphCut(Chooser):
    """Keeps samples that are similar to all samples and dissimilar to each other.

    A greedy choice raises Σ_{i all, j kept} s(i, j) - λ Σ_{i kept, j kept} s(i, j), with s = 0.5 + 0.5·cos of the
    angle between features. With λ = 1 this is the weight of the edges between the samples kept and the others.

    λ = 0 keeps the samples nearest to the centre. Up to 0.5 the sum never falls, and greedy reaches at least 1 - 1/e of
    the largest one. Beyond 0.5 the sum may fall late in the choice; greedy then takes what costs least.

    Args:
        redundancy: λ, at least 0.

    Raises:
        ValueError: a negative or infinite λ. TypeError: no number.

    Source: Iyer et al., "Submodular combinatorial information measures", ALT 2021; as a static method with λ = 1, Guo
        et al., "DeepCore", 2022. Departure: DeepCore compares last-layer gradients; here features are compared.

    >>> evidence = Evidence(features=[[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    >>> GraphCut().choose(evidence, 2, quotas=None).indices
    array([2, 1])
    """

    name = "graph_cut"
    label = "graph cut"
    needs = ("features",)
    references = (
        """@inproceedings{iyer2021submodular,
  title = {Submodular Combinatorial Information Measures with Applications in Machine Learning},
  author = {Iyer, Rishabh and Khargoankar, Ninad and Bilmes, Jeff and Asanani, Himanshu},
  booktitle = {Algorithmic Learning Theory},
  pages = {722--754},
  year = {2021},
}""",
        GUO_2022,
    )

    redundancy: float = 1.0

    def __post_init__(self) -> None:
        check_number("redundancy", self.redundancy, example="1.0")
        if not 0 <= self.redundancy < float("inf"):
            raise ValueError(f"redundancy must be a finite number of at least 0, got {self.redundancy}; write 1.0")

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        rows = unit_rows(evidence.features, work.device)
        gains = (rows @ rows.sum(0)).add_(len(rows)).mul_(0.5)
        if self.redundancy:
            gains /= 2 * self.redundancy  # what a pick then takes away is its similarity
            gains -= 0.25 + 0.25 * rows.square().sum(1)  # s(j, j) / 2
        picks = bar(work, self.label, len(rows))
        return Subset(lazy_greedy(_Angles(rows), rounded(gains, 24), self._lowered, size, picks))

    def _lowered(self, gains: Tensor, similarities: Tensor) -> Tensor:
        return gains - similarities.sum(1) if self.redundancy else gains


@dataclass(frozen=True, eq=False)
class _Angles:
    """Samples and their similarities 0.5 + 0.5·cos.

    Args:
        rows: (n, d) float64 of norm 1 or 0.
    """

    rows: Tensor

    def take(self, rows: Tensor | slice) -> _Angles:
        return _Angles(self.rows[rows])

    def numbers(self, picks: _Angles) -> Tensor:
        return rounded((self.rows @ picks.rows.T).add_(1).mul_(0.5), 24)  # sums are exact

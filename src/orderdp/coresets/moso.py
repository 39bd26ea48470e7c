"""MoSo: the samples whose absence would raise the risk of the others, to first order along the training."""

from __future__ import annotations

from dataclasses import dataclass

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats


@dataclass(frozen=True)
class MoSo(Scorer):
    """Keeps the samples whose gradients point along the mean gradient, throughout the training of the proxy.

    The score is Σₜ ηₜ·(gᵢ·ḡ)ₜ over the checkpoints, with learning rate η. Left out, such a sample would have been
    missed: the risk of the other samples would end higher, by the score over n to first order and up to a constant.

    Departures: A positive factor that all samples share is left out, since it changes no order. The mean gradient holds
    the sample itself, which adds ‖gᵢ‖²/n to its product; the authors' code takes this off again. The order is that of
    leaving one out while the training still descends. Trained to the minimum, the mean gradient is zero, and the first
    order says nothing.

    Source: Tan et al., "Data pruning via moving-one-sample-out", NeurIPS 2023.

    >>> evidence = Evidence(alignments=[[1.0, -1.0], [2.0, 0.0]], learning_rates=[0.1, 0.01])
    >>> MoSo().score(evidence).round(3)
    array([ 0.12, -0.1 ])
    """

    name = "moso"
    label = "MoSo"
    needs = ("alignments", "learning_rates")
    references = (
        """@inproceedings{tan2023moso,
  title     = {Data Pruning via Moving-one-Sample-out},
  author    = {Tan, Haoru and Wu, Sitong and Du, Fei and Chen, Yukang and Wang, Zhibin and Wang, Fan and Qi, Xiaojuan},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023}
}""",
    )

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        rates, alignments = evidence.learning_rates, evidence.alignments
        if len(rates) != len(alignments):
            raise ValueError(
                f"learning_rates must hold one for each checkpoint of alignments, got {len(rates)} for "
                f"{len(alignments)}; leave none out"
            )
        total: Floats = rates.astype(float) @ alignments
        return total

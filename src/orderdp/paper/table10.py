"""The toy example of the paper's Table 10: the exact outcome of every draw, and the numbers that the paper prints."""

from __future__ import annotations

from fractions import Fraction

from orderdp.paper.exhibit import Shown
from orderdp.theory.toy import GRADIENTS, Estimate, toy_infobatch, toy_orderdp

_PRINTED = {3: Fraction(3, 25), 4: Fraction(9, 50)}  # chances that OrderDP keeps these gradients, where they are wrong


def table10() -> Shown:
    """InfoBatch and OrderDP on five gradients: every set that may be kept, and the expectations of both normalisations.

    Source: OrderDP, Appendix E.1, Table 10.
    """
    methods = (("InfoBatch", toy_infobatch(), "4.336"), ("OrderDP", toy_orderdp(), "4.06"))
    rows = [row for name, estimate, _ in methods for row in _outcomes(name, estimate)]
    summary = [
        (name, f"{float(estimate.over_kept):g}", f"{float(estimate.over_all):g}", "3", printed)
        for name, estimate, printed in methods
    ]
    outcomes = methods[1][1].outcomes
    right = [str(outcome.probability) for outcome in outcomes]
    as_printed = sum(
        gradient * _PRINTED.get(gradient, outcome.probability)
        for gradient, outcome in zip(GRADIENTS, outcomes, strict=True)
    )
    note = (
        "The printed number is held against the mean over the kept. The paper's chances that OrderDP keeps 3 and 4 are "
        f"wrong: it prints {' and '.join(map(str, _PRINTED.values()))}, and counting every draw gives {right[2]} and "
        f"{right[3]}. So its {methods[1][2]} is outside; its own chances would give {float(as_printed):g}. InfoBatch "
        "itself divides the sum by n, and its expectation is then the full gradient."
    )
    return Shown(
        pictures={},
        tables={"table10": (("method", "kept", "probability", "rescaled sum", "mean of the kept", "prune rate"), rows)},
        summary=(("method", "mean over the kept", "sum over n = 5", "full gradient", "printed in the paper"), summary),
        note=note,
    )


def _outcomes(name: str, estimate: Estimate) -> list[tuple[str, str, str, str, float, float]]:
    return [
        (
            name,
            " ".join(map(str, outcome.kept)),
            str(outcome.probability),
            str(outcome.total),
            float(outcome.mean),
            1 - len(outcome.kept) / 5,
        )
        for outcome in estimate.outcomes
    ]

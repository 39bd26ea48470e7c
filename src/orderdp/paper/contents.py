"""What the paper shows, in the order in which it shows it, and the study of each, as the catalogue has it.

A study whose name begins with `open_` is on what the paper leaves open. It needs no line here.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from orderdp.paper.studies import Row, catalogue

# Name of each table, figure and theorem that can be measured, in the order of the paper, and what it shows.
CONTENTS = {
    "figure1": "training dynamics at 70 %",
    "figure2": "a drawing of the algorithm, without numbers",
    "theorem1": "the mean gradient of the selected samples",
    "theorem3": "the rate of convergence",
    "theorem4": "a bound of the generalisation error",
    "theorem4_sides": "both sides of that bound",
    "table1": "static pruning on CIFAR-10 and CIFAR-100",
    "table2": "dynamic pruning on CIFAR-10 and CIFAR-100",
    "figure3": "accuracy and time over prune ratios",
    "table3": "ImageNet at 40 %, ResNet-50",
    "figure4": "how to split a prune ratio",
    "table4": "ImageNet at 30, 40 and 60 %, ResNet-50",
    "table5": "Swin-Tiny and ViT-Base (MAE) on ImageNet",
    "table6": "the largest lossless prune ratio",
    "table7": "four optimisers on CIFAR-10",
    "figure5": "n·γ against its limit as n grows",
    "figure6": "γ against uniform sampling",
    "figure7": "the shares of the training by rank",
    "figure8": "the sum of the shares",
    "table8": "how stable the choice is",
    "figure9": "how often samples are used at 30 %",
    "figure10": "how often samples are used at 50 %",
    "figure11": "how often samples are used at 99 %",
    "figure12": "time to accuracy at 40 %",
    "figure13": "time to accuracy at 70 %",
    "appendix_d6": "ten runs at 70 %",
    "table9": "accuracy and gradient along the run",
    "table10": "a toy example of five gradients",
    "table11": "where the gradient points",
}
DRAWN = ("figure2",)  # what there is nothing to compute of
INSTANT = ("table10",)  # of the theory, what the page computes itself
_OPEN = "open_"


class Kind(Enum):
    """Whose question a place answers."""

    PRINTED = "the paper shows it"
    OPEN = "the paper names it and leaves it open"
    OWN = "the paper has nothing of it"


class Place(NamedTuple):
    """A table, figure or theorem of the paper, a question that it leaves open, or a study that it has not.

    Args:
        name: as studies are named.
        title: such as "Table 2: dynamic pruning on CIFAR-10 and CIFAR-100".
        row: its study; None if there is none.
        kind: whose question it is.
    """

    name: str
    title: str
    row: Row | None
    kind: Kind


def places() -> list[Place]:
    """Returns all that the paper shows, in its order, each with its study; then the studies that it has not."""
    rows = catalogue()
    others = [name for name in rows if name not in CONTENTS]
    return [_place(name, rows.get(name)) for name in (*CONTENTS, *others)]


def _place(name: str, row: Row | None) -> Place:
    kind = kind_of(name)
    stands_alone = row is not None and (row.file is not None or kind is not Kind.PRINTED)
    title = row.shows if row and stands_alone else f"{label_of(name)}: {row.shows if row else CONTENTS[name]}"
    return Place(name, title, row, kind)


def kind_of(name: str) -> Kind:
    """Returns whose question a study answers, by its name.

    >>> kind_of("open_mae")
    <Kind.OPEN: 'the paper names it and leaves it open'>
    """
    return Kind.PRINTED if name in CONTENTS else Kind.OPEN if name.startswith(_OPEN) else Kind.OWN


def label_of(name: str) -> str:
    """Returns what the paper calls it.

    >>> label_of("table10"), label_of("theorem4_sides")
    ('Table 10', 'Theorem 4, sides')
    """
    return re.sub(r"([a-z])(\d+)", r"\1 \2", name).replace("_", ", ").capitalize()

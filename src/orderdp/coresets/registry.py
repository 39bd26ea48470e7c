"""The static methods by name. A new method is imported here and gets a row in `__all__`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orderdp.coresets.base import StaticMethod
from orderdp.coresets.cal import CAL
from orderdp.coresets.calibrated import Calibrated
from orderdp.coresets.ccs import CCS
from orderdp.coresets.contextual_diversity import ContextualDiversity
from orderdp.coresets.craig import CRAIG
from orderdp.coresets.deepfool import DeepFool
from orderdp.coresets.dp import DP
from orderdp.coresets.dynamic_uncertainty import DynamicUncertainty
from orderdp.coresets.el2n import EL2N
from orderdp.coresets.entropy import Entropy
from orderdp.coresets.facility_location import FacilityLocation
from orderdp.coresets.forgetting import Forgetting
from orderdp.coresets.glister import GLISTER
from orderdp.coresets.grad_match import GradMatch
from orderdp.coresets.grand import GraNd
from orderdp.coresets.graph_cut import GraphCut
from orderdp.coresets.herding import Herding
from orderdp.coresets.influence import Influence
from orderdp.coresets.k_center import KCenter
from orderdp.coresets.k_means import KMeans
from orderdp.coresets.least_confidence import LeastConfidence
from orderdp.coresets.margin import Margin
from orderdp.coresets.moderate import Moderate
from orderdp.coresets.moso import MoSo
from orderdp.coresets.random import Random
from orderdp.coresets.tdds import TDDS
from orderdp.output.suggestions import did_you_mean

__all__ = [  # noqa: RUF022  (in the order of Table 1 of the OrderDP paper, then the others)
    "Random",
    "ContextualDiversity",
    "Herding",
    "KCenter",
    "KMeans",
    "LeastConfidence",
    "Entropy",
    "Margin",
    "Forgetting",
    "GraNd",
    "EL2N",
    "DeepFool",
    "CAL",
    "CRAIG",
    "GLISTER",
    "Influence",
    "DP",
    "GradMatch",
    "FacilityLocation",
    "GraphCut",
    "MoSo",
    "CCS",
    "Moderate",
    "DynamicUncertainty",
    "TDDS",
    "Calibrated",
]

BY_NAME: dict[str, type[StaticMethod]] = {globals()[row].name: globals()[row] for row in __all__}


def find(name: str) -> type[StaticMethod]:
    """Returns the class of a static method by its name.

    Raises:
        ValueError: no method of that name.

    >>> find("random").label
    'random'
    """
    if name not in BY_NAME:
        hint = did_you_mean(name, BY_NAME) or f"; choose from {', '.join(BY_NAME)}"
        raise ValueError(f"no static method named {name!r}{hint}")
    return BY_NAME[name]


def from_settings(name: str, settings: Mapping[str, Any]) -> StaticMethod:
    """Returns a static method with the settings of a recipe or of the command line.

    Raises:
        ValueError: no method of that name, or a setting that it does not take or refuses.
    """
    method = find(name)
    declared = method.__dataclass_fields__  # type: ignore[attr-defined]
    for setting, value in settings.items():
        if setting not in declared:
            hint = did_you_mean(setting, declared) or (
                f"; it takes {', '.join(declared)}" if declared else f"; leave {setting} out"
            )
            raise ValueError(f"{setting} does not apply to static method '{name}', got {value!r}{hint}")
    return method(**settings)

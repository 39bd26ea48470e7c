"""Static pruning: score a data set once, or choose a fixed subset of it."""

from orderdp.coresets.base import Chooser as Chooser
from orderdp.coresets.base import Scorer as Scorer
from orderdp.coresets.base import StaticMethod as StaticMethod
from orderdp.coresets.base import Subset as Subset
from orderdp.coresets.deepfool import perturbation_norms as perturbation_norms
from orderdp.coresets.evidence import Evidence as Evidence
from orderdp.coresets.greedi import greedi as greedi
from orderdp.coresets.per_sample import alignments as alignments
from orderdp.coresets.per_sample import gradient_norms as gradient_norms
from orderdp.coresets.per_sample import mean_gradient as mean_gradient
from orderdp.coresets.registry import *  # noqa: F403
from orderdp.coresets.registry import __all__ as _methods

__all__ = ["Chooser", "Evidence", "Scorer", "StaticMethod", "Subset", *_methods]
__all__ += ["alignments", "gradient_norms", "greedi", "mean_gradient", "perturbation_norms"]

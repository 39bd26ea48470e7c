"""The studies by name."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path

from orderdp.experiments.shown import Shown

# Name to the module that holds a function of that name, and what it shows. Modules load when their study runs.
STUDIES = {
    "figure5": ("theory_figures", "n·γ against its limit as n grows"),
    "figure6": ("theory_figures", "γ against uniform sampling, and the gap C_s"),
    "figure7": ("theory_figures", "the shares of the training by rank as q grows"),
    "figure8": ("theory_figures", "the sum of the shares, which is 1"),
    "theorem1": ("theorem1", "OrderDP's mean gradient against those of L_q and L, on digits"),
    "theorem3": ("theorem3", "the error after T steps against its bound, on convex problems"),
    "theorem4": ("theorem4", "the bias terms over a grid of sizes, on digits"),
}


def run_study(name: str, folder: Path) -> list[Path]:
    """Runs a study and writes what it shows into the folder, over what an earlier run left there.

    Returns:
        The files written.

    Raises:
        ValueError: no study of that name. OSError: a file cannot be written. ImportError: an extra is missing.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(STUDIES)}"
        raise ValueError(f"no study named {name!r}; {hint}")
    module, _ = STUDIES[name]
    shown: Shown = getattr(import_module(f"orderdp.experiments.{module}"), name)()
    return shown.write(name, folder)

"""The studies by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from orderdp.output.suggestions import did_you_mean
from orderdp.paper.exhibit import Shown
from orderdp.paper.study import read_study, study_files

# Studies that train nothing: name to the module that holds a function of that name, and what it shows. The others are
# the TOML files beside this one. Modules load when their study runs.
STUDIES = {
    "figure5": ("figures", "n·γ against its limit as n grows"),
    "figure6": ("figures", "γ against uniform sampling, and the gap C_s"),
    "figure7": ("figures", "the shares of the training by rank as q grows"),
    "figure8": ("figures", "the sum of the shares, which is 1"),
    "table10": ("table10", "InfoBatch and OrderDP on five gradients, by every draw"),
    "theorem1": ("theorem1", "OrderDP's mean gradient against those of L_q and L, on digits"),
    "theorem3": ("theorem3", "the error after T steps against its bound, on convex problems"),
    "theorem4": ("theorem4", "the bias terms over a grid of sizes, on digits"),
}


def study_names() -> dict[str, str]:
    """Returns every study by name, and what it shows."""
    trained = {name: read_study(path)["title"] for name, path in study_files().items()}
    return dict(sorted({**{name: shows for name, (_, shows) in STUDIES.items()}, **trained}.items(), key=_in_order))


def _in_order(item: tuple[str, str]) -> tuple[str, int]:
    name = item[0].rstrip("0123456789")
    return name, int(item[0][len(name) :] or 0)


def check_name(name: str) -> None:
    """Raises ValueError unless there is a study of that name."""
    names = study_names()
    if name not in names:
        hint = did_you_mean(name, names) or f"; choose from {', '.join(names)}"
        raise ValueError(f"no study named {name!r}{hint}")


def run_study(name: str, folder: Path) -> list[Path]:
    """Runs a study of `STUDIES` and writes what it shows into the folder, over what an earlier run left there.

    Returns:
        The files written.

    Raises:
        OSError: a file cannot be written. ImportError: an extra is missing.
    """
    module, _ = STUDIES[name]
    shown: Shown = getattr(import_module(f"orderdp.paper.{module}"), name)()
    return shown.write(name, folder)

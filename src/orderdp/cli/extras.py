"""What to install where a package is missing that a command needs."""

from __future__ import annotations

import sys
from importlib.util import find_spec

PACKAGES = {  # of the extra `train`, with those that it includes: what is imported, and the package that holds it
    "accelerate": "accelerate",
    "filelock": "filelock",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "tomli_w": "tomli-w",
    "torchvision": "torchvision",
    "tqdm": "tqdm",
    **({"tomli": "tomli"} if sys.version_info < (3, 11) else {}),
}


def what_is_missing(error: ModuleNotFoundError) -> str:
    """Returns what a failed import lacks and how to install it, with all other packages of the extra that are missing.

    The packages are named one by one, so the line works in a clone and after the installation of a wheel.
    """
    name = (error.name or str(error)).partition(".")[0]
    if name not in PACKAGES:
        return f"{name}, which is not installed"
    missing = [package for module, package in PACKAGES.items() if module == name or not _is_there(module)]
    return f"{PACKAGES[name]}: pip install {' '.join(missing)}"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False

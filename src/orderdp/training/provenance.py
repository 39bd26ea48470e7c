"""Where a measurement comes from: device, threads, versions and commit; and the digest of its tensors."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orderdp.version import __version__

DIRTY = "-dirty"  # ends the commit of a checkout with changes that are not committed
AND = " and "  # stands between what a run records that went on in several environments
NOT_RECORDED = "not recorded"

_PARTS = ("torchvision", "timm", "transformers", "pillow")  # optional packages that models and images come from


def environment(device: torch.device) -> dict[str, Any]:
    """Returns what a measurement on `device` depends on: device, threads, versions and commit."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with the build, which the package's own version leaves out
            "orderdp": __version__,  # a source tree that is not installed has no metadata
            **{name: version(name) for name in ("numpy", "accelerate")},
            **{name: found for name in _PARTS if (found := _version_of(name)) is not None},
        },
        "commit": commit(),
    }


@cache
def commit() -> str | None:
    """Returns the commit of the checkout that this code runs from, None outside one.

    It is asked for once: what is committed later does not change the code that this process has imported. Call it
    before a long computation whose environment is written at its end.
    """
    here = Path(__file__)
    try:
        # A virtual environment may lie in another project's checkout, whose commit says nothing about this code.
        _git("ls-files", "--error-unmatch", here.name, cwd=here.parent)
        return _git("describe", "--always", f"--dirty={DIRTY}", "--abbrev=12", cwd=here.parent)
    except (OSError, subprocess.CalledProcessError):
        return None


def joined(environments: Sequence[Any]) -> Any:
    """Returns the environment of a run that went on in several: what all have, and "one and another" of the rest.

    >>> joined([{"commit": "2354ad928440", "threads": 1}, {"commit": "7ae535282323", "threads": 1}])
    {'commit': '2354ad928440 and 7ae535282323', 'threads': 1}
    """
    first, *others = environments
    if all(other == first for other in others):
        return first
    if any(isinstance(each, Mapping) for each in environments):
        tables = [each or {} for each in environments]  # a release may record more than another
        return {name: joined([each.get(name) for each in tables]) for name in dict.fromkeys(chain(*tables))}
    return AND.join(dict.fromkeys(chain.from_iterable(map(apart, environments))))


def apart(value: Any) -> list[str]:
    """Returns what a run recorded under a name, such as its commit, in each environment that it went on in.

    >>> apart("2354ad928440 and 7ae535282323"), apart(None)
    (['2354ad928440', '7ae535282323'], ['not recorded'])
    """
    return [NOT_RECORDED] if value is None else str(value).split(AND)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names and bits."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()

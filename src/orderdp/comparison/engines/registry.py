"""The engines by their names."""

from __future__ import annotations

from typing import Any

from orderdp.comparison.engines.base import Engine
from orderdp.comparison.engines.elsewhere import Elsewhere
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.engines.ray_tasks import RayTasks
from orderdp.comparison.engines.slurm_jobs import SlurmJobs
from orderdp.output.suggestions import did_you_mean

ELSEWHERE: dict[str, type[Elsewhere]] = {engine.name: engine for engine in (RayTasks, SlurmJobs)}
NAMES = (LOCAL.name, *ELSEWHERE)


def engine_named(name: str, /, **options: Any) -> Engine:
    """Returns an engine with its options. Imports no package of it.

    Raises:
        ValueError: no such engine, or options for local processes, which take none.
    """
    if name not in NAMES:
        hint = did_you_mean(name, NAMES) or f"; choose from {', '.join(NAMES)}"
        raise ValueError(f"no engine named {name!r}{hint}")
    if name in ELSEWHERE:
        return ELSEWHERE[name](**options)
    if options:
        raise ValueError(f"engine local takes no options, got {', '.join(options)}; leave --engine-options out")
    return LOCAL

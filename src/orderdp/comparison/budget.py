"""How long a run will take, and whether the time that is left is enough to begin it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from orderdp.comparison.planned import Sizes, read_planned
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder, spent_s
from orderdp.training.steps import total_steps


@dataclass(frozen=True)
class Budget:
    """Until when runs may train.

    Args:
        ends: seconds since 1970, so that other processes know the same time.
        stated_s: how long a run is said to take, for a comparison without a finished run; 0 if nobody has said.
    """

    ends: float
    stated_s: float = 0.0

    def left_s(self) -> float:
        """Returns the seconds that are left; negative afterwards."""
        return self.ends - time.time()

    def allows(self, run: RunFolder, label: str, recipe: Recipe, sizes: Sizes) -> bool:
        """Returns whether a run may begin, or go on: whether it is expected to end in time.

        Args:
            run: its folder, in that of its comparison.
            label: what all runs are called that differ from it in their seed only.
            recipe: its settings.
            sizes: of its data.
        """
        steps = total_steps(recipe, sizes.num_samples, sizes.num_ranks)
        return self.expected_s(run.path.parent, label, steps) <= self.left_s()

    def expected_s(self, comparison: Path, label: str, steps: int | None) -> float:
        """Returns how long a run will take: as the same with another seed, else as other runs by their steps.

        Args:
            comparison: folder of the comparison.
            label: as in `allows`.
            steps: optimiser steps that it makes; None, if that depends on the losses, expects the most of the others.
        """
        planned = read_planned(comparison)
        found = [(run.label, result) for run in planned.runs if (result := _result(comparison / run.name))]
        if not found:
            return self.stated_s
        same = [whole_s(result) for name, result in found if name == label]
        if same:
            return max(same)
        most = max(result["steps"] for _, result in found) if steps is None else steps
        return most * fmean(whole_s(result) / max(1, result["steps"]) for _, result in found)


def whole_s(result: dict[str, float]) -> float:
    """Returns the seconds of a run with its evaluations, from its result."""
    return spent_s(result) + float(result["evaluation_s"])


def _result(run: Path) -> dict[str, float] | None:
    try:
        return RunFolder(run).result()
    except ValueError:  # damaged, which is reported at the end
        return None

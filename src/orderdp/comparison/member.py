"""One run of a comparison: its name, its settings, and its folder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import most_steps


@dataclass(frozen=True)
class Member:
    """One run of a comparison.

    Args:
        label: what tables call it, the same for all seeds.
        recipe: its settings.
        steps_of: name of the run whose number of steps it takes, if the number is not known before that run ends.
        short: label of full data with as many steps as this run makes; None if it is not planned.
        beside: label of the shorter schedule that this one is beside, with another augmentation; None for all others.
    """

    label: str
    recipe: Recipe
    steps_of: str | None = None
    short: str | None = None
    beside: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        plain = re.sub(r"(?<!\w)-", "minus ", self.label.replace("ε", "epsilon").replace("e+", "e"))
        return "-".join([*re.findall(r"[A-Za-z0-9.]+", plain), f"seed{self.recipe.seed}"])

    @property
    def title(self) -> str:
        """The label, with the prune ratio if the label does not show it."""
        strategy = self.recipe.strategy
        share = f" {100 * (strategy.asked_ratio or 0):.12g} %"
        shown = share in self.label and "prune_ratio" in strategy.settings()
        return f"{self.label} (prunes{share})" if strategy.prunes and not shown else self.label

    def recipe_in(self, path: Path, num_samples: int, num_ranks: int = 1) -> Recipe | None:
        """Returns the settings in a comparison's folder; None while the run whose steps it takes has no result."""
        if self.steps_of is None:
            return self.recipe
        try:
            result = RunFolder(path / self.steps_of).result()
        except ValueError:
            return None
        return None if result is None else shortened(self.recipe, result["steps"], num_samples, num_ranks)


def shortened(full: Recipe, steps: int, num_samples: int, num_ranks: int = 1) -> Recipe:
    """Returns a recipe on full data that ends, with its learning-rate schedule, after this many steps."""
    epoch = most_steps(full.model_copy(update={"epochs": 1, "max_steps": None}), num_samples, num_ranks)
    return full.model_copy(update={"max_steps": steps, "epochs": math.ceil(steps / epoch)})

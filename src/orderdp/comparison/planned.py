"""The planned runs of a comparison in plain values, as its folder and its archive hold them.

Nothing here builds a strategy or imports user code, so a folder can be read without its methods being installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.output.toml import parse_toml, read_toml
from orderdp.training.recipe import gathered

FILE = "comparison.toml"
FILE_0_1 = "plan.toml"  # of release 0.1, which listed the methods but not the runs
REFERENCES = ("full", "short")


class Sizes(NamedTuple):
    """The sizes of the data, and the number of ranks, so that a folder can be read without its data.

    Args:
        num_samples: training samples.
        num_test_samples: samples that the accuracy is measured on.
        num_ranks: ranks that train each run; a step has `batch_size` samples of each.
    """

    num_samples: int
    num_test_samples: int
    num_ranks: int = 1


class PlannedRun(NamedTuple):
    """One planned run.

    Args:
        label: its name in tables, the same for all seeds.
        method: the label without its prune ratio.
        name: of its folder.
        seed: its seed.
        reference: whether it trains on full data, for the whole schedule or a shorter one.
        strategy: the table that describes its strategy in a recipe.
        ratio: the prune ratio under which tables show it; None for full data.
        short: label of full data with as many steps; None for references, or if that is not planned.
        steps_of: name of the run whose number of steps it takes, if the number is not known before that run ends.
        max_steps: steps of a shorter schedule; None if it does not end early, or with `steps_of`.
        epochs: epochs of a shorter schedule; None for those of the recipe.
        max_lr: learning rate that was chosen for it; None for that of the recipe.
        augment: augmentation of a shorter schedule; None for that of the recipe.
    """

    label: str
    method: str
    name: str
    seed: int
    reference: bool
    strategy: Mapping[str, Any]
    ratio: float | None = None
    short: str | None = None
    steps_of: str | None = None
    max_steps: int | None = None
    epochs: int | None = None
    max_lr: float | None = None
    augment: str | None = None


@dataclass(frozen=True)
class Planned:
    """What a comparison's folder says about all its runs.

    Args:
        recipe: the recipe as a plain table.
        recipe_text: the recipe as TOML.
        table: the content of `comparison.toml`.
        seeds: seeds of every run.
        against: references, of `REFERENCES`.
        sizes: of the data.
        runs: in the order in which they are made.
    """

    recipe: dict[str, Any]
    recipe_text: str
    table: dict[str, Any]
    seeds: tuple[int, ...]
    against: tuple[str, ...]
    sizes: Sizes
    runs: tuple[PlannedRun, ...]


def planned_of(recipe_text: str, table: dict[str, Any]) -> Planned:
    """Returns the planned runs that a recipe and the content of a `comparison.toml` describe.

    Raises:
        ValueError, KeyError, TypeError: something is missing or of the wrong type.
    """
    return Planned(
        gathered(parse_toml(recipe_text)),
        recipe_text,
        table,
        tuple(table["seeds"]),
        tuple(table["against"]),
        sizes_of(table),
        tuple(PlannedRun(**run) for run in table["runs"]),
    )


def sizes_of(table: Mapping[str, Any]) -> Sizes:
    """Returns the sizes in the content of a `comparison.toml`."""
    return Sizes(int(table["num_samples"]), int(table["num_test_samples"]), int(table.get("num_ranks", 1)))


def read_planned(path: Path) -> Planned:
    """Returns the planned runs of a comparison's folder.

    Raises:
        ValueError: the folder holds no comparison, or a file cannot be read.
    """
    try:
        table = read_toml(path / FILE, "a comparison", example="seeds = [0, 1, 2]")
        return planned_of((path / "recipe.toml").read_text(encoding="utf-8"), table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise no_comparison(path, error) from None


def no_comparison(path: Path, error: Exception) -> ValueError:
    """Returns the error to raise if a folder holds no comparison, or is damaged."""
    why = f" ({error})" if (path / FILE).exists() or (path / FILE_0_1).exists() else ""
    return ValueError(
        f"the folder of a comparison must hold recipe.toml and {FILE}, got {path}{why}; "
        "write the folder of an earlier 'orderdp train' or 'orderdp compare'"
    )

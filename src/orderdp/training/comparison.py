"""A pruned run beside its references: all the data, and all the data for as many steps as the pruned run makes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from orderdp.output.files import make_new, write_whole
from orderdp.output.text_table import as_markdown
from orderdp.training.data import DataSets, load_dataset
from orderdp.training.loop import Run, most_steps, total_steps
from orderdp.training.methods import label_of
from orderdp.training.plots import draw_plots
from orderdp.training.recipe import Recipe, load_recipe, nearest
from orderdp.training.run_folder import RunFolder
from orderdp.training.table import Row, lines, rows

REFERENCES = ("full", "short")


@dataclass(frozen=True)
class Plan:
    """Which runs to make of one recipe.

    Args:
        recipe: the pruned run.
        prune_ratios: prune ratios to run it at; empty for the recipe's own sizes.
        seeds: seeds to run everything with.
        against: references: "full" is all the data, "short" all the data with the number of steps of the pruned run.

    Raises:
        ValueError: an unknown reference, or settings that the recipe refuses.
    """

    recipe: Recipe
    prune_ratios: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    against: tuple[str, ...] = REFERENCES

    def __post_init__(self) -> None:
        for name in self.against:
            if name not in REFERENCES:
                hint = nearest(name, REFERENCES) or f"; choose from {', '.join(REFERENCES)}"
                raise ValueError(f"no reference named {name!r}{hint}")
        if self.recipe.max_steps is not None and self.against:
            raise ValueError(
                f"max_steps cuts the pruned run and its references alike, got {self.recipe.max_steps}; "
                "leave it out, or compare against nothing"
            )
        for name, values in (("prune_ratio", self.prune_ratios), ("seed", self.seeds), ("against", self.against)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be given once each, got {list(values)}; leave the repeats out")

    def members(self, num_samples: int) -> list[Member]:
        """Returns the runs in the order in which they are made."""
        found = []
        for seed in self.seeds:
            base = self.recipe.model_copy(update={"seed": seed})
            pruned = [base.model_copy(update={"prune_ratio": ratio}) for ratio in self.prune_ratios] or [base]
            found += [Member(label_of(recipe), recipe) for recipe in pruned]
            if base.strategy == "full":
                continue
            full = base.model_copy(update={"strategy": "full", **_WITHOUT_METHOD})
            if "full" in self.against:
                found.append(Member("full data", full))
            if "short" in self.against:
                for recipe in pruned:
                    label = f"full data, steps of {label_of(recipe)}"
                    steps = total_steps(recipe, num_samples)
                    if steps is None:
                        found.append(Member(label, full, steps_of=Member(label_of(recipe), recipe).name))
                    else:
                        found.append(Member(label, shortened(full, steps, num_samples)))
        return found


_WITHOUT_METHOD = {
    name: Recipe.model_fields[name].get_default(call_default_factory=True)
    for name in ("prune_ratio", "explore", "exploit", "initial_score", "uniform_share", "per", "fresh", "settings")
}


def shortened(full: Recipe, steps: int, num_samples: int) -> Recipe:
    """Returns a recipe on all the data that ends, with its learning rate, after so many steps."""
    epoch = most_steps(full.model_copy(update={"epochs": 1, "max_steps": None}), num_samples)
    return full.model_copy(update={"max_steps": steps, "epochs": math.ceil(steps / epoch)})


@dataclass(frozen=True)
class Member:
    """One run of a plan.

    Args:
        label: what it is, the same for all seeds.
        recipe: its settings.
        steps_of: name of the run whose number of steps it takes, which is not known before that run has ended.
    """

    label: str
    recipe: Recipe
    steps_of: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        plain = "".join(letter if letter.isalnum() or letter == "." else " " for letter in self.label)
        return "-".join([*plain.split(), f"seed{self.recipe.seed}"])


def start(plan: Plan, path: Path, *, show: bool = True, tell: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Makes the run folder, makes all runs of the plan in it and returns the table.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed.
        ValueError, OSError, FloatingPointError: as `Run` and `load_dataset`.
    """
    state = PartialState(cpu=plan.recipe.device == "cpu")  # first: the number of steps depends on that of the ranks
    data = _load(plan.recipe)
    members = plan.members(len(data.train))
    # Settings that fit neither the data nor the machine fail here, before anything is written.
    for member in members:
        total_steps(member.recipe, len(data.train))
    Run(members[0].recipe, data, RunFolder(path), show=False)
    path = Path(broadcast_object_list([str(path)])[0])  # a name made of the time may differ between ranks
    if state.is_main_process:
        make_new(path)
        write_whole(path / "recipe.toml", plan.recipe.to_toml().encode())
        settings = {name: list(value) for name, value in asdict(plan).items() if name != "recipe"}
        write_whole(path / "plan.json", (json.dumps(settings) + "\n").encode())
    state.wait_for_everyone()
    return _run(plan, data, path, show=show, tell=tell)


def resume(path: Path, *, show: bool = True, tell: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Goes on with the runs in a folder: finished ones are kept, a broken one continues where it was.

    Raises:
        ValueError: no run folder, or one that does not fit what it was. Others as `start`.
    """
    plan = load_plan(path)
    return _run(plan, _load(plan.recipe), path, show=show, tell=tell)


def load_plan(path: Path) -> Plan:
    """Returns the plan of a run folder.

    Raises:
        ValueError: there is none that can be read.
    """
    try:
        settings = json.loads((path / "plan.json").read_text())
        lists = {name: tuple(settings[name]) for name in ("prune_ratios", "seeds", "against")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"a run folder must hold recipe.toml and plan.json, got {path} ({error}); "
            "write the folder of an earlier 'orderdp train'"
        ) from None
    return Plan(load_recipe(path / "recipe.toml"), **lists)


def _load(recipe: Recipe) -> DataSets:
    return load_dataset(
        recipe.dataset,
        data_root=None if recipe.data_root is None else Path(recipe.data_root),
        train_size=recipe.train_size,
        image_size=recipe.image_size,
        download=recipe.download,
    )


def _run(plan: Plan, data: DataSets, path: Path, *, show: bool, tell: Callable[[str], None]) -> list[Row]:
    state = PartialState(cpu=plan.recipe.device == "cpu")
    members = plan.members(len(data.train))
    folders: dict[str, list[RunFolder]] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    for number, member in enumerate(members, 1):
        folder = RunFolder(path / member.name)
        result = folder.result()
        if result is None:
            if state.is_main_process:
                tell(f"[{number}/{len(members)}] {member.label}, seed {member.recipe.seed}")
                recipe = member.recipe
                if member.steps_of is not None:
                    steps = json.loads((path / member.steps_of / "result.json").read_text())["steps"]
                    recipe = shortened(recipe, steps, len(data.train))
                folder.begin(recipe)
            state.wait_for_everyone()
            result = Run(folder.recipe(), data, folder, show=show).train()
        folders.setdefault(member.label, []).append(folder)
        results.setdefault(member.label, []).append(result)
    table = rows(results)
    if state.is_main_process:
        summary = {"rows": [asdict(row) for row in table], "runs": [run for group in results.values() for run in group]}
        write_whole(path / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
        write_whole(path / "table.md", as_markdown(lines(table)).encode())
        draw_plots(folders, path / "plots")
    state.wait_for_everyone()
    return table

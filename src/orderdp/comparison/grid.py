"""Which runs a comparison makes: each method, full data, and full data for as many steps as each method makes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from orderdp.comparison.planned import (
    FILE,
    FILE_0_1,
    REFERENCES,
    Planned,
    PlannedRun,
    Sizes,
    no_comparison,
    planned_of,
    read_planned,
    sizes_of,
    strategy_of,
)
from orderdp.output.files import write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml
from orderdp.training.methods import asked_ratio, label_of
from orderdp.training.recipe import Recipe, load_recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import most_steps, total_steps

FULL = "full data"


@dataclass(frozen=True)
class Comparison:
    """Which runs to make of one recipe.

    Args:
        recipe: how everything is trained, with the method to prune by.
        methods: keys of a recipe that make a method, for each pruned run; empty for the recipe's own.
        seeds: seeds to run everything with.
        against: references: "full" is all the data, "short" all the data with the number of steps of a pruned run.

    Raises:
        ValueError: an unknown reference, two methods alike, or settings that the recipe refuses.
    """

    recipe: Recipe
    methods: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = (0,)
    against: tuple[str, ...] = REFERENCES

    def __post_init__(self) -> None:
        for name in self.against:
            if name not in REFERENCES:
                hint = did_you_mean(name, REFERENCES) or f"; choose from {', '.join(REFERENCES)}"
                raise ValueError(f"no reference named {name!r}{hint}")
        if self.recipe.max_steps is not None and self.against:
            raise ValueError(
                f"max_steps cuts the pruned run and its references alike, got {self.recipe.max_steps}; "
                "leave it out, or compare against nothing"
            )
        labels = [label_of(recipe) for recipe in self.pruned()]
        for name, values in (("method", labels), ("seed", self.seeds), ("against", self.against)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be given once each, got {list(values)}; leave the repeats out")

    def pruned(self) -> list[Recipe]:
        """Returns the recipe of each method, with the seed of the plan's recipe."""
        return [self.recipe.with_method(method) for method in self.methods] or [self.recipe]

    def members(self, num_samples: int, num_ranks: int = 1) -> list[Member]:
        """Returns the runs in the order in which they are made: seed after seed, a whole comparison in each."""
        return [member for seed in self.seeds for member in self._of_seed(seed, num_samples, num_ranks)]

    def _of_seed(self, seed: int, num_samples: int, num_ranks: int) -> Iterator[Member]:
        pruned = [recipe.model_copy(update={"seed": seed}) for recipe in self.pruned()]
        full = pruned[0].with_method({"strategy": "full"})
        by_steps = {total_steps(full, num_samples, num_ranks): FULL} if "full" in self.against else {}
        shorts = []
        for recipe in pruned:
            label, steps = label_of(recipe), total_steps(recipe, num_samples, num_ranks)
            if recipe.strategy == "full" or "short" not in self.against:
                yield Member(label, recipe)
                continue
            known = by_steps.get(steps)
            own = known or f"{FULL}, steps of {label}"
            yield Member(label, recipe, short=own)
            if steps is None:
                shorts.append(Member(own, full, steps_of=Member(label, recipe).name))
            elif known is None:
                by_steps[steps] = own
                shorts.append(Member(own, shortened(full, steps, num_samples, num_ranks)))
        if "full" in self.against and all(recipe.strategy != "full" for recipe in pruned):
            yield Member(FULL, full)
        yield from shorts

    def table(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the content of `comparison.toml`: the settings, and every planned run in plain values."""
        settings = {"seeds": list(self.seeds), "against": list(self.against), **sizes._asdict()}
        methods = {"methods": [dict(method) for method in self.methods]} if self.methods else {}
        members = self.members(sizes.num_samples, sizes.num_ranks)
        return {**settings, **methods, "runs": [_plain(run) for run in _planned_runs(members)]}

    def write(self, path: Path, sizes: Sizes) -> None:
        """Writes the comparison into a folder; `load_comparison` reads it back, and `read_planned` its runs.

        Raises:
            OSError: a file cannot be written.
        """
        write_whole(path / "recipe.toml", self.recipe.to_toml().encode())
        write_whole(path / FILE, tomli_w.dumps(self.table(sizes)).encode())


def _planned_runs(members: Sequence[Member]) -> Iterator[PlannedRun]:
    ratios: dict[str, float] = {}  # label of a shorter schedule to the prune ratio of the run it is named after
    for member in members:
        if member.short is not None:
            ratios.setdefault(member.short, asked_ratio(member.recipe))
    for member in members:
        reference = member.recipe.strategy == "full"
        ratio = ratios.get(member.label) if reference else asked_ratio(member.recipe)
        if member.label == FULL:
            ratio = None
        cut = reference and member.recipe.max_steps is not None
        yield PlannedRun(
            label=member.label,
            method=member.label if ratio is None else member.label.replace(f" {100 * ratio:.12g} %", ""),
            name=member.name,
            seed=member.recipe.seed,
            reference=reference,
            strategy=strategy_of(member.recipe.method()),
            ratio=ratio,
            short=member.short,
            steps_of=member.steps_of,
            max_steps=member.recipe.max_steps if cut else None,
            epochs=member.recipe.epochs if cut else None,
        )


def _plain(run: PlannedRun) -> dict[str, Any]:
    """Returns a planned run as a table of TOML, which cannot write None."""
    return {name: value for name, value in run._asdict().items() if value is not None}


def grid(recipe: Recipe, methods: Iterable[Mapping[str, Any]], ratios: Sequence[float]) -> tuple[dict[str, Any], ...]:
    """Returns the methods at every prune ratio, each once, a ratio at a time; one with sizes of its own as it is.

    Raises:
        ValueError: a method that the recipe refuses.
    """
    methods = list(methods)
    found: dict[str, dict[str, Any]] = {}
    for ratio in ratios:
        for method in methods:
            sized = {"prune_ratio", "explore", "exploit"} & set(method)
            full = recipe.with_method(method if sized else {**method, "prune_ratio": ratio})
            found.setdefault(label_of(full), full.method())
    return tuple(found.values())


def load_comparison(path: Path) -> tuple[Comparison, Sizes]:
    """Returns the comparison in a folder, and the sizes of the data that its runs train on.

    A folder of release 0.1 is read too.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        file = path / (FILE if (path / FILE).exists() or not (path / FILE_0_1).exists() else FILE_0_1)
        table = read_toml(file, "a comparison", example="seeds = [0, 1, 2]")
        seeds, against = (tuple(table[name]) for name in ("seeds", "against"))
        methods = tuple(dict(method) for method in table.get("methods", ()))
        sizes = sizes_of(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise no_comparison(path, error) from None
    return Comparison(load_recipe(path / "recipe.toml"), methods, seeds, against), sizes


def planned_in(path: Path) -> Planned:
    """Returns the planned runs of a comparison's folder, also of one of release 0.1.

    That release did not write down the runs, so they are worked out from its methods.

    Raises:
        ValueError: it is no such folder, or a file cannot be read.
    """
    if (path / FILE).exists() or not (path / FILE_0_1).exists():
        return read_planned(path)
    comparison, sizes = load_comparison(path)
    return planned_of(comparison.recipe.to_toml(), comparison.table(sizes))


def shortened(full: Recipe, steps: int, num_samples: int, num_ranks: int = 1) -> Recipe:
    """Returns a recipe on all the data that ends, with its learning rate, after so many steps."""
    epoch = most_steps(full.model_copy(update={"epochs": 1, "max_steps": None}), num_samples, num_ranks)
    return full.model_copy(update={"max_steps": steps, "epochs": math.ceil(steps / epoch)})


@dataclass(frozen=True)
class Member:
    """One run of a plan.

    Args:
        label: what it is, the same for all seeds.
        recipe: its settings.
        steps_of: name of the run whose number of steps it takes, which is not known before that run has ended.
        short: label of all the data with as many steps as this run makes; None where it is not part of the plan.
    """

    label: str
    recipe: Recipe
    steps_of: str | None = None
    short: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        plain = re.sub(r"(?<!\w)-", "minus ", self.label.replace("ε", "epsilon").replace("e+", "e"))
        return "-".join([*re.findall(r"[A-Za-z0-9.]+", plain), f"seed{self.recipe.seed}"])

    def recipe_in(self, path: Path, num_samples: int, num_ranks: int = 1) -> Recipe | None:
        """Returns the settings in a comparison's folder; None while the run whose steps it takes has no result."""
        if self.steps_of is None:
            return self.recipe
        try:
            result = RunFolder(path / self.steps_of).result()
        except ValueError:
            return None
        return None if result is None else shortened(self.recipe, result["steps"], num_samples, num_ranks)

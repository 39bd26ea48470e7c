"""The runs of a comparison: each method, full data, and full data for as many steps as each method makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from orderdp.comparison.lossless import Search
from orderdp.comparison.member import Member, shortened
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
)
from orderdp.output.files import write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml
from orderdp.strategies import FullData, Strategy
from orderdp.strategies.registry import find, from_table, importing_nothing, to_table
from orderdp.theory.sizes import check_number, check_once
from orderdp.training.recipe import Recipe, gathered, load_recipe
from orderdp.training.steps import most_steps, total_steps

FULL = "full data"
_LARGEST_BUDGET = 2


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison under one recipe.

    Args:
        recipe: settings of every run, and the method if `methods` is empty.
        methods: the table of each strategy to compare; empty for the recipe's own.
        seeds: seeds to train every run with.
        against: references: "full" is full data, "short" is full data for the number of steps of a pruned run.
        budgets: multiples of full data's steps, in (0, 2], to train full data for as well, each with a schedule that
            ends with them.
        max_lrs: learning rates to choose from for each run, pruned or not, on held-out training data; () to train all
            with that of the recipe.
        tuned: label of a run to the rate that was chosen for it.
        short_augment: augmentation of a second shorter schedule beside each one, not of its fine-tuning; None for no
            second one.
        lossless: the search for the largest lossless prune ratio, which plans runs as it goes; None to plan all runs.

    Raises:
        ValueError: an unknown reference, two equal methods, a budget outside (0, 2], rates with a fixed subset or
            beside `held_out`, or settings that the recipe refuses.
    """

    recipe: Recipe
    methods: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = (0,)
    against: tuple[str, ...] = REFERENCES
    budgets: tuple[float, ...] = ()
    max_lrs: tuple[float, ...] = ()
    tuned: Mapping[str, float] = field(default_factory=dict)
    short_augment: str | None = None
    lossless: Search | None = None

    def __post_init__(self) -> None:
        for name in self.against:
            if name not in REFERENCES:
                hint = did_you_mean(name, REFERENCES) or f"; choose from {', '.join(REFERENCES)}, or give none of them"
                raise ValueError(f"no reference named {name!r}{hint}")
        if self.recipe.max_steps is not None and self.against:
            raise ValueError(
                f"max_steps cuts the pruned run and its references equally, got {self.recipe.max_steps}; "
                "leave it out, or compare against nothing"
            )
        for budget in self.budgets:
            check_number("budgets", budget, example="0.5")
            if not 0 < budget <= _LARGEST_BUDGET:
                raise ValueError(
                    f"budgets are multiples of full data's steps and must lie in (0, {_LARGEST_BUDGET}], got {budget}; "
                    "write 0.5 for half of them"
                )
        if self.budgets and "full" not in self.against:
            raise ValueError(
                f"budgets are multiples of full data's steps, got {list(self.budgets)} without full data; "
                "add full to against"
            )
        for rate in self.max_lrs:
            self.recipe.model_copy(update={"max_lr": rate})  # which refuses what is no rate
        self._check_holds_out()
        self._check_search()
        if self.short_augment is not None:
            self.recipe.model_copy(update={"augment": self.short_augment})  # which refuses what is none
            if "short" not in self.against or self.short_augment == self.recipe.augment:
                raise ValueError(
                    f"short_augment is of a second shorter schedule, other than the first, got {self.short_augment} "
                    f"beside augment {self.recipe.augment} and against {' '.join(self.against)}; leave it out"
                )
        labels = [recipe.label for recipe in self.pruned()]
        lists = {"methods": labels, "seed": self.seeds, "against": self.against, "budgets": self.budgets}
        for name, values in {**lists, "max_lr": self.max_lrs}.items():
            check_once(name, values)
        folders = {Member(recipe.label, recipe).name.lower() for recipe in self.pruned()}
        if len(folders) != len(labels):
            raise ValueError(
                f"methods must have labels that differ in letters from a to z or digits, which name their folders, got "
                f"{labels}; write another label in a class of yours"
            )

    def _check_holds_out(self) -> None:
        """Raises ValueError if a rate cannot be chosen on training images that are held out for it."""
        if not self.max_lrs:
            return
        if self.recipe.held_out:
            raise ValueError(
                f"max_lrs are chosen on training images that no run is evaluated on, got held_out "
                f"{self.recipe.held_out:g}; leave one of them out"
            )
        for recipe in self.pruned():
            if recipe.strategy.names_samples:
                raise ValueError(
                    f"max_lrs are chosen with a tenth of the training images held out, got {recipe.label}, a fixed "
                    "subset of all of them; write one max_lr"
                )

    def _check_search(self) -> None:
        """Raises ValueError unless a search has full data, and nothing beside it that it would not plan."""
        if self.lossless is None:
            return
        if set(self.against) != {"full"}:
            raise ValueError(
                f"a search for the largest lossless ratio compares with full data alone, got against "
                f"{list(self.against)}; write against = ['full']"
            )
        beside = {"max_lrs": self.max_lrs, "budgets": self.budgets}
        for name, values in beside.items():
            if values:
                raise ValueError(
                    f"{name} are not for a search for the largest lossless ratio, got {list(values)}; leave them out"
                )

    def pruned(self) -> list[Recipe]:
        """Returns the recipe of each method, with the first seed."""
        return self._pruned(self.seeds[0] if self.seeds else self.recipe.seed)

    def _pruned(self, seed: int) -> list[Recipe]:
        changes = [{"strategy": method} for method in self.methods] or [{}]
        return [self.recipe.model_copy(update={"seed": seed, **change}) for change in changes]

    def members(self, num_samples: int, num_ranks: int = 1) -> list[Member]:
        """Returns the runs in training order: all runs of the first seed, then of the next."""
        return [
            self._with_own_rate(member)
            for position, seed in enumerate(self.seeds)
            for member in self._of_seed(seed, num_samples, num_ranks)
            if self.lossless is None or self.lossless.wants(member.label, position)
        ]

    def _with_own_rate(self, member: Member) -> Member:
        if member.label not in self.tuned:
            return member
        return replace(member, recipe=member.recipe.model_copy(update={"max_lr": self.tuned[member.label]}))

    def _of_seed(self, seed: int, num_samples: int, num_ranks: int) -> Iterator[Member]:
        pruned = self._pruned(seed)
        full = pruned[0].model_copy(update={"strategy": FullData()})
        by_steps = {total_steps(full, num_samples, num_ranks): FULL} if "full" in self.against else {}
        shorts = []
        for recipe in pruned:
            label, steps = recipe.label, total_steps(recipe, num_samples, num_ranks)
            if not recipe.strategy.prunes or "short" not in self.against:
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
        if "full" in self.against and all(recipe.strategy.prunes for recipe in pruned):
            yield Member(FULL, full)
        yield from shorts
        if self.short_augment is not None:
            for short in shorts:
                first = short.recipe
                changes = another_augment(self.short_augment, own=first.augment, finetune=first.finetune)
                label = with_augment(short.label, self.short_augment)
                recipe = first.model_copy(update=changes)
                yield replace(short, label=label, recipe=recipe, beside=short.label)
        yield from self._of_budgets(full, set(by_steps), num_samples, num_ranks)

    def _of_budgets(self, full: Recipe, known: set[int | None], num_samples: int, num_ranks: int) -> Iterator[Member]:
        """Yields full data for the budgets whose number of steps no other reference makes."""
        whole = most_steps(full, num_samples, num_ranks)
        for budget in self.budgets:
            steps, label = round(budget * whole), f"{FULL}, {100 * budget:.12g} % of the steps"
            if steps < 1:
                raise ValueError(
                    f"a budget must leave at least one of the {whole} steps, got {budget}; "
                    f"write {1 / whole:.2g} or more"
                )
            if steps not in known:
                known.add(steps)
                yield Member(label, shortened(full, steps, num_samples, num_ranks))

    def table(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the content of `comparison.toml`: the settings, and every planned run in plain values."""
        settings = {"seeds": list(self.seeds), "against": list(self.against), **sizes._asdict()}
        methods = {"methods": [dict(method) for method in self.methods]} if self.methods else {}
        lists = {"budgets": list(self.budgets), "max_lrs": list(self.max_lrs), "tuned": dict(self.tuned)}
        filled: dict[str, Any] = {name: values for name, values in lists.items() if values}
        if self.short_augment is not None:
            filled["short_augment"] = self.short_augment
        if self.lossless is not None:
            filled["lossless"] = self.lossless.table()
        members = self.members(sizes.num_samples, sizes.num_ranks)
        return {**settings, **filled, **methods, "runs": [_plain(run) for run in _planned_runs(members, self.tuned)]}

    def write(self, path: Path, sizes: Sizes) -> None:
        """Writes the comparison into a folder; `load_comparison` reads it back, and `read_planned` its runs.

        Raises:
            OSError: a file cannot be written.
        """
        recipe = path / "recipe.toml"
        if not recipe.exists() or load_recipe(recipe) != self.recipe:  # release 0.1 wrote it in another form
            write_whole(recipe, self.recipe.to_toml().encode())
        write_whole(path / FILE, tomli_w.dumps(self.table(sizes)).encode())


def another_augment(augment: str, *, own: str, finetune: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the keys of a recipe to change for another augmentation; its fine-tuning keeps the recipe's own.

    >>> another_augment("crop", own="none", finetune={"epochs": 2})
    {'augment': 'crop', 'finetune': {'augment': 'none', 'epochs': 2}}
    """
    return {"augment": augment, **({} if finetune is None else {"finetune": {"augment": own, **finetune}})}


def with_augment(label: str, augment: str) -> str:
    """Returns the label of a shorter schedule beside another one, with an augmentation of its own.

    >>> with_augment("full data, steps of UCB 50 %", "crop")
    'full data, steps of UCB 50 %, augment crop'
    """
    return f"{label}, augment {augment}"


def _planned_runs(members: Sequence[Member], tuned: Mapping[str, float]) -> Iterator[PlannedRun]:
    ratios: dict[str, float] = {}  # label of a shorter schedule to the prune ratio of the run it is named after
    showing: set[str] = set()  # labels with a ratio, and not only with other shares of the same value
    for member in members:
        if member.short is not None:
            ratios.setdefault(member.short, member.recipe.strategy.asked_ratio or 0.0)
        if "prune_ratio" in member.recipe.strategy.settings():
            showing |= {member.label, member.short or member.label}
    for member in members:
        reference = not member.recipe.strategy.prunes
        ratio = ratios.get(member.beside or member.label) if reference else member.recipe.strategy.asked_ratio or 0.0
        if member.label == FULL:
            ratio = None
        cut = reference and member.recipe.max_steps is not None
        yield PlannedRun(
            label=member.label,
            method=without_ratio(member.label, ratio if (member.beside or member.label) in showing else None),
            name=member.name,
            seed=member.recipe.seed,
            reference=reference,
            strategy=member.recipe.model_dump(exclude_none=True)["strategy"],
            ratio=ratio,
            short=member.short,
            steps_of=member.steps_of,
            max_steps=member.recipe.max_steps if cut else None,
            epochs=member.recipe.epochs if cut else None,
            max_lr=tuned.get(member.label),
            augment=None if member.beside is None else member.recipe.augment,
        )


def without_ratio(label: str, ratio: float | None) -> str:
    """Returns the label without the ratio, which comes before all other shares."""
    return label if ratio is None else label.replace(f" {100 * ratio:.12g} %", "", 1)


def _plain(run: PlannedRun) -> dict[str, Any]:
    """Returns a planned run as a table of TOML, which cannot write None."""
    return {name: value for name, value in run._asdict().items() if value is not None}


def grid(recipe: Recipe, methods: Iterable[Mapping[str, Any]], ratios: Sequence[float]) -> tuple[dict[str, Any], ...]:
    """Returns each method at every prune ratio, ratio by ratio; a method that sets its size appears once.

    Args:
        recipe: settings of every run, with one of the seeds.
        methods: the table of each method.
        ratios: the prune ratios.

    Raises:
        ValueError: a method that the recipe refuses, or two that tables would call the same.
    """
    methods = list(methods)
    found: dict[str, Strategy] = {}
    for ratio in ratios:
        for method in methods:
            table = at_ratio(method, ratio)
            label = with_method(recipe, table).label  # which refuses what does not fit
            strategy = from_table(table, epochs=recipe.epochs)
            other = found.setdefault(label, strategy)
            if other != strategy:
                raise ValueError(
                    f"methods must have labels of their own, got {label!r} of {other.name} and {strategy.name}; write "
                    "another label in a class of yours, or compare them apart"
                )
    return tuple(to_table(strategy, epochs=recipe.epochs) for strategy in found.values())


def load_comparison(path: Path) -> tuple[Comparison, Sizes]:
    """Returns the comparison in a folder, and the sizes of the data that its runs train on.

    A folder of release 0.1 is read too, if its runs have the names that this release gives them.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        file = path / (FILE if (path / FILE).exists() or not (path / FILE_0_1).exists() else FILE_0_1)
        table = read_toml(file, "a comparison", example="seeds = [0, 1, 2]")
        seeds, against = (tuple(table[name]) for name in ("seeds", "against"))
        methods = tuple(_table(method) for method in table.get("methods", ()))
        budgets, max_lrs = (tuple(table.get(name, ())) for name in ("budgets", "max_lrs"))
        search = Search.from_table(table["lossless"]) if "lossless" in table else None
        sizes = sizes_of(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise no_comparison(path, error) from None
    recipe, tuned = load_recipe(path / "recipe.toml"), table.get("tuned", {})
    augment = table.get("short_augment")
    comparison = Comparison(recipe, methods, seeds, against, budgets, max_lrs, tuned, augment, search)
    if file.name == FILE_0_1:
        _check_names(path, comparison, sizes)
    return comparison, sizes


def _check_names(path: Path, comparison: Comparison, sizes: Sizes) -> None:
    """Raises ValueError if a folder of release 0.1 holds a run that would count as missing under its name of today."""
    planned = {member.name for member in comparison.members(sizes.num_samples, sizes.num_ranks)}
    others = sorted({file.parent.name for file in path.glob("*/recipe.toml")} - planned)
    if others:
        raise ValueError(
            f"a folder of release 0.1 must hold planned runs only, got {others[0]} in {path} (1 of {len(others)}); "
            "this release leaves default settings out of names, so use release 0.1 there, or move such runs elsewhere"
        )


def planned_in(path: Path) -> Planned:
    """Returns the planned runs of a comparison's folder, also of one of release 0.1.

    That release did not write down the runs, so they are derived from its methods. A custom strategy is not imported:
    its settings alone are known.

    Raises:
        ValueError: the folder holds no comparison, or a file cannot be read.
    """
    if (path / FILE).exists() or not (path / FILE_0_1).exists():
        return read_planned(path)
    with importing_nothing():
        comparison, sizes = load_comparison(path)
        return planned_of(comparison.recipe.to_toml(), comparison.table(sizes))


def at_ratio(method: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    """Returns the table of a strategy at a prune ratio; a table that sets the size is returned unchanged."""
    return dict(method) if find(method["name"]).has_size(method) else {**method, "prune_ratio": ratio}


def with_method(recipe: Recipe, method: Mapping[str, Any]) -> Recipe:
    """Returns a recipe with its strategy replaced by that of a table."""
    return recipe.model_copy(update={"strategy": method})


def _table(method: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table of a strategy, also of one that release 0.1 wrote in flat keys."""
    return dict(method) if "name" in method else dict(gathered(method)["strategy"])

"""Searches for the largest lossless prune ratio in the folder of a comparison: set up, followed, continued.

What comes next follows from the results on disk alone, and the plan only grows. So a search that was stopped continues
as it would have, and several processes may continue it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from orderdp.comparison.grid import FULL, Comparison, grid, load_comparison, with_method, without_ratio
from orderdp.comparison.lossless import Search, Trail
from orderdp.comparison.results import Results, read_results
from orderdp.comparison.verdicts import FEWEST_SEEDS, rounding_of
from orderdp.strategies.registry import find
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import alone_in

KEY = "lossless"  # in comparison.toml


def searching(
    recipe: Recipe,
    methods: Sequence[Mapping[str, Any]],
    prune_ratios: Sequence[float],
    seeds: Sequence[int] = (0, 1, 2),
    **settings: Any,
) -> Comparison:
    """Returns a comparison that searches for the largest lossless prune ratio of each method.

    Args:
        recipe: settings of every run.
        methods: the table of each method, without its prune ratio.
        prune_ratios: the grid, in (0, 1).
        seeds: the first seeds of every run, with different numbers; the next are the whole numbers after the highest.
        **settings: `margin`, `seeds_max` and `alpha` of `Search`.

    Raises:
        ValueError: a method that takes no prune ratio or is refused by the recipe, more seeds than `seeds_max`, or as
            `Search`.
        TypeError: a setting that is no number.
    """
    ratios = tuple(sorted(prune_ratios))
    search = Search(ratios, {}, **settings)
    if not methods or not seeds:
        raise ValueError(
            f"a search needs a method and a seed at least, got {len(methods)} methods and {len(seeds)} seeds; write "
            '[{"name": "orderdp"}] and seeds=(0, 1, 2)'
        )
    if len(seeds) > search.seeds_max:
        raise ValueError(
            f"seeds_max must be at least the number of seeds to begin with, got {search.seeds_max} for "
            f"{len(seeds)} seeds; write seeds_max = {len(seeds)}"
        )
    arms: dict[str, tuple[str, ...]] = {}
    for method in methods:
        tables = grid(recipe, [method], ratios)
        labels = tuple(with_method(recipe, table).label for table in tables)
        if len(labels) < len(ratios) or find(method["name"]).has_size(method):
            raise ValueError(
                f"a method of a search gets its prune ratio from the search, got {labels[0]}, which has its own or "
                "takes none; leave its size out, or the method"
            )
        arms[without_ratio(labels[0], ratios[0])] = labels
    search = replace(search, arms=arms)
    first = {arm: search.follow(arm, {}).asks for arm in arms}
    begun = {ask[0]: min(len(seeds), FEWEST_SEEDS) for ask in first.values() if ask is not None}
    search = replace(search, seeds_of=begun)
    return Comparison(recipe, grid(recipe, methods, ratios), tuple(seeds), ("full",), lossless=search)


def search_of(results: Results) -> Search | None:
    """Returns the search of a comparison; None if it plans all its runs beforehand."""
    table = results.planned.table.get(KEY)
    return None if table is None else Search.from_table(table)


def trails_of(results: Results) -> dict[str, Trail]:
    """Returns how far the search of each method has come, by the name of the method; nothing without a search."""
    search = search_of(results)
    if search is None:
        return {}
    differences = {label: _differences(results, label) for labels in search.arms.values() for label in labels}
    least = rounding_of(results.sizes.num_test_samples)
    return {arm: search.follow(arm, differences, least_deviation=least) for arm in search.arms}


def _differences(results: Results, label: str) -> list[float]:
    """Returns run minus full data of each seed, in the order of the seeds, up to the first that is not finished."""
    if label not in results.entries or FULL not in results.entries:
        return []
    mine, full = (results.entries[name].values("accuracy_last") for name in (label, FULL))
    found = []
    for seed in results.seeds:
        if seed not in mine or seed not in full:
            break
        found.append(mine[seed] - full[seed])
    return found


def plan_next(path: Path, log: Callable[[str], None]) -> int:
    """Plans the runs that the search in a folder needs next, and returns how many runs are planned.

    A method whose planned runs are not all finished gets no more of them. Nothing is changed in a folder without a
    search.

    Args:
        path: folder of the comparison.
        log: called with a line for each method that has come to its next prune ratio.

    Raises:
        ValueError: the folder holds no comparison, or it holds a run of another recipe than planned.
        OSError: a file cannot be written.
    """
    if PartialState().is_main_process and load_comparison(path)[0].lossless is not None:
        with alone_in(path):
            comparison, sizes = load_comparison(path)
            grown = _grown(comparison, trails_of(read_results(path)), log)
            if grown != comparison:
                grown.write(path, sizes)
    PartialState().wait_for_everyone()
    comparison, sizes = load_comparison(path)
    return len(comparison.members(sizes.num_samples, sizes.num_ranks))


def _grown(comparison: Comparison, trails: Mapping[str, Trail], log: Callable[[str], None]) -> Comparison:
    """Returns the comparison with the runs that its trails ask for."""
    assert comparison.lossless is not None
    planned = dict(comparison.lossless.seeds_of)
    for trail in trails.values():
        if trail.asks is None:
            continue
        label, count = trail.asks
        if label not in planned:
            *_, last, _ = trail.probes  # a new ratio comes after another one
            log(f"{last.label}: {last.judged.verdict} after {last.judged.seeds} seeds; next {label}")
        planned[label] = max(count, planned.get(label, 0))
    seeds = list(comparison.seeds)
    while len(seeds) < max(planned.values()):
        seeds.append(max(seeds) + 1)
    # In the order of the grid, so that the file does not depend on which method was faster.
    labels = [label for each in comparison.lossless.arms.values() for label in each if label in planned]
    search = replace(comparison.lossless, seeds_of={label: planned[label] for label in labels})
    return replace(comparison, seeds=tuple(seeds), lossless=search)

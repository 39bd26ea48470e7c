"""Checks before anything is written: a comparison must fit its data and the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from orderdp.comparison.engines.base import Engine
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.grid import Comparison
from orderdp.comparison.member import Member
from orderdp.comparison.planned import Sizes
from orderdp.data.base import DataSets
from orderdp.data.registry import load_dataset
from orderdp.training.check import check_recipe
from orderdp.training.recipe import Recipe


class LoadedData:
    """The data sets that this process has loaded, each once: for the checks, for all runs, for the parts of a study."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[object, ...], DataSets] = {}

    def of(self, recipe: Recipe) -> DataSets:
        """Returns the data that a recipe names, and loads it when it is first named.

        Raises:
            ValueError, OSError: there is no such data.
        """
        key = (recipe.dataset, recipe.data_root, recipe.train_size, recipe.image_size)
        if key not in self._loaded:
            self._loaded[key] = load_dataset(
                recipe.dataset,
                data_root=None if recipe.data_root is None else Path(recipe.data_root),
                train_size=recipe.train_size,
                image_size=recipe.image_size,
                download=recipe.download,
            )
        data = self._loaded[key]
        if recipe.imbalance > 1:
            data = data.with_imbalance(recipe.imbalance)
        if recipe.label_noise:  # first: who has wrong labels has them in what is held out too
            data = data.with_label_noise(recipe.label_noise)
        return data.holding_out(recipe.held_out) if recipe.held_out else data

    def checked(self, recipe: Recipe, sizes: Sizes, path: Path) -> DataSets:
        """Returns the data of the runs in a folder, which must have the sizes recorded there.

        Raises:
            ValueError, OSError: there is no such data, or its sizes differ.
        """
        data = self.of(recipe)
        if (len(data.train), len(data.test)) != (sizes.num_samples, sizes.num_test_samples):
            raise ValueError(
                f"the data must be that of the runs in {path}, {sizes.num_samples} and {sizes.num_test_samples} "
                f"samples, got {len(data.train)} and {len(data.test)}; write the data_root of the first runs"
            )
        return data


def check(
    comparison: Comparison, data: LoadedData | None = None, *, processes: int = 1, engine: Engine = LOCAL
) -> Sizes:
    """Checks a comparison against its data and the machine, and returns the sizes of the data. Writes nothing.

    Args:
        comparison: the runs.
        data: the data that is already loaded; what is loaded here is added to it.
        processes: how many processes train runs at the same time.
        engine: starts these processes.

    Raises:
        ValueError, OSError: settings that do not fit the data or the machine. ImportError, RuntimeError: as
            `Engine.check`.
    """
    state = PartialState(cpu=comparison.recipe.device == "cpu")  # first: the steps depend on the number of ranks
    check_processes(processes, state, engine)
    loaded = (data or LoadedData()).of(comparison.recipe)
    sizes = Sizes(len(loaded.train), len(loaded.test), state.num_processes)
    check_recipes(comparison, sizes, data=loaded)
    return sizes


def check_recipes(comparison: Comparison, sizes: Sizes, *, data: DataSets | None = None) -> None:
    """Raises unless the recipe of every run fits data of these sizes and the machine. Builds no model.

    Raises:
        ValueError, ImportError: as `check_recipe`.
    """
    every = replace(comparison, lossless=None)  # a search may come to any of its ratios
    for member in every.members(sizes.num_samples, sizes.num_ranks):
        _check_member(member, sizes, data)


def _check_member(member: Member, sizes: Sizes, data: DataSets | None) -> None:
    try:
        check_recipe(member.recipe, sizes.num_samples, sizes.num_ranks, data=data)
    except ValueError as error:
        if member.beside is not None and str(error).startswith("augment "):
            raise ValueError(f"short_{error}") from None
        raise


def check_processes(processes: int, state: PartialState, engine: Engine = LOCAL) -> None:
    """Raises ValueError unless this many processes can share the work, and what `Engine.check` raises."""
    whole = isinstance(processes, int) and processes >= 1
    if not whole or (processes > 1 and state.num_processes > 1):
        raise ValueError(
            f"processes must be a whole number from 1, and 1 under several ranks, got {processes}; write --processes 1"
        )
    engine.check(state.num_processes)


def sharing_threads(comparison: Comparison, processes: int, engine: Engine = LOCAL) -> Comparison:
    """Returns the comparison with the threads that the engine gives each process, unless its recipe sets them."""
    threads = engine.num_threads(processes)
    if comparison.recipe.num_threads is not None or threads is None:
        return comparison
    return replace(comparison, recipe=comparison.recipe.model_copy(update={"num_threads": threads}))

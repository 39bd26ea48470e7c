"""The strategies by the names that a recipe gives them; every one takes a prune ratio, in its own sense."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

from orderdp.output.suggestions import did_you_mean
from orderdp.output.text_table import number_or_text
from orderdp.strategies import (
    UCB,
    DynamicRandom,
    EpsilonGreedy,
    FullData,
    InfoBatch,
    Kakurenbo,
    OrderDP,
    OrderedSGD,
    RepeatedRandom,
    SelectiveBackprop,
    SeTa,
    Strategy,
)
from orderdp.training.recipe import METHOD_KEYS, Recipe


@dataclass(frozen=True)
class Method:
    """A strategy as recipes name it.

    Args:
        label: what tables call it.
        ratio: what the prune ratio means for it.
        strategy: its class.
        given: from a recipe to the arguments that it has no settings of its own for.
    """

    label: str
    ratio: str
    strategy: Callable[..., Strategy]
    given: Callable[[Recipe], dict[str, Any]]


def _ratio(recipe: Recipe) -> dict[str, Any]:
    return {"prune_ratio": recipe.prune_ratio}


def _kept(recipe: Recipe) -> dict[str, Any]:
    assert recipe.prune_ratio is not None
    return {"keep": 1 - recipe.prune_ratio}


_EXACT = "fraction of the data left out of each epoch, exactly"

METHODS = {
    "orderdp": Method(
        "OrderDP", _EXACT, OrderDP, lambda recipe: {f.name: getattr(recipe, f.name) for f in fields(OrderDP)}
    ),
    "dynamic_random": Method("dynamic random", _EXACT, DynamicRandom, _ratio),
    "repeated_random": Method("repeated random", _EXACT, RepeatedRandom, _ratio),
    "infobatch": Method(
        "InfoBatch",
        "chance of leaving out a sample whose loss is below the mean",
        InfoBatch,
        # A delta is when annealing begins: it means nothing without the epochs.
        lambda recipe: {
            "prune_probability": recipe.prune_ratio,
            **({"epochs": recipe.epochs} if "delta" in recipe.settings else {}),
        },
    ),
    "epsilon_greedy": Method("ε-greedy", _EXACT, EpsilonGreedy, _ratio),
    "ucb": Method("UCB", "fraction left out of each epoch but the first, which is full", UCB, _ratio),
    "seta": Method(
        "SeTa",
        "fraction left out of the draw; a window over groups of losses leaves out more",
        SeTa,
        lambda recipe: {**_ratio(recipe), "epochs": recipe.epochs},
    ),
    "kakurenbo": Method(
        "KAKURENBO",
        "largest fraction hidden from an epoch, among lowest losses",
        Kakurenbo,
        lambda recipe: {"hide": recipe.prune_ratio, "epochs": recipe.epochs},
    ),
    "ordered_sgd": Method("ordered SGD", "fraction of each batch left out of the backward pass", OrderedSGD, _kept),
    "selective_backprop": Method(
        "selective backprop",
        "fraction of each batch left out of the backward pass, drawn by chance",
        SelectiveBackprop,
        _kept,
    ),
    "full": Method("full data", "none; all samples", FullData, lambda recipe: {}),
}


def make_strategy(recipe: Recipe) -> Strategy:
    """Returns the recipe's pruning method.

    Raises:
        ValueError: a setting that the strategy does not have or refuses, or no strategy of one's own by that name.
        TypeError: a setting of another type, or no strategy.
    """
    method = METHODS.get(recipe.strategy) or _method_of_ones_own(recipe.strategy)
    given = method.given(recipe)
    own = {field.name for field in fields(method.strategy)}  # type: ignore[arg-type]
    for name in recipe.settings:
        if name not in own or (name in given and name != "epochs"):
            free = sorted(own - set(given) | (own & {"epochs"}))
            raise ValueError(
                f"settings holds what strategy '{recipe.strategy}' takes beside the recipe's own keys, got {name}"
                f"{did_you_mean(name, free)}; it takes {', '.join(free) or 'none'}"
            )
    return method.strategy(**{**given, **recipe.settings})


def _method_of_ones_own(name: str) -> Method:
    """Returns the method of a strategy named MODULE:CLASS, looked for in the working directory too."""
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:  # where `python -m` would look, and helper processes do then
        sys.path.append(str(Path.cwd()))
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"strategy must be of a module that can be imported, got {name!r} ({error}); "
            f"start orderdp in the folder of {module_name.partition('.')[0]}.py"
        ) from None
    strategy = getattr(module, class_name, None)
    if strategy is None:
        raise ValueError(f"no {class_name} in module {module_name}{did_you_mean(class_name, vars(module))}")
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy) and is_dataclass(strategy)):
        raise TypeError(
            f"strategy must be a class of orderdp.Strategy and a dataclass, got {name!r}; see docs/extend.md"
        )
    taken = {field.name for field in fields(strategy)} & {"prune_ratio", "epochs"}
    if "prune_ratio" not in taken:
        raise ValueError(f"a strategy must take prune_ratio to be trained by name, got {name!r} without; add it there")
    return Method(
        class_name, "what its class says", strategy, lambda recipe: {key: getattr(recipe, key) for key in taken}
    )


def method_label(strategy: str) -> str:
    """Returns what tables call a strategy; one of one's own by its class, which need not be at hand."""
    return METHODS[strategy].label if strategy in METHODS else strategy.rpartition(":")[2]


def drawn_and_kept(recipe: Recipe) -> tuple[float, float]:
    """Returns explore and exploit of an OrderDP with sizes of its own: how much it draws, and keeps of that."""
    return 0.5 if recipe.explore is None else recipe.explore, 0.6 if recipe.exploit is None else recipe.exploit


def asked_ratio(recipe: Recipe) -> float:
    """Returns the prune ratio that a recipe asks for, by itself or by the sizes of an OrderDP."""
    if recipe.prune_ratio is not None:
        return recipe.prune_ratio
    explore, exploit = drawn_and_kept(recipe)
    return float(f"{1 - explore * exploit:.4g}")


def label_of(recipe: Recipe) -> str:
    """Returns what tables call the recipe's method with its settings."""
    parts = [method_label(recipe.strategy)]
    if recipe.strategy == "full":
        return parts[0]
    if recipe.prune_ratio is not None:
        parts.append(f"{100 * recipe.prune_ratio:.12g} %")
    if (recipe.explore, recipe.exploit) != (None, None):
        explore, exploit = drawn_and_kept(recipe)
        parts += [f"explore {explore:.12g}", f"exploit {exploit:.12g}"]
    if recipe.initial_score != inf:
        parts.append(f"unseen at {recipe.initial_score:.12g}")
    if recipe.uniform_share:
        parts.append(f"uniform share {recipe.uniform_share:.12g}")
    if recipe.per == "iteration":
        parts.append("per iteration, fresh" if recipe.fresh else "per iteration")
    parts += [f"{name} {value}" for name, value in sorted(recipe.settings.items())]
    return " ".join(parts)


def method_of(text: str) -> dict[str, Any]:
    """Returns the recipe's keys of a method given as NAME or NAME,SETTING=VALUE,...; NAME may be MODULE:CLASS.

    Raises:
        ValueError: no method of that name, or a setting without value.

    >>> method_of("epsilon_greedy,epsilon=0.2")
    {'strategy': 'epsilon_greedy', 'settings': {'epsilon': 0.2}}
    """
    name, *settings = text.split(",")
    if name not in METHODS and ":" not in name:
        raise ValueError(f"no method named {name!r}{did_you_mean(name, METHODS)} ('orderdp methods' lists them)")
    method: dict[str, Any] = {"strategy": name}
    for key, value in map(setting_of, settings):
        if key in METHOD_KEYS:
            method[key] = value
        else:
            method.setdefault("settings", {})[key] = value
    return method


def setting_of(text: str) -> tuple[str, Any]:
    """Returns name and value of a setting given as NAME=VALUE.

    Raises:
        ValueError: it is not given so.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"a setting is NAME=VALUE without spaces, got {text!r}; write epsilon=0.2")
    return name, {"true": True, "false": False}.get(value, number_or_text(value))

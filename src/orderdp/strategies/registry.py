"""The methods by name. A new method is imported here and gets a row in `__all__`; everything else follows from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any

from orderdp.output.custom import import_custom, is_of_custom, reason_of
from orderdp.output.suggestions import did_you_mean
from orderdp.output.text_table import number_or_text
from orderdp.strategies.base import Strategy
from orderdp.strategies.dynamic_random import DynamicRandom
from orderdp.strategies.epsilon_greedy import EpsilonGreedy
from orderdp.strategies.fixed_subset import FixedSubset
from orderdp.strategies.full_data import FullData
from orderdp.strategies.infobatch import InfoBatch
from orderdp.strategies.kakurenbo import Kakurenbo
from orderdp.strategies.orderdp import OrderDP
from orderdp.strategies.ordered_sgd import OrderedSGD
from orderdp.strategies.per_class import PerClass
from orderdp.strategies.proportional import Proportional
from orderdp.strategies.repeated_random import RepeatedRandom
from orderdp.strategies.scheduled import Scheduled
from orderdp.strategies.selective_backprop import SelectiveBackprop
from orderdp.strategies.seta import SeTa
from orderdp.strategies.settings import needed
from orderdp.strategies.stand_in import stand_in
from orderdp.strategies.stored_subset import StoredSubset
from orderdp.strategies.ucb import UCB

__all__ = [  # noqa: RUF022  (in the order of `orderdp methods`)
    "OrderDP",
    "Proportional",
    "DynamicRandom",
    "RepeatedRandom",
    "InfoBatch",
    "EpsilonGreedy",
    "UCB",
    "SeTa",
    "Kakurenbo",
    "OrderedSGD",
    "SelectiveBackprop",
    "FixedSubset",
    "StoredSubset",
    "Scheduled",
    "PerClass",
    "FullData",
]

BY_NAME: dict[str, type[Strategy]] = {globals()[row].name: globals()[row] for row in __all__}

_IMPORTS: ContextVar[bool] = ContextVar("imports", default=True)


@contextmanager
def importing_nothing() -> Iterator[None]:
    """Within the block, `find` imports no module: it returns a stand-in for a custom method, of its settings alone."""
    token = _IMPORTS.set(False)
    try:
        yield
    finally:
        _IMPORTS.reset(token)


def find(name: str) -> type[Strategy]:
    """Returns the class of a method by its name.

    A custom method is named MODULE:CLASS; its module may lie in the working directory.

    Raises:
        ValueError: no method of that name, more than one, or no such module or class.
        TypeError: the class is no strategy.

    >>> find("ucb").label
    'UCB'
    """
    if isinstance(name, str) and name in BY_NAME:
        return BY_NAME[name]
    if isinstance(name, str) and (found := _with_argument(name)) is not None:
        method, argument, value = found
        raise ValueError(
            f"a strategy is named without its {argument} here, got {name!r}; write {method}, and {argument}={value} "
            "beside it"
        )
    if isinstance(name, str) and re.fullmatch(r"[\w.]+:\w+", name):
        return _custom(name) if _IMPORTS.get() else stand_in(name)
    near = did_you_mean(str(name), BY_NAME)
    raise ValueError(
        f"no strategy named {name!r}{near} ('orderdp methods' lists them; a class of yours is MODULE:CLASS)"
    )


def from_table(table: Mapping[str, Any], *, epochs: int | None = None) -> Strategy:
    """Returns the method in a table of `name` and settings.

    Args:
        table: as `to_table` writes it.
        epochs: epochs of the run, for methods that need them; None if the table gives them.

    Raises:
        ValueError: no name, an unknown one, settings that the method refuses, or a custom class that fails.
        TypeError: a setting of another type, or a custom class that is no strategy.

    >>> from_table({"name": "epsilon_greedy", "prune_ratio": 0.5, "every": 1})
    EpsilonGreedy(prune_ratio=0.5, every=1)
    """
    if "name" not in table:
        raise ValueError(f'strategy must have a name, got {dict(table)}; write name = "{OrderDP.name}"')
    settings = {key: value for key, value in table.items() if key != "name"}
    method = find(table["name"])
    if (other := method.method_setting) is not None and (held := settings.get(other)):
        outer = BY_NAME.get(str(held).partition(":")[0])  # which `method` refuses if it holds another one
        settings[other] = outer if outer is not None and outer.method_setting is not None else find(held)
    try:
        return method.from_settings(settings, epochs=epochs)
    except Exception as error:
        if is_of_custom(error):
            raise ValueError(
                f"making strategy {table['name']!r} failed ({reason_of(error)}); mend that line"
            ) from error
        raise


def to_table(strategy: Strategy, *, epochs: int | None = None) -> dict[str, Any]:
    """Returns the table of a method, from which `from_table` makes an equal one.

    Args:
        strategy: the method.
        epochs: epochs of the run; the same epochs are left out of the table.

    >>> to_table(InfoBatch(prune_probability=0.3, epochs=20), epochs=20)
    {'name': 'infobatch', 'prune_ratio': 0.3, 'delta': 0.875}
    """
    settings = strategy.settings()
    if epochs is not None and settings.get("epochs") == epochs:
        del settings["epochs"]
    return {"name": strategy.name, **settings}


def parse(text: str) -> dict[str, Any]:
    """Returns the table of a method given as NAME or NAME,SETTING=VALUE,... on the command line.

    A method that reads a file is given as NAME:FILE.

    Raises:
        ValueError: no method of that name, or a setting without value or given twice.

    >>> parse("epsilon_greedy,epsilon=0.2")
    {'name': 'epsilon_greedy', 'epsilon': 0.2}
    >>> parse("fixed:subsets.parquet,method=herding")
    {'name': 'fixed', 'file': 'subsets.parquet', 'method': 'herding'}
    """
    name, *settings = text.split(",")
    if (found := _with_argument(name)) is not None:
        method, argument, value = found
        return once([("name", method), (argument, value), *map(parse_setting, settings)])
    if ":" not in name:  # a custom one is imported only when it is used
        find(name)
    return once([("name", name), *map(parse_setting, settings)])


def parse_setting(text: str) -> tuple[str, Any]:
    """Returns name and value of a setting given as NAME=VALUE.

    Raises:
        ValueError: the text has another form.

    >>> parse_setting("every=1")
    ('every', 1)
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value) or " " in name:
        cure = "write epsilon=0.2" if text else "leave out the last comma, or write epsilon=0.2"
        raise ValueError(f"a setting is NAME=VALUE without spaces, got {text!r}; {cure}")
    return name, {"true": True, "false": False}.get(value, number_or_text(value))


def once(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns settings as a table.

    Raises:
        ValueError: a name comes twice.

    >>> once([("every", 1), ("every", 2)])
    Traceback (most recent call last):
    ...
    ValueError: every is given twice, as 1 and 2; write it once
    """
    found: dict[str, Any] = {}
    for name, value in settings:
        if name in found:
            raise ValueError(f"{name} is given twice, as {found[name]} and {value}; write it once")
        found[name] = value
    return found


def _with_argument(name: str) -> tuple[str, str, str] | None:
    """Returns a method, the setting that its name takes after a colon, and the value there; None without any."""
    method, colon, value = name.partition(":")
    argument = BY_NAME[method].argument if colon and method in BY_NAME else None
    return None if argument is None else (method, argument, value)


def _custom(name: str) -> type[Strategy]:
    strategy: type[Strategy] = import_custom("strategy", name)
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy) and is_dataclass(strategy)):
        raise TypeError(
            f"strategy must be a class of orderdp.Strategy and a dataclass, got {name!r}; see docs/extend.md"
        )
    if strategy.ratio_setting not in {field.name for field in fields(strategy)}:
        raise ValueError(f"a strategy must take prune_ratio to be trained by name, got {name!r} without; add it there")
    if others := [each for each in needed(strategy) if each not in {field.name for field in fields(strategy)}]:
        raise ValueError(
            f"a strategy's settings must be fields of its dataclass, got {others[0]} of {name!r} in __init__ alone; "
            f"write {others[0]}: float in the class"
        )
    if missing := sorted(strategy.__abstractmethods__):
        raise TypeError(f"a strategy must define {' and '.join(missing)}, got {name!r} without; see docs/extend.md")
    if strategy.name != f"{strategy.__module__}:{strategy.__qualname__}" and BY_NAME.get(strategy.name) is not strategy:
        raise ValueError(
            f"name must be left out of a custom strategy, which files call MODULE:CLASS, got {strategy.name!r} in "
            f"{name!r}; write label for its name in tables"
        )
    return strategy

"""The file of a study: its keys and their types.

A study is data. Its TOML file says what the study asks, which methods it compares at which prune ratios, and what its
report shows. For each size there is a list of parts. A part is one comparison: a recipe, and changes to its settings.
A part may name static methods too. They choose their subsets before the comparison begins. A part may search for the
largest lossless prune ratio of each method instead of training all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml

SIZES = ("smoke", "cpu", "gpu", "paper")
OF_PAGE = ("claim", "deviations", "takes")  # keys that no report reads


class _Key(NamedTuple):
    """What the value of a key must be.

    Args:
        rule: in words.
        fits: returns whether a value follows it.
        example: a line of TOML.
    """

    rule: str
    fits: Callable[[Any], bool]
    example: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_search(value: Any) -> bool:
    return _is_table(value) and "margin" in value and set(value) <= {"margin", "seeds_max", "alpha"}


def _is_durations(value: Any) -> bool:
    return _is_table(value) and set(value) <= set(SIZES) and all(map(_is_text, value.values()))


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _some(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: _list_of(fits)(value) and len(value) > 0


_SETTINGS = {  # in the file for all parts, or in one part
    "methods": _Key("a list of methods", _some(_is_text), 'methods = ["orderdp", "infobatch"]'),
    "beside": _Key("a list of methods", _list_of(_is_text), 'beside = ["dynamic_random"]'),
    "prune_ratios": _Key("a list of numbers", _some(_is_number), "prune_ratios = [0.3, 0.5]"),
    "seeds": _Key("a list of whole numbers", _some(_is_whole), "seeds = [0, 1, 2]"),
    "against": _Key("a list of references", _list_of(_is_text), 'against = ["full", "short"]'),
    "budgets": _Key("a list of numbers", _list_of(_is_number), "budgets = [0.5, 1.5]"),
    "max_lrs": _Key("a list of numbers", _list_of(_is_number), "max_lrs = [0.1, 0.3]"),
    "lossless": _Key("a table of margin, and perhaps seeds_max and alpha", _is_search, "lossless = { margin = 0.5 }"),
    "together": _Key("a number", _is_number, "together = 0.5"),
    "static": _Key("a list of static methods", _some(_is_text), 'static = ["random", "el2n,epoch=2"]'),
    "proxies": _Key("a whole number", _is_whole, "proxies = 3"),
    "quotas": _Key("the name of quotas", _is_text, 'quotas = "proportional"'),
    "validation": _Key("a number", _is_number, "validation = 0.1"),
    "proxy": _Key("a table of settings", _is_table, "proxy = { epochs = 20 }"),
}
_PART = {
    **_SETTINGS,
    "name": _Key("the name of a folder", lambda value: _is_text(value) and _is_plain(value), 'name = "digits"'),
    "recipe": _Key("the name or file of a recipe", _is_text, 'recipe = "digits"'),
    "changes": _Key("a table of settings", _is_table, "changes = { epochs = 4 }"),
}
_STUDY = {
    **_SETTINGS,
    "title": _Key("text", _is_text, 'title = "What it shows"'),
    "about": _Key("text", _is_text, 'about = "What does it ask?"'),
    "show": _Key("a list of sections", _some(_is_text), 'show = ["accuracy", "differences"]'),
    "edges": _Key("a list of numbers", _list_of(_is_number), "edges = [0, 0.5, 1]"),
    "across": _Key(
        "a table of lists of methods' names in reports",
        lambda value: _is_table(value) and all(map(_some(_is_text), value.values())),
        'across = { "OrderDP" = ["OrderDP"] }',
    ),
    "takes": _Key("a table of sizes to durations", _is_durations, 'takes = { smoke = "10 s", cpu = "2 core-hours" }'),
    "hours": _Key("true or false", lambda value: isinstance(value, bool), "hours = true"),
    "published": _Key("a list of tables", _list_of(_is_table), "[[published]]"),
    "claim": _Key("text", _is_text, 'claim = "What the paper reads from its picture."'),
    "deviations": _Key("a list of texts", _list_of(_is_text), 'deviations = ["Another learning rate than printed."]'),
    **{size: _Key("a list of parts", _some(_is_table), f"[[{size}]]") for size in SIZES},
}


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[\w.-]*\w[\w.-]*", name) is not None and name not in ("report", "across")


def read_study(path: Path) -> dict[str, Any]:
    """Returns the table in the file of a study.

    Raises:
        ValueError: it cannot be read, is not TOML, lacks a key, or has an unknown key or a value of another type.
    """
    table = read_toml(path, "a study", example='title = "What it shows"')
    _check(table, _STUDY, f"'{path}'")
    _need(table, ("title",), _STUDY, f"'{path}'")
    sizes = [size for size in SIZES if size in table]
    if not sizes:
        raise ValueError(f"a study must have parts of at least one size, got none in '{path}'; write [[smoke]]")
    for size in sizes:
        for part in table[size]:
            where = f"a [[{size}]] of '{path}'"
            _check(part, _PART, where)
            _need(part, ("recipe",), _PART, where)
            _need({**table, **part}, ("methods", "prune_ratios"), _PART, where)
        names = [name_of(part) for part in table[size]]
        if len(set(names)) != len(names):
            raise ValueError(f"each [[{size}]] of '{path}' must have its own name, got {names}; write another name")
    return table


def name_of(part: Mapping[str, Any]) -> str:
    """Returns the name of a part: its own, or that of its recipe."""
    return str(part.get("name", Path(part["recipe"]).stem))


def _check(table: Mapping[str, Any], keys: Mapping[str, _Key], where: str) -> None:
    for name, value in table.items():
        if name not in keys:
            hint = did_you_mean(name, keys) or f"; the keys are {', '.join(keys)}"
            raise ValueError(f"no key '{name}' in {where}{hint}")
        key = keys[name]
        if not key.fits(value):
            raise ValueError(f"{name} in {where} must be {key.rule}, got {value!r}; write {key.example}")


def _need(table: Mapping[str, Any], names: Iterable[str], keys: Mapping[str, _Key], where: str) -> None:
    for name in names:
        if name not in table:
            raise ValueError(f"{name} is needed in {where}, got none; write {keys[name].example}")

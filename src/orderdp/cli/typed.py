"""Methods in messages as they are typed on the command line, instead of as calls of Python."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

_CALL = re.compile(r"\b([A-Z]\w*)\(([^()]*)\)")
_LOWER = re.compile(r"set a lower (\w+) \(([\d.]+) for")
_NEEDED = re.compile(r"write (\w+) = \.\.\.")  # a setting without default


def as_typed(advice: str, rule: str, value: str, options: argparse.Namespace) -> str:
    """Returns the advice of a message with methods as they are typed.

    The prune ratio is left out of a method, since an option of its own sets it. A method within another one, such as
    per_class:NAME, is written with the other one.

    Args:
        advice: what a message says to write.
        rule: what it says before the value.
        value: what it says that was given.
        options: of the command, with the methods that were given.
    """
    if _CALL.search(advice):
        advice = _CALL.sub(lambda call: _typed_call(call, value, options), advice)
    if (lower := _LOWER.search(advice)) is not None:
        return f"{advice}: {_with_setting(rule.partition(' ')[0], f'{lower[1]}={lower[2]}', options)}"
    if (needed := _NEEDED.fullmatch(advice)) is not None:
        name = rule.rstrip("'").rpartition("'")[2]  # it is needed by strategy 'NAME'
        return f"write {_with_setting(name, f'{needed[1]}=...', options)}"
    return advice


def _with_setting(name: str, setting: str, options: argparse.Namespace) -> str:
    """Returns how to type another setting of a method, or of the one that holds it."""
    if "--settings" in options.flags:
        return f"--settings {setting}"
    tables = (table for table in _given(options) if name in (table["name"], table.get("inner")))
    return f"{typed(next(tables, {'name': name}))},{setting}"


def typed(table: Mapping[str, Any]) -> str:
    """Returns the table of a method as it is typed.

    >>> typed({"name": "scheduled", "inner": "ucb", "start": 0.5, "halving": True})
    'scheduled:ucb,start=0.5,halving=true'
    """
    inner = f":{table['inner']}" if "inner" in table else ""
    settings = {name: value for name, value in table.items() if name not in ("name", "inner")}
    return f"{table['name']}{inner}" + "".join(f",{name}={_word(value)}" for name, value in settings.items())


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _given(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Yields the tables of the methods that the command was given."""
    for table in (*(getattr(options, "methods", None) or ()), getattr(options, "strategy", None)):
        if isinstance(table, Mapping):
            yield table


def _typed_call(call: re.Match[str], value: str, options: argparse.Namespace) -> str:
    from orderdp.strategies.registry import BY_NAME

    names = {strategy.__name__: name for name, strategy in BY_NAME.items()}
    settings = [each for each in call[2].split(", ") if each and not each.startswith("prune_ratio=")]
    if call[1] not in names or not all("=" in each for each in settings):  # such as FixedSubset(indices)
        return call[0]
    table = {"name": names[call[1]], **dict(each.split("=", 1) for each in settings)}
    for given in _given(options):
        inner = given.get("inner")
        kind = BY_NAME[inner].__name__ if inner in BY_NAME else str(inner).rpartition(":")[2]
        if value.startswith(f"{kind}("):
            own = {field.name for field in fields(BY_NAME[given["name"]])}  # type: ignore[arg-type]
            kept = {name: setting for name, setting in given.items() if name in own}
            table = {"name": given["name"], "inner": table.pop("name"), **table, **kept}
            break
    return typed(table)

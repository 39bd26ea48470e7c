"""`orderdp methods`: the pruning methods by name, and the settings of one."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from dataclasses import MISSING, fields
from typing import Any

from orderdp.output.suggestions import did_you_mean

SUMMARY = "the pruning methods by name"
DESCRIPTION = """\
Lists the pruning methods by the names that --strategy and --methods take, and what --prune-ratio means for each. Then
lists the static methods of 'orderdp coreset', and what each of them reads. With a name, shows the settings of that
method and their defaults."""
EXAMPLES = """\
examples:
  orderdp methods
  orderdp methods proportional"""


_OF_PYTHON = ("strategy", "labels")  # written as NAME:METHOD on the command line, and taken from the data


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the name of a method."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a method whose settings to show")


def run(options: argparse.Namespace) -> int:
    """Prints the methods by name, or the settings of one.

    Raises:
        ValueError: no method of that name.
    """
    from orderdp.coresets.registry import BY_NAME as STATIC
    from orderdp.output.text_table import as_text
    from orderdp.strategies.registry import BY_NAME

    if options.name is not None:
        _show_settings(options.name)
        return 0
    rows = []
    for name, strategy in BY_NAME.items():
        default = f"; {strategy().asked_ratio:g} if no size is given" if strategy.has_default_size else ""
        rows.append((name, strategy.label, f"{strategy.ratio_means}{default}"))
    print(as_text([("name", "method", "what the prune ratio is"), *rows], words=True))
    print()
    static = [(name, method.label, ", ".join(method.needs) or "nothing") for name, method in STATIC.items()]
    print(as_text([("static method", "method", "what it reads"), *static], words=True))
    return 0


def _show_settings(name: str) -> None:
    from orderdp.coresets.registry import BY_NAME as STATIC
    from orderdp.output.text_table import as_text
    from orderdp.strategies.registry import BY_NAME

    known: dict[str, Any] = {**STATIC, **BY_NAME}
    if name not in known:
        raise ValueError(f"no method named {name!r}{did_you_mean(name, known)} ('orderdp methods' lists them)")
    method = known[name]
    print(f"{name}: {method.label}\n\n{_first_paragraph(method)}\n")
    meanings = _meanings(method)
    shown = [field for field in fields(method) if field.init and field.name not in _OF_PYTHON]
    rows = [(*_typed(field, method), meanings.get(field.name, "")) for field in shown]
    if rows:
        print(as_text([("setting", "default", "what it is"), *rows], words=True))
    else:
        print("It has no settings.")


def _first_paragraph(method: type) -> str:
    return textwrap.fill((inspect.getdoc(method) or "").partition("\n\n")[0], 100)


def _typed(field: Any, method: Any) -> tuple[str, str]:
    """Returns a setting by the name that is typed, and its default in words."""
    if field.name == getattr(method, "ratio_setting", None):
        return "prune_ratio", "that of --prune-ratio"
    if field.default is MISSING and field.name == "epochs":
        return "epochs", "those of the run"
    if field.default is MISSING:
        reads_file = getattr(method, "argument", None) == "file"
        return field.name, "that of the file" if reads_file and field.name != "file" else "must be given"
    from orderdp.strategies.settings import short

    text = short(field.default)
    return field.name, {"True": "true", "False": "false", "None": "none"}.get(text, text)


def _meanings(method: type) -> dict[str, str]:
    """Returns the first sentence on each setting, from the docstrings of the class and its bases."""
    found: dict[str, str] = {}
    for each in method.__mro__:
        arguments = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.cleandoc(each.__doc__ or ""), flags=re.MULTILINE)
        if arguments is None:
            continue
        for name, text in re.findall(r"^ {4}(\w+): ((?:.*\n?(?: {8,}.*\n?)*))", arguments[1], flags=re.MULTILINE):
            found.setdefault(name, " ".join(text.split()).partition(". ")[0].rstrip("."))
    return found

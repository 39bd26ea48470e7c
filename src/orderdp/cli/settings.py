"""The options of the command line that set the keys of a recipe and of its strategy."""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orderdp.output.text_table import number_or_text


def add_settings(
    parser: argparse.ArgumentParser,
    *,
    several: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    title: str = "settings; the default of each is the recipe's",
    text: str | None = None,
) -> None:
    """Adds an option for each key of a recipe but the strategy.

    Args:
        parser: of the command.
        several: keys that take several values.
        leave_out: keys that get no option.
        title: heading of the options in the help.
        text: paragraph below the heading.
    """
    from orderdp.training.recipe import Recipe

    settings = parser.add_argument_group(title, text)
    for name, field in Recipe.model_fields.items():
        if name == "strategy" or name in leave_out:
            continue
        flag = f"--{name.replace('_', '-')}"
        text = str(field.description).replace("%", "%%")
        if field.annotation is bool:
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif name == "finetune":
            settings.add_argument(flag, nargs="+", type=setting, action=_Table, metavar="NAME=VALUE", help=text)
        elif name in several:
            text += "; several values make a run each"
            settings.add_argument(flag, nargs="+", type=one_of_several, metavar="N", help=text)
        elif str in (field.annotation, *typing.get_args(field.annotation)):
            settings.add_argument(flag, type=not_empty, metavar="NAME", help=text)
        else:
            settings.add_argument(flag, type=number_or_text, metavar=_metavar(field.annotation), help=text)


class _Table(argparse.Action):
    """Stores pairs of name and value as a table."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        setattr(namespace, self.dest, dict(values))


STRATEGY_OPTIONS = ("strategy", "prune_ratio", "explore", "exploit", "settings")


def add_strategy(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the strategy: `STRATEGY_OPTIONS`."""
    from orderdp.strategies.registry import BY_NAME, OrderDP

    group = parser.add_argument_group("the strategy; the default is the recipe's")
    group.add_argument(
        "--strategy",
        type=_strategy,
        metavar="NAME",
        help=f"how each epoch's samples are selected: {', '.join(BY_NAME)}, or MODULE:CLASS of a custom strategy; "
        "optionally with settings, NAME,SETTING=VALUE,...; fixed:FILE,method=NAME trains on a subset that 'orderdp "
        "coreset' wrote; a different strategy keeps the recipe's prune ratio",
    )
    group.add_argument(
        "--prune-ratio",
        nargs="+",
        type=one_of_several,
        metavar="N",
        help="fraction of the samples that an epoch leaves out, in [0, 1); several values make a run each; orderdp "
        f"without any size leaves out {OrderDP().asked_ratio:g}",
    )
    for name, what in (("explore", "samples that is drawn"), ("exploit", "draw that is kept")):
        text = f"fraction of the {what}, in (0, 1], instead of a prune ratio; orderdp only"
        group.add_argument(f"--{name}", type=number_or_text, metavar="N", help=text)
    group.add_argument(
        "--settings",
        nargs="+",
        type=setting,
        metavar="NAME=VALUE",
        help="other settings of the strategy's class, such as per=iteration fresh=true, or every=1",
    )


def strategy_given(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the given settings of the strategy, and its `name` if it was given; of several ratios, the first.

    Raises:
        ValueError: a setting is given twice.
    """
    from orderdp.strategies.registry import once

    given = [*(options.strategy or {}).items(), *(options.settings or ())]
    given += [("prune_ratio", ratio) for ratio in (options.prune_ratio or ())[:1]]
    given += [(name, value) for name in ("explore", "exploit") if (value := getattr(options, name)) is not None]
    return once(given)


def one_of_several(text: str) -> int | float | str:
    """Returns one value of an option that takes several, a number if it is one; refuses a list with commas."""
    if "," in text:
        apart = " ".join(value for value in text.split(",") if value)
        decimal = f", or {text.replace(',', '.')} for one number" if re.fullmatch(r"0,\d+", text) else ""
        raise argparse.ArgumentTypeError(f"several values are separated by spaces, got {text}; write {apart}{decimal}")
    return number_or_text(text)


def one_name(text: str) -> str:
    """Returns one name of an option that takes several; refuses a list with commas."""
    one_of_several(text)
    return text


def not_empty(text: str) -> str:
    """Returns the text; raises ArgumentTypeError if it is empty, as an unset variable of a shell is."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a value must not be empty; leave the option out, or write a value")
    return text


def some_path(text: str) -> Path:
    """Returns the path, which must not be empty: that would be the working directory."""
    return Path(not_empty(text))


def _metavar(annotation: Any) -> str:
    return "N" if {int, float} & {annotation, *typing.get_args(annotation)} else "NAME"


def refuse_static(text: str) -> None:
    """Raises ArgumentTypeError if text names a static method, which trains through the file of its subset."""
    from orderdp.strategies.registry import BY_NAME

    name = text.partition(",")[0]
    if name in BY_NAME:
        return
    from orderdp.coresets.registry import BY_NAME as STATIC

    if name in STATIC:
        raise argparse.ArgumentTypeError(
            f"{name} is a static method, got it as a strategy; choose its subset with 'orderdp coreset --methods "
            f"{name}', and write fixed:FILE,method={name}"
        )


def _strategy(text: str) -> dict[str, Any]:
    from orderdp.strategies.registry import BY_NAME, parse

    refuse_static(text)
    known, colon, _ = text.partition(":")
    if not (colon and known in BY_NAME) and "," not in text:
        return {"name": text}
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def setting(text: str) -> tuple[str, Any]:
    """Returns name and value of NAME=VALUE; raises ArgumentTypeError for another form, and for a list with commas."""
    from orderdp.strategies.registry import parse_setting

    if re.search(r",\w+=", text):
        apart = re.sub(r",(?=\w+=)", " ", text)
        raise argparse.ArgumentTypeError(f"several settings are separated by spaces, got {text}; write {apart}")
    try:
        return parse_setting(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

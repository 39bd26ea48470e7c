"""An option for each key of a recipe."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Sequence
from typing import Any

from orderdp.output.text_table import number_or_text


def add_settings(
    parser: argparse.ArgumentParser, *, several: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> None:
    """Adds an option for each key of a recipe."""
    from orderdp.training.recipe import Recipe

    settings = parser.add_argument_group("settings, in place of the recipe's own")
    for name, field in Recipe.model_fields.items():
        if name in leave_out:
            continue
        flag = f"--{name.replace('_', '-')}"
        text = str(field.description).replace("%", "%%")
        if field.annotation is bool:
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif name == "settings":
            settings.add_argument(flag, nargs="+", type=_setting, metavar="NAME=VALUE", help=text)
        elif name in several:
            text += "; several: a run with each"
            settings.add_argument(flag, nargs="+", type=number_or_text, metavar="N", help=text)
        elif str in (field.annotation, *typing.get_args(field.annotation)):
            settings.add_argument(flag, metavar="NAME", help=text)
        else:
            settings.add_argument(flag, type=number_or_text, metavar=_metavar(field.annotation), help=text)


def _metavar(annotation: Any) -> str:
    return "N" if {int, float} & {annotation, *typing.get_args(annotation)} else "NAME"


def _setting(text: str) -> tuple[str, Any]:
    from orderdp.training.methods import setting_of

    try:
        return setting_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

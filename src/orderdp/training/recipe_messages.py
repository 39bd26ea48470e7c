"""What is wrong with a recipe, in one line."""

import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from orderdp.output.suggestions import did_you_mean


def one_line(error: ValidationError, fields: Mapping[str, FieldInfo], of_strategy: Collection[str]) -> str:
    """Returns the first error in the house form, and how many more there are.

    Args:
        error: of a recipe.
        fields: keys of a recipe.
        of_strategy: keys that stand in the table of the strategy.
    """
    first, *others = error.errors()
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden" and name in of_strategy:
        message = f"no recipe key '{name}'; write it in the table [strategy]"
    else:
        message = _message(first["type"], name, first["input"], first["msg"], fields)
    return f"{message} (and {len(others)} more)" if others else message


def _message(kind: str, name: str, value: object, text: str, fields: Mapping[str, FieldInfo]) -> str:
    if kind == "is_instance_of":
        return (
            f'strategy must be a Strategy, or a table of name and settings, got {value!r}; write {{"name": "orderdp"}}'
        )
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"no recipe key '{name}'" + (did_you_mean(name, fields) or "; 'orderdp train --help' lists the keys")
    if kind == "literal_error":
        choices = get_args(fields[name].annotation)
        meant = _ELSEWHERE.get(str(value), str(value))
        return f"no {name} named {value!r}" + (did_you_mean(meant, choices) or f"; choose from {', '.join(choices)}")
    if kind in _TYPES:
        whole = kind == "int_type" and isinstance(value, float) and value.is_integer()  # such as 1e3
        advice = f"{name} = {value:.0f}" if whole else example(fields[name], name)
        return f"{name} must be {_TYPES[kind]}, got {value!r}; write {advice}"
    return f"{name} {_rule(fields[name], name, value)}"


_ELSEWHERE = {"gpu": "cuda", "fp32": "float32", "bfloat16": "bf16"}  # what other trainers call a value
_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a table",
}


def _rule(field: FieldInfo, name: str, value: Any) -> str:
    """What is wrong with a number outside the range in its description, and what to write."""
    description = field.description or ""
    interval = re.findall(r"in ([\[(].+?[\])])", description)[0]
    if not re.match(r"(\w[\w ]*: )?(fraction|share) of ", description):
        return f"must lie in {interval}, got {value!r}; write {example(field, name)}"
    meant = f"for {value:g} % write {value / 100:g}" if 1 < value < 100 else f"write {example(field, name)}"
    return f"is a fraction and must lie in {interval}, got {value!r}; {meant}"


def example(field: FieldInfo, name: str) -> str:
    """Returns the line of TOML that sets a key to its default, or to an example if the default is None."""
    line = tomli_w.dumps({name: field.examples[0] if field.examples else field.default})
    return line.strip().replace("\n", " ")  # of a table, its head and its keys

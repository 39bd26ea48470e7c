"""Imports classes and functions of users by MODULE:NAME."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import Any

from orderdp.output.suggestions import did_you_mean


def import_custom(setting: str, name: str) -> Any:
    """Returns what MODULE:NAME names. Imports the module, which may lie in the working directory.

    Before its code runs, the module and its file are logged, once in a process.

    Args:
        setting: the setting that holds the name, for messages: "strategy".
        name: such as "my_data:load".

    Raises:
        ValueError: not of this form, no such module, one whose code fails, or nothing of that name in it.
    """
    module_name, colon, attribute = name.partition(":")
    if not (re.fullmatch(r"\w+(\.\w+)*", module_name) and colon and attribute):
        raise ValueError(f"{setting} must be MODULE:NAME to be a custom one, got {name!r}; write both")
    if str(Path.cwd()) not in sys.path:  # where `python -m` would look, as helper processes do
        sys.path.append(str(Path.cwd()))
    try:
        if module_name not in sys.modules and (spec := find_spec(_top(module_name))):
            logging.getLogger("orderdp").info("imports %s from %s", module_name, spec.origin)
        module = import_module(module_name)
    except Exception as error:
        top = _top(module_name)
        cure = "mend it, or install what it needs"
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):  # it is missing
            written = f"write {top}:{attribute}"
            cure = written if module_name == f"{top}.py" else f"start orderdp in the folder of {top}.py"
        raise ValueError(
            f"{setting} must be of a module that can be imported, got {name!r} ({reason_of(error, [name])}); {cure}"
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"no {attribute} in module {module_name}{did_you_mean(attribute, vars(module))}")
    return getattr(module, attribute)


def reason_of(error: Exception, names: Iterable[str] = ()) -> str:
    """Returns the message of an error in one line, or its name if it has none.

    Of an error that code of the user raised, also its name, and the last line of that code on the way to it.

    Args:
        error: what was raised.
        names: what was imported of the user, as MODULE:NAME.
    """
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SyntaxError):  # which has its own place
        return f"{type(error).__name__}: {message}"
    tops, frames = {_top(name) for name in names}, list(walk_tb(error.__traceback__))
    frames = [(frame, line) for frame, line in frames if _top(frame.f_globals.get("__name__", "")) in tops]
    if not frames:
        return message
    name = "" if message == type(error).__name__ else f"{type(error).__name__}: "
    frame, line = frames[-1]
    return f"{name}{message}, in {Path(frame.f_code.co_filename).name}, line {line}"


def _top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]

"""Imports classes and functions of users by MODULE:NAME."""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

from orderdp.output.suggestions import did_you_mean

_of_users: set[str] = set()  # the packages, or modules without one, that this process was asked to import


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
    _of_users.update({_top(module_name)} - {_top(__name__)})
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
            f"{setting} must be of a module that can be imported, got {name!r} ({reason_of(error)}); {cure}"
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"no {attribute} in module {module_name}{did_you_mean(attribute, vars(module))}")
    return getattr(module, attribute)


def reason_of(error: Exception) -> str:
    """Returns the message of an error in one line, or its name if it has none.

    Of an error on whose way there is code of a custom module, also its name, and the last line of that code.
    """
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SyntaxError):  # which has its own place
        return f"{type(error).__name__}: {message}"
    frames = [(frame, line) for frame, line in walk_tb(error.__traceback__) if _is_of_user(frame)]
    if not frames:
        return message
    name = "" if message == type(error).__name__ else f"{type(error).__name__}: "
    frame, line = frames[-1]
    return f"{name}{message}, in {Path(frame.f_code.co_filename).name}, line {line}"


def is_of_custom(error: Exception) -> bool:
    """Whether an error is a fault of a custom module.

    Code of such a module raised it, or called what did. A ValueError may refuse a setting instead, and so may an error
    that orderdp raised.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    refused = isinstance(error, ValueError) or not frames or _top_of(frames[-1]) == _top(__name__)
    return not refused and any(map(_is_of_user, frames))


def _is_of_user(frame: FrameType) -> bool:
    return _top_of(frame) in _of_users


def _top_of(frame: FrameType) -> str:
    return _top(str(frame.f_globals.get("__name__")))


def _top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]

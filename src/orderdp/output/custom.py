"""Imports classes and functions of users by MODULE:NAME."""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orderdp.output.suggestions import did_you_mean


def import_custom(setting: str, name: str) -> Any:
    """Returns what MODULE:NAME names. Imports the module, which may lie in the working directory.

    Before its code runs, the module and its file are logged, once in a process.

    Args:
        setting: the setting that holds the name, for messages: "strategy".
        name: such as "my_data:load".

    Raises:
        ValueError: not of this form, no such module, or nothing of that name in it.
    """
    module_name, colon, attribute = name.partition(":")
    if not (re.fullmatch(r"\w+(\.\w+)*", module_name) and colon and attribute):
        raise ValueError(f"{setting} must be MODULE:NAME to be a custom one, got {name!r}; write both")
    if str(Path.cwd()) not in sys.path:  # where `python -m` would look, as helper processes do
        sys.path.append(str(Path.cwd()))
    try:
        if module_name not in sys.modules and (spec := find_spec(module_name.partition(".")[0])):
            logging.getLogger("orderdp").info("imports %s from %s", module_name, spec.origin)
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{setting} must be of a module that can be imported, got {name!r} ({error}); "
            f"start orderdp in the folder of {module_name.partition('.')[0]}.py"
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"no {attribute} in module {module_name}{did_you_mean(attribute, vars(module))}")
    return getattr(module, attribute)

"""Reads TOML files, with one clear error message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the table in a text of TOML.

    Raises:
        ValueError: it is not TOML.
    """
    return tomllib.loads(text)


def read_toml(path: Path, what: str, *, example: str) -> dict[str, Any]:
    """Returns the table in a TOML file.

    Args:
        path: the file.
        what: what it should be, such as "a recipe"; begins the error message.
        example: a line of TOML to show if the file is not TOML.

    Raises:
        ValueError: a directory, an unreadable file, no UTF-8 text, or no TOML.
    """
    if path.is_dir():
        raise ValueError(f"{what} must be a file, got the directory '{path}'; write the path of a TOML file in it")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(
            f"{what} must be a readable file, got '{path}' ({reason}); write the path of a TOML file"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{what} must be valid TOML, got '{path}': {error}; write a line such as {example}") from None

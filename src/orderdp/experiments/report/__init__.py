"""The report of finished runs."""

from __future__ import annotations

from pathlib import Path


def write_report(folder: Path) -> Path:
    """Placeholder."""
    return folder

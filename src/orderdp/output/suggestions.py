"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Returns the end of an error message: "; did you mean 'x'?", or "" if no candidate is near.

    Case is ignored.

    >>> did_you_mean("epoch", ["epochs", "model"])
    "; did you mean 'epochs'?"
    """
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean '{by_lower[matches[0]]}'?" if matches else ""

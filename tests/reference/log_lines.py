"""The lines that a comparison logs of its runs as it trains them."""

import re

_ENDED = re.compile(r"(.+): \d+\.\d\d % after \d+ s")


def begun_or_failed(told):
    """The lines, or those of a text, but for the ones that a finished run ends with, which must have begun."""
    lines = told.splitlines() if isinstance(told, str) else list(told)
    ended = [match[1] for line in lines if (match := _ENDED.fullmatch(line))]
    others = [line for line in lines if not _ENDED.fullmatch(line)]
    assert set(ended) <= set(others)
    assert len(set(ended)) == len(ended)
    return others

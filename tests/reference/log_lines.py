"""The lines that a comparison logs of its runs as it trains them."""

import re

_EPOCH = re.compile(r"\S+: epoch \d+ of \d+: loss .+, \d+\.\d s")
_ENDED = re.compile(r"(.+): \d+\.\d\d % after \d+ s")


def without_epochs(told):
    """The lines of a text but for those of the epochs, which a run tells where there is no terminal."""
    return [line for line in told.splitlines() if not _EPOCH.fullmatch(line)]


def begun_or_failed(told):
    """The lines, or those of a text, but for those of epochs and of the ends of runs, which must have begun."""
    lines = without_epochs(told) if isinstance(told, str) else list(told)
    ended = [match[1] for line in lines if (match := _ENDED.fullmatch(line))]
    others = [line for line in lines if not _ENDED.fullmatch(line)]
    assert set(ended) <= set(others)
    assert len(set(ended)) == len(ended)
    return others

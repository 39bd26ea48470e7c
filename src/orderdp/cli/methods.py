"""`orderdp methods`: the pruning methods by name."""

from __future__ import annotations

import argparse

SUMMARY = "the pruning methods by name"
DESCRIPTION = "Lists the pruning methods, and what the prune ratio means for each."
EXAMPLES = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """`orderdp methods` has no options."""


def run(options: argparse.Namespace) -> int:
    """Prints the methods by name."""
    from orderdp.output.text_table import as_text
    from orderdp.training.methods import METHODS

    rows = [(name, method.label, method.ratio) for name, method in METHODS.items()]
    print(as_text([("name", "method", "what the prune ratio is"), *rows], words=True))
    return 0

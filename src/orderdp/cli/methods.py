"""`orderdp methods`: the pruning methods by name."""

from __future__ import annotations

import argparse

SUMMARY = "the pruning methods by name"
DESCRIPTION = """\
Lists the pruning methods by the names that --strategy and --methods take, and what --prune-ratio means for each. Then
lists the static methods of 'orderdp coreset', and what each of them reads."""
EXAMPLES = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """`orderdp methods` has no options."""


def run(options: argparse.Namespace) -> int:
    """Prints the methods by name."""
    from orderdp.coresets.registry import BY_NAME as STATIC
    from orderdp.output.text_table import as_text
    from orderdp.strategies.registry import BY_NAME

    rows = []
    for name, strategy in BY_NAME.items():
        default = f"; {strategy().asked_ratio:g} if no size is given" if strategy.has_default_size else ""
        rows.append((name, strategy.label, f"{strategy.ratio_means}{default}"))
    print(as_text([("name", "method", "what the prune ratio is"), *rows], words=True))
    print()
    static = [(name, method.label, ", ".join(method.needs) or "nothing") for name, method in STATIC.items()]
    print(as_text([("static method", "method", "what it reads"), *static], words=True))
    return 0

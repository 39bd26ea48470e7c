"""The parser of `orderdp`: one module for each command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

import orderdp
from orderdp.cli import compare, coreset, images, methods, paper, plan, report, study, train
from orderdp.output.suggestions import did_you_mean

COMMANDS = {
    "train": train,
    "compare": compare,
    "coreset": coreset,
    "methods": methods,
    "plan": plan,
    "study": study,
    "paper": paper,
    "report": report,
    "images": images,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if wrong := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            hint = did_you_mean(wrong[1], COMMANDS) or f"; choose from {', '.join(COMMANDS)}"
            message = f"no command {wrong[1]!r}{hint}"
        explains = f"'{self.prog} --help' explains"
        self.exit(2, f"{self.prog}: {message}{f' ({explains})' if message.endswith('?') else f'; {explains}'}\n")


def make_parser(arguments: Sequence[str], *, without_options: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of `orderdp`. Only the named command gets its options, which take a while to import.

    Args:
        arguments: of the command line.
        without_options: what is missing to list the options of the command, for its help; None lists them.

    Raises:
        ModuleNotFoundError: a package is missing that the options of the command need.
    """
    parser = _Parser(
        prog="orderdp",
        description="Data pruning for PyTorch: train on fewer samples, and measure what it saves and costs.",
    )
    parser.add_argument("--version", action="version", version=f"orderdp {orderdp.__version__}")
    named = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = named.add_parser(
            name,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
        )
        if name not in arguments:
            continue
        if without_options is None:
            module.add_options(command)
        else:
            command.epilog = f"{module.EXAMPLES}\n\nIts options need {without_options}".lstrip()
        flags = [flag for action in command._actions for flag in action.option_strings]
        command.set_defaults(parser=command, flags=flags, call=module.run)
    return parser

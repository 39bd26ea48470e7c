"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orderdp.cli.messages import in_flags, one_line, tell, unknown_option
from orderdp.cli.parser import make_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `orderdp`; returns the exit status: 0, or 1 after one line on standard error, or 2 for a mistaken call."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options, unknown = make_parser(arguments).parse_known_args(arguments)
    except ModuleNotFoundError as error:
        tell(f"orderdp: {arguments[0]} needs {error.name}: pip install 'orderdp[train]'")
        return 1
    if unknown:
        options.parser.error(unknown_option(unknown[0], options.flags))
    try:
        status = int(options.call(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough, as in 'orderdp methods | head -3'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        tell(f"orderdp: this needs {error.name}: pip install 'orderdp[train]'")
        return 1
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError, MemoryError) as error:
        tell(f"orderdp: {in_flags(one_line(error), options)}")
        return 1
    except KeyboardInterrupt:
        begun = getattr(options, "run_folder", None)
        resume = f"; resume with {options.parser.prog} --resume {begun}" if begun and begun.exists() else ""
        tell(f"orderdp: stopped{resume}")
        return 130

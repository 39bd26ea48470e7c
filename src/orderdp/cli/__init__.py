"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orderdp.cli.extras import what_is_missing
from orderdp.cli.messages import in_flags, one_line, tell, unknown_option
from orderdp.cli.parser import make_parser

# What is wrong with the call: a setting, or a path that was given. Anything else went wrong while the call was carried
# out: no room on the disk, no network, a run that failed.
_REFUSED = (
    *(ValueError, TypeError),
    *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `orderdp`; returns the exit status.

    Returns:
        0 if all is done. 2 if the call was refused, and 1 if something failed or is missing; both after one line on
        standard error. 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parser = make_parser(arguments)
    except ModuleNotFoundError as error:
        if not {"-h", "--help"} & set(arguments):
            tell(f"orderdp: {arguments[0]} needs {what_is_missing(error)}")
            return 1
        parser = make_parser(arguments, without_options=what_is_missing(error))
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(unknown_option(unknown[0], options.flags, arguments))
    try:
        status = int(options.call(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough, as in 'orderdp methods | head -3'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        tell(f"orderdp: this needs {what_is_missing(error)}")
        return 1
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError, MemoryError) as error:
        tell(f"orderdp: {in_flags(one_line(error), options)}")
        return 2 if isinstance(error, _REFUSED) else 1
    except KeyboardInterrupt:
        begun = getattr(options, "run_folder", None)
        resume = f"; resume with {options.parser.prog} --resume {begun}" if begun and begun.exists() else ""
        tell(f"orderdp: stopped{resume}")
        return 130

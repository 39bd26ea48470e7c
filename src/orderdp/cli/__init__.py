"""The command line: parse, call, print."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from orderdp.cli.extras import what_is_missing
from orderdp.cli.messages import in_flags, one_line, tell, unknown_option
from orderdp.cli.parser import make_parser
from orderdp.output.custom import is_of_custom, reason_of

# What is wrong with the call: a setting, or a path that was given. Anything else went wrong while the call was carried
# out: no room on the disk, no network, a run that failed.
_REFUSED = (
    *(ValueError, TypeError),
    *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError),
)

_SIGTERM_STATUS = 128 + signal.SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `orderdp`; returns the exit status.

    Returns:
        0 if all is done. 2 if the call was refused, and 1 if something failed or is missing; both after one line on
        standard error. 130 after Ctrl-C, and 143 after SIGTERM.
    """
    # A caller that has paused or frozen the collector, or called before, is a program with garbage of its own.
    own_process = arguments is None and gc.isenabled() and not gc.get_freeze_count()
    arguments = sys.argv[1:] if arguments is None else arguments
    with _no_garbage_sought() if own_process else nullcontext():
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
        with _sigterm_raised():
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
        tell(f"orderdp: {reason_of(error) if is_of_custom(error) else in_flags(one_line(error), options)}")
        return 2 if isinstance(error, _REFUSED) else 1
    except Exception as error:
        if not is_of_custom(error):  # a fault of orderdp, which needs its traceback
            raise
        tell(f"orderdp: {reason_of(error)}")
        return 1
    except KeyboardInterrupt:
        tell(f"orderdp: stopped{_how_to_resume(options)}")
        return 130
    except SystemExit as stop:
        if stop.code != _SIGTERM_STATUS:
            raise
        if os.environ.get("RANK", "0") == "0":  # one line for all ranks
            tell(f"orderdp: {stop if str(stop) != str(stop.code) else 'stopped by SIGTERM'}{_how_to_resume(options)}")
        return _SIGTERM_STATUS


def _how_to_resume(options: Any) -> str:
    if again := getattr(options, "again", None):
        return f"; {again}"
    begun = getattr(options, "run_folder", None)
    return f"; resume with {options.parser.prog} --resume {begun}" if begun and begun.exists() else ""


@contextmanager
def _no_garbage_sought() -> Iterator[None]:
    """Pauses Python's garbage collector while modules are imported, and keeps what they hold out of its later rounds.

    The modules of torch live until the process ends. To look through them costs a short training run some per cent.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Ends the call at SIGTERM as Ctrl-C does, so that its files and its other processes are left in order.

    A run in training waits for the end of its step instead, and writes a checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signals
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit(_SIGTERM_STATUS)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

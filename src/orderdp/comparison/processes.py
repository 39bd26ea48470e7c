"""Other processes that do part of the work, end with the process that started them, and say why they stop early."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from orderdp.output.custom import reason_of


@contextmanager
def joined_by(count: int, function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Starts other processes that call a function, and waits for them; ends them if this process is stopped.

    A process in which the function fails says so on standard error. This process then does what is left.

    Args:
        count: how many.
        function: of a module, since a new process imports it.
        *arguments: of the function.
    """
    context, children = multiprocessing.get_context("spawn"), []
    try:
        for _ in range(count):
            child = context.Process(
                target=_as_helper, args=(function, arguments)
            )  # no daemon, which could not start the worker processes of a DataLoader
            with _no_interrupts():  # the child inherits this: Ctrl-C ends it through this process
                child.start()
                children.append(child)
        yield
        for child in children:
            child.join()
    finally:
        for child in children:  # all of them first: each may still finish a step, and write a checkpoint
            child.terminate()
        for child in children:
            child.join()


def say(line: str) -> None:
    """Prints a line on standard error, which is what other processes have to report."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _no_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _as_helper(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function(*arguments)
    except Exception as error:
        say(f"a helper process stopped: {reason_of(error)}")


def _end_with_parent() -> None:
    """Ends this process once the process that started it has ended in any way; its run can be resumed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)

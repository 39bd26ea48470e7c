"""SIGTERM, as schedulers send it before they end a job: the run stops at the next step, on all ranks together."""

from __future__ import annotations

import functools
import signal
import threading
from typing import Any

import torch
import torch.distributed as dist

from orderdp.lost_ranks import meeting
from orderdp.ranks import ranks


class Stopped(SystemExit):
    """A run was stopped by SIGTERM; if nothing catches it, the process ends with status 143.

    Args:
        step: the optimiser steps that its checkpoint holds; None outside training.
    """

    def __init__(self, step: int | None = None) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.step = step

    def __str__(self) -> str:
        return "stopped by SIGTERM" + ("" if self.step is None else f", with a checkpoint of step {self.step}")


class StopRequest:
    """Notes a SIGTERM while it is entered, and lets all ranks stop after the same step.

    A signal reaches the ranks at different steps, or only some of them. So each rank tells the others with every step,
    in a collective of one number that nobody waits for until the next step. One rank alone sends nothing. It may be
    entered again inside, by a run within a run.
    """

    def __init__(self) -> None:
        self._asked = False
        self._entered = 0
        self._before: Any = None
        self._told: tuple[Any, torch.Tensor] | None = None  # the collective under way, and its number

    def __enter__(self) -> StopRequest:
        self._entered += 1
        if (
            self._entered == 1 and threading.current_thread() is threading.main_thread()
        ):  # only the main thread may set signals
            self._before = signal.signal(signal.SIGTERM, self._ask) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered and self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def agreed(self, *, now: bool = False) -> bool:
        """Returns whether to stop, the same on all ranks, which must all call it.

        Args:
            now: count what was asked up to this call, not only up to the one before; this waits for the other ranks.
        """
        if ranks()[1] == 1:
            return self._asked
        told = self._received()
        flag = torch.tensor([self._asked], dtype=torch.uint8)
        with meeting("each step"):
            self._told = dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_on_host(), async_op=True), flag
        return told or (now and self._received())

    def _received(self) -> bool:
        if self._told is None:
            return False
        (work, flag), self._told = self._told, None
        with meeting("each step"):
            work.wait()
        return bool(flag)


def _on_host() -> Any:
    """Returns the group of all ranks whose collectives do not wait for the device; None is the default group."""
    return None if dist.get_backend() == "gloo" else _gloo_beside(dist.group.WORLD)


@functools.cache
def _gloo_beside(_: Any) -> Any:
    return dist.new_group(backend="gloo")

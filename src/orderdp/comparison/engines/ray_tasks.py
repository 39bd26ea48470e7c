"""Workers as tasks of Ray: a running cluster, or one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from orderdp.comparison.engines.assignment import Assignment
from orderdp.comparison.engines.base import Log
from orderdp.comparison.engines.elsewhere import Elsewhere, Worker, first_line, needing


class RayTasks(Elsewhere):
    """One task of Ray for each worker. Ray starts the task of a lost machine again on another one.

    Args:
        **options: `address` of the cluster, as of `ray.init`; all others as of a task's `.options`, such as num_cpus
            and num_gpus. Default: the cluster that Ray finds, else one on this machine, and a processor for a worker.
    """

    name = "ray"

    def check(self, num_ranks: int) -> None:
        """Imports Ray, lets it check the options, and connects once to a cluster that is named."""
        super().check(num_ranks)
        ray = _ray()
        if self.options.get("num_returns", 1) != 1:
            raise ValueError(
                f"a task of the engine ray must return one thing, got num_returns={self.options['num_returns']}; leave "
                "it out"
            )
        if "address" in self.options or os.environ.get("RAY_ADDRESS"):
            with self._connected(ray):
                pass
        try:
            self._task(ray)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"options of the engine ray must be those of a Ray task, got {self.options} ({first_line(error)}); "
                "write num_cpus=2 or num_gpus=1"
            ) from None

    def num_threads(self, processes: int) -> int:
        """Returns the processors that a task asks for."""
        return max(1, int(self.options.get("num_cpus", 1)))

    def _task(self, ray: Any) -> Any:
        options = {name: value for name, value in self.options.items() if name != "address"}
        return ray.remote(_carry_out).options(**{"num_cpus": 1, "max_retries": 3, **options})

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """Connects to Ray, or uses the connection that this process has."""
        if ray.is_initialized():
            yield
            return
        address = self.options.get("address")
        try:
            ray.init(address, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            named, rest = f"address={address}", "leave the address out"
            if address is None and "RAY_ADDRESS" in os.environ:
                named, rest = f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}", "unset the variable"
            raise RuntimeError(
                f"the engine ray must reach its cluster, got {named} ({first_line(error)}); start one with "
                f"'ray start --head', or {rest}"
            ) from None
        try:
            yield
        finally:
            ray.shutdown()

    @contextmanager
    def _started(self, assignment: Assignment, count: int, log: Log) -> Iterator[Sequence[Worker]]:
        ray = _ray()
        tasks: list[_Task] = []
        with self._connected(ray):
            self._tell_of(ray.cluster_resources(), log)
            try:
                tasks.extend(_Task(self._task(ray).remote(assignment)) for _ in range(count))
                yield tasks
            finally:
                for task in tasks:
                    if not task.ended():
                        ray.cancel(task.reference, force=True)

    def _tell_of(self, resources: dict[str, float], log: Log) -> None:
        """Says what would be a surprise: processors without a GPU that are there, or workers that must wait."""
        if resources.get("GPU") and "num_gpus" not in self.options:
            log(
                f"Ray has {resources['GPU']:g} GPUs, and the workers ask for none; write --engine-options num_gpus=1 "
                "to train on them"
            )
        asked = {"CPU": self.options.get("num_cpus", 1), "GPU": self.options.get("num_gpus", 0)}
        for name, amount in asked.items():
            if amount > resources.get(name, 0):
                log(f"Ray has {resources.get(name, 0):g} {name}s now, and a worker asks for {amount:g}; it waits")


class _Task(NamedTuple):
    reference: Any

    def ended(self) -> bool:
        """Returns whether its result is there, or no result will come."""
        return bool(_ray().wait([self.reference], timeout=0)[0])

    def reason(self) -> str | None:
        """Returns what the assignment returned, or why Ray gave up the task."""
        ray = _ray()
        try:
            reason: str | None = ray.get(self.reference)
        except ray.exceptions.RayError as error:
            return f"Ray gave it up ({first_line(error)})"
        return reason


def _carry_out(assignment: Assignment) -> str | None:
    return assignment()


def _ray() -> Any:
    def load() -> Any:
        import ray

        return ray

    return needing("ray", load)

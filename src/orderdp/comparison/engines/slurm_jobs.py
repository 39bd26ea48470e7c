"""Workers as jobs of SLURM, which submitit submits."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.comparison.engines.assignment import Assignment
from orderdp.comparison.engines.base import Log
from orderdp.comparison.engines.elsewhere import Elsewhere, Worker, first_line, needing

_OF_ONE_TASK = ("nodes", "tasks_per_node", "ntasks_per_node")


class SlurmJobs(Elsewhere):
    """One job array, a job for each worker. A job that reaches its time limit or is preempted is queued again.

    Args:
        cluster: executor of submitit: "slurm", or "local" for processes on this machine, as a trial.
        **options: parameters of `submitit.AutoExecutor`; timeout_min is needed.
    """

    name = "slurm"

    def __init__(self, *, cluster: str = "slurm", **options: Any) -> None:
        super().__init__(**options)
        self.cluster = cluster

    def check(self, num_ranks: int) -> None:
        """Imports submitit, looks for SLURM and lets submitit check the options."""
        super().check(num_ranks)
        needing("submitit", _submitit)
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise RuntimeError(
                "the engine slurm needs the commands sbatch and srun, which this machine lacks; start it on a login "
                "node, or write --engine local"
            )
        if not {"timeout_min", "slurm_time"} & self.options.keys():
            raise ValueError(
                "the engine slurm needs the time limit of a job in minutes, got none; write --engine-options "
                "timeout_min=240"
            )
        self._refuse_several_tasks()
        with tempfile.TemporaryDirectory() as folder:  # an executor makes its folder
            self._executor(Path(folder))

    def _refuse_several_tasks(self) -> None:
        for name, value in self.options.items():
            if name.removeprefix(f"{self.cluster}_") in _OF_ONE_TASK and value != 1:
                raise ValueError(
                    f"a worker of the engine slurm is one task on one node, got {name}={value}; leave it out, and "
                    f"write --processes {value} for as many workers"
                )

    def num_threads(self, processes: int) -> int:
        """Returns the processors that a job asks for."""
        return int(self.options.get("cpus_per_task", 1))

    def _executor(self, folder: Path) -> Any:
        submitit = needing("submitit", _submitit)
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        except ValueError as error:
            raise ValueError(
                f"cluster of the engine slurm must be an executor of submitit, got {self.cluster} "
                f"({first_line(error)}); write cluster=local for a trial, or leave it out"
            ) from None
        try:
            executor.update_parameters(**{"name": "orderdp", "cpus_per_task": 1, **self.options})
        except (NameError, AssertionError, ValueError, TypeError) as error:
            raise ValueError(
                f"options of the engine slurm must be parameters of submitit, got {self.options} "
                f"({first_line(error)}); write timeout_min=240 or slurm_partition=NAME"
            ) from None
        return executor

    @contextmanager
    def _started(self, assignment: Assignment, count: int, log: Log) -> Iterator[Sequence[Worker]]:
        executor = self._executor(assignment.place.parent / assignment.place.stem)
        with executor.batch():
            submitted = [executor.submit(assignment) for _ in range(count)]
        jobs = [_Job(job) for job in submitted]
        log(f"submitted {count} job{'' if count == 1 else 's'}: {', '.join(job.job.job_id for job in jobs)}")
        try:
            yield jobs
        finally:
            for job in jobs:
                if not job.ended():
                    job.job.cancel(check=False)


class _Job(NamedTuple):
    job: Any

    def ended(self) -> bool:
        """Returns whether its result is there, or SLURM says that it ended."""
        return bool(self.job.done())

    def reason(self) -> str | None:
        """Returns what the assignment returned, or why there is nothing."""
        error = self.job.exception()
        if error is not None:
            return f"job {self.job.job_id} was lost ({first_line(error)}); its log is {self.job.paths.stderr}"
        reason: str | None = self.job.result()
        return reason


def _submitit() -> Any:
    import submitit

    return submitit

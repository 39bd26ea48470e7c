"""What an engine is: it starts workers, each of which does what is left in folders, until nothing is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

Log = Callable[[str], None]


class Here(Protocol):
    """Does what is left, in this process."""

    def __call__(self, *, alone: bool) -> None:
        """Shows its progress if no other process works beside it."""


@dataclass(frozen=True)
class Left:
    """What is left to do.

    Args:
        open: name of what a worker could begin or continue now, and how far it is; equal if nothing has happened since.
        held: names of what another process is doing.
    """

    open: Mapping[str, str]
    held: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Work:
    """Work in folders that any number of processes may share. Each does what no other one has locked.

    Args:
        folders: where it is.
        worker: of a module; does what is left in these folders, and tells each line of its log.
        here: does the same in this process.
        left: looks into the folders.
    """

    folders: Sequence[Path]
    worker: Callable[[Sequence[Path], Log], None]
    here: Here
    left: Callable[[], Left]


class Engine(ABC):
    """Starts the workers."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, num_ranks: int) -> None:
        """Checks that workers can be started, before anything is written.

        Args:
            num_ranks: ranks of this process.

        Raises:
            ValueError: an option that the engine does not take. ImportError: a package is missing.
            RuntimeError: the machine lacks the engine.
        """

    @abstractmethod
    def num_threads(self, processes: int) -> int | None:
        """Returns the threads of each of this many workers; None leaves it to torch."""

    @abstractmethod
    def share(self, work: Work, processes: int, log: Log) -> None:
        """Starts this many workers and returns when nothing is left that they can do.

        Raises:
            RuntimeError: no worker could do anything.
        """

"""What a run shows while it trains: bars in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from orderdp.training.run_folder import spent_s


class Shown:
    """Shows the progress of a run on standard error, as a context manager.

    Args:
        name: of the run.
        num_steps: optimiser steps of the run; None if it is not known.
        num_epochs: of the run.
        step: steps that are made.
        show: show it.
    """

    def __init__(self, name: str, num_steps: int | None, num_epochs: int, *, step: int, show: bool) -> None:
        self._name, self._num_epochs = name, num_epochs
        in_terminal = sys.stderr.isatty()
        self._bars, self._lines = show and in_terminal, show and not in_terminal
        self._bar = tqdm(total=num_steps, initial=step, desc=name, unit=" steps", disable=not self._bars)

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def batches(self, loader: Iterable[Any], epoch: int) -> Iterable[Any]:
        """Returns the batches of an epoch, from 1, with a bar of their own."""
        shown: Iterable[Any] = tqdm(loader, f"epoch {epoch}", leave=False, disable=not self._bars)
        return shown

    def step(self) -> None:
        """Counts an optimiser step."""
        self._bar.update()

    def epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Shows how the last epoch ended.

        Args:
            history: a line of metrics for each epoch.
        """
        line = history[-1]
        evaluated = [each["accuracy"] for each in history if each["accuracy"] is not None]
        accuracy = f", accuracy {evaluated[-1]:.2f} %" if evaluated else ""
        mastered = "" if line["mastered"] is None else f", mastered {100 * line['mastered']:.0f} %"
        text = f"loss {line['loss']:.3f}{accuracy}{mastered}"
        self._bar.set_postfix_str(text)
        if self._lines:
            number = f"epoch {line['epoch']} of {self._num_epochs}"
            print(f"{self._name}: {number}: {text}, {spent_s(line):.1f} s", file=sys.stderr, flush=True)  # noqa: T201

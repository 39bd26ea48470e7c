"""OrderDP on a stream: sources without random access, pruned window by window."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from orderdp.checks import check_integer, check_losses, check_values
from orderdp.epochs import shown
from orderdp.lost_ranks import meeting
from orderdp.notices import Notices
from orderdp.ranks import group_of, ranks, refuse_lone_rank, wire
from orderdp.rng import generator
from orderdp.strategies import OrderDP
from orderdp.strategies.draws import draw, positions, shuffle
from orderdp.strategies.order import largest
from orderdp.stream.batches import Places, gathered, num_samples_of, taken
from orderdp.stream.checks import can_resume, check_function, check_source, check_state, checked_keys, checked_scores
from orderdp.stream.loops import Calls, refuse_accumulation, refuse_trainers
from orderdp.stream.window import StreamReport, Window

_VERSION = 1


class StreamPruner:
    """Prunes the batches of a source that cannot be asked for chosen samples.

    It takes the next `window` batches of the source, draws some of their samples, keeps the highest scores, and yields
    those in batches of their own. Scores are fresh or remembered:

    - `score`: a function that returns the losses of a batch. It runs without gradient on the samples that were drawn,
      so only what is kept goes backward. A pass costs s/n forward passes more than its steps.
    - `key`: a function that returns the keys of a batch. The last loss that `update` saw of each key is remembered, and
      a key that was never seen comes first. Nothing is scored twice, but the first pass is a uniform draw.

    The kept share is exact after each window: of all N samples that came, `strategy.sizes(N)[1]` were kept. With
    several ranks, each prunes its own part of the stream. They agree once a window on the number of steps, that of the
    smallest part, and of calls of `score`. A pass ends on all ranks with the window in which the source of one ends.

    Args:
        source: an iterable of batches, such as a DataLoader over an `IterableDataset`, which gives some in every pass.
            A batch is a tensor, or tuples, lists and dictionaries of them; lists of strings, bytes or numbers count as
            columns too.
        strategy: `OrderDP` that keeps the highest scores of a draw an epoch; here a window is its epoch.
        batch_size: samples of one step on this rank, at most.
        window: batches of the source that are chosen from together.
        score: (batch) to (b,) losses; this or `key`.
        key: (batch) to b keys, strings or integers; this or `score`.
        seed: decides every draw, 0 <= seed < 2**64.
        process_group: the processes that train together; None is all of them.

    Raises:
        TypeError: another strategy, a source that is no iterable, a `score` or `key` that is no function. ValueError:
            settings of OrderDP that need all samples at once; both or none of `score` and `key`.
    """

    def __init__(
        self,
        source: Iterable[Any],
        strategy: OrderDP,
        *,
        batch_size: int,
        window: int = 8,
        score: Callable[[Any], Tensor] | None = None,
        key: Callable[[Any], Sequence[Any] | Tensor] | None = None,
        seed: int = 0,
        process_group: Any = None,
    ) -> None:
        if type(strategy) is not OrderDP:
            raise TypeError(f"a stream is pruned by OrderDP, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
        if strategy.surrogate_sizes(2**31) is None:
            raise ValueError(
                f"a stream keeps the highest scores of one draw a window, got {shown(strategy)}; leave out all "
                "settings but the sizes and initial_score"
            )
        if (score is None) == (key is None):
            given = "neither" if score is None else "both"
            raise ValueError(f"give score for fresh losses or key for remembered ones, got {given}")
        check_source(source)
        check_function(score, key)
        self.source, self.strategy, self.score, self.key = source, strategy, score, key
        self.batch_size = check_integer("batch_size", batch_size, 1, 2**31, "write a number such as 128")
        self.window = check_integer("window", window, 1, 2**31, "write how many batches, such as 8")
        self.seed = check_integer("seed", seed, 0, 2**64, "write a number such as 0")
        self._group = group_of(process_group)
        self._report = StreamReport()
        self._scores: dict[Any, float] = {}
        self._open: list[Window] = []  # the last two, since a loop may read one batch ahead
        self._inside = False  # a pass, which has not come to its end
        self._loaded: Mapping[str, Any] | None = None  # a window that is to be resumed
        self._calls, self._notices = Calls(), Notices()
        self._new = True  # no state was loaded, and no pass has begun

    def __repr__(self) -> str:
        return f"<StreamPruner: {shown(self.strategy)} on windows of {self.window} batches>"

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yields (index, batch): the keys of the batch, or (b,) int64 numbers of its samples in the stream.

        Raises:
            RuntimeError: a loop that does not call `update`; one of a framework that would train wrongly; one of
                several processes without a process group. ValueError, TypeError: a source that gives no batches; keys
                or scores that are not one for each sample.
        """
        refuse_lone_rank()
        self._calls.begin_pass()
        refuse_accumulation(self.source)
        refuse_trainers(sys._getframe(1), new=self._new)
        self._notices.of_autocast(f"pass {self.next_pass}")
        self._new = False
        loaded, self._loaded, self._open, self._inside = self._loaded, None, [], True
        first = loaded is None
        if loaded is None:
            self._report = replace(self._report, passes=self._report.passes + 1)
        else:
            self.source.load_state_dict(loaded["source"])  # type: ignore[attr-defined]
        batches = iter(self.source)  # before its state, which else may be that of a pass that was left
        began = self._source_state() if loaded is None else loaded["source"]
        while True:
            self._calls.begin_window()
            read = self._read(batches)
            window = self._window(read, began, loaded)
            if window is None:
                self._end()
                if first and not read:
                    raise ValueError(
                        f"source must give batches in every pass, got none from {type(self.source).__name__} in pass "
                        f"{self._report.passes}; give what can be read again, such as a DataLoader, and no generator"
                    )
                return
            loaded, first = None, False
            if len(window.cuts) > 1:  # a batch read ahead may be followed by windows that keep nothing
                self._open = [*self._open[-1:], window]
            for number in range(len(window.cuts) - 1):
                if number not in window.trained:
                    self._calls.came += 1
                    yield window.part(number)
            if window.last:
                self._end()
                return
            began = self._source_state()

    def _end(self) -> None:
        self._inside, self._calls.ended = False, True

    def _read(self, batches: Iterator[Any]) -> list[Any]:
        """Returns the next batches of the source, fewer at its end."""
        try:
            return [batch for _, batch in zip(range(self.window), batches, strict=False)]
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # torch's own keep the workers alive, as in `PrunedLoader`
            raise

    def _source_state(self) -> Any:
        return self.source.state_dict() if can_resume(self.source) else None  # type: ignore[attr-defined]

    def _window(self, read: list[Any], source: Any, loaded: Mapping[str, Any] | None) -> Window | None:
        """Returns what is kept of the batches that were read; None if a rank has read none."""
        before = self._report
        size = sum(map(num_samples_of, read))
        keys = None
        if self.key is not None:
            keys = [key for batch in read for key in checked_keys(self.key(batch), num_samples_of(batch))]
        s, q = (now - then for now, then in zip(self._sizes(before.seen + size), self._sizes(before.seen), strict=True))
        s = min(s, size)
        draws, shares, last = self._shares(s, min(q, s) if size else -1, ended=len(read) < self.window)
        if min(shares) < 0:
            return None
        steps = min(-(-share // self.batch_size) for share in shares)
        # As many calls of the score function on each rank: a model that is spread over ranks waits for the others.
        calls = max(-(-count // self.batch_size) for count in draws) if steps and self.key is None else 0
        ends = [min(share, steps * self.batch_size) for share in shares]
        cuts = np.array([[end * step // max(1, steps) for step in range(steps + 1)] for end in ends])
        rank = ranks(self._group)[0]
        failed, trained = 0, set()
        if loaded is None or loaded["places"] is None:
            places, failed = self._choose(read, keys, s, min(q, s) if steps else 0, calls)
            places = places[: ends[rank]]
        else:
            places, trained = loaded["places"].numpy(), set(loaded["trained"])
        sizes = np.diff(cuts, axis=1)
        self._report = replace(
            before,
            windows=before.windows + 1,
            seen=before.seen + size,
            scored=before.scored + (s if calls else 0),
            kept=before.kept + len(places),
            non_finite=before.non_finite + failed,
        )
        return Window(
            before=before,
            source=source,
            places=places,
            ids=torch.from_numpy(before.seen + places) if keys is None else [keys[place] for place in places],
            samples=gathered(read, places) if len(places) else None,
            cuts=cuts[rank].tolist(),
            factors=[len(shares) * int(step[rank]) / int(step.sum()) for step in sizes.T],
            failed=failed,
            last=last,
            trained=trained,
        )

    def _sizes(self, seen: int) -> tuple[int, int]:
        """Returns how many of the first samples of the stream are drawn, and how many are kept."""
        if seen == 0:
            return 0, 0
        try:
            return self.strategy.sizes(seen)
        except ValueError:  # too few to keep one
            return 0, 0

    def _shares(self, drawn: int, kept: int, *, ended: bool) -> tuple[list[int], list[int], bool]:
        """Returns how many samples each rank draws and keeps, -1 of one without any; and whether a source has ended."""
        rank, num_ranks = ranks(self._group)
        told = torch.zeros(num_ranks, 3, dtype=torch.int64)
        told[rank] = torch.tensor([drawn, kept, ended])
        if num_ranks > 1:
            told = told.to(wire(self._group))
            with meeting("each window"):
                dist.all_reduce(told, group=self._group)
                told = told.cpu()
        draws, shares, ends = told.T.tolist()
        return draws, shares, any(ends)

    def _choose(self, read: list[Any], keys: list[Any] | None, s: int, q: int, calls: int) -> tuple[Places, int]:
        """Returns where the kept samples stand in a window, in training order; and how many scores were not finite."""
        size = sum(map(num_samples_of, read))
        if not q:
            return np.empty(0, dtype=np.int64), 0
        rng = generator(self.seed, self._report.windows, f"stream of rank {ranks(self._group)[0]}")
        drawn = positions(draw(size, s, rng)).astype(np.int64)
        failed = 0
        if keys is not None:
            first = self.strategy.initial_score
            scores = np.array([self._scores.get(keys[place], first) for place in drawn], dtype=np.float32)
        else:
            scores = self._fresh(gathered(read, drawn), len(drawn), calls)
            finite = np.isfinite(scores)
            scores[~finite] = -np.inf  # below all others
            failed = int(np.count_nonzero(~finite))
        kept = drawn[largest(scores, q, rng)]
        shuffle(kept, rng)
        return kept, failed

    def _fresh(self, samples: Any, size: int, calls: int) -> npt.NDArray[np.float32]:
        """Returns (size,) losses of samples, in batches of the size of a step; calls left over score the last again."""
        assert self.score is not None
        found = np.empty(size, dtype=np.float32)
        for call in range(calls):
            begin = min(call * self.batch_size, size - 1)
            end = min(begin + self.batch_size, size)
            part = taken(samples, np.arange(begin, end))
            with torch.no_grad():
                losses = self.score(part)
            found[begin:end] = checked_scores(losses, end - begin)
        return found

    def update(self, index: Any, losses: Tensor) -> Tensor:
        """Remembers the losses of a batch and returns the scalar to back-propagate, their mean.

        With several ranks, the mean over the ranks of what it returns is the mean of the step.

        Args:
            index: as it came with the batch.
            losses: (b,) floating, one loss per sample, with gradient.

        Returns:
            () scalar with gradient.

        Raises:
            ValueError: losses reduced, of another length or without gradient; an index of no running batch.
        """
        check_values(len(index), losses, "losses")
        check_losses(losses)
        found = [(window, number) for window in self._open if (number := window.number(index)) is not None]
        if not found:
            raise ValueError(
                f"index must be that of a batch under way, got one that begins with {index[0]}; take index and batch "
                "from the same pass over the stream, and train each batch as a whole"
            )
        self._calls.updates += 1
        window, number = min(found, key=lambda at: at[1] in at[0].trained)  # one not trained yet, if several have it
        if self.key is not None:
            told = losses.detach().to("cpu", torch.float32, copy=True)
            finite = torch.isfinite(told)
            told[~finite] = -torch.inf
            self._scores.update(zip(window.ids_of(number), told.tolist(), strict=True))
            self._report = replace(self._report, non_finite=self._report.non_finite + int((~finite).sum()))
        if number not in window.trained:
            window.trained.add(number)
            self._report = replace(self._report, trained=self._report.trained + len(index))
        factor = window.factors[number]
        return losses.mean() if factor == 1 else (losses * factor).mean()

    def total_steps(self, passes: int, num_samples: int, source_batch_size: int) -> int:
        """Returns the exact number of steps of passes over a source of known size on one rank, for a schedule.

        Args:
            passes: number of passes.
            num_samples: samples of a pass.
            source_batch_size: samples of a batch of the source; the last one may be smaller.
        """
        steps, seen, most = 0, 0, self.window * source_batch_size
        for _ in range(passes):
            for begin in range(0, num_samples, most):
                end = seen + min(most, num_samples - begin)
                steps += -(-(self._sizes(end)[1] - self._sizes(seen)[1]) // self.batch_size)
                seen = end
        return steps

    @property
    def next_pass(self) -> int:
        """The number of the pass that the next loop begins, or goes on with after loading a state, from 0."""
        return self._report.passes - (self._loaded is not None)

    def report(self) -> StreamReport:
        """Returns what this rank has done so far."""
        return replace(self._report, remembered=len(self._scores))

    def state_dict(self) -> dict[str, Any]:
        """Returns all that decides the rest of the run, as tensors and plain values, of this rank.

        What counts as trained is what `update` saw. Inside a window it holds which samples were kept and where the
        source stood when the window began.

        Raises:
            ValueError: inside a pass, and the source has no `state_dict`.
        """
        if self._loaded is not None:  # no pass has begun since
            return dict(self._loaded)
        window = self._unfinished()
        inside = window is not None or (self._inside and not (self._open and self._open[-1].last))
        if inside and not can_resume(self.source):
            raise ValueError(
                f"a state inside a pass needs a source that can resume, got {type(self.source).__name__} without "
                "state_dict; read the stream with torchdata's StatefulDataLoader, or save between two passes"
            )
        report = self.report()
        if window is not None:
            later = sum(other.failed for other in self._open[self._open.index(window) + 1 :])
            report = replace(window.before, trained=report.trained, non_finite=report.non_finite - later)
        return {
            **self._settings(),
            "report": asdict(report),
            "inside": inside,
            "source": window.source if window else self._source_state() if inside else None,
            "places": torch.from_numpy(window.places.copy()) if window else None,
            "trained": sorted(window.trained) if window else [],
            "keys": list(self._scores),
            "scores": torch.tensor(list(self._scores.values()), dtype=torch.float32),
        }

    def _unfinished(self) -> Window | None:
        """Returns the window that the loop is in, by what `update` saw; a loop may have read one batch ahead.

        A batch without an update does not bring its window back, once a later window or its own last batch was trained
        and the loop has asked for more.
        """
        windows = self._open[-1:] if self._open and self._open[-1].trained else self._open
        for window in windows:
            last = len(window.cuts) - 2
            passed = window is not self._open[-1] or not self._inside
            over = not self._inside and not can_resume(self.source)  # nothing could bring it back
            if not over and (last not in window.trained if passed else len(window.trained) <= last):
                return window
        return None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned on this rank; the next pass goes on where it was saved.

        Raises:
            ValueError: a state of other settings, or a source that cannot resume; nothing is changed.
        """
        check_state(state, self._settings(), self.source)
        self._report, self._open, self._inside = StreamReport(**state["report"]), [], False
        self._scores = dict(zip(state["keys"], state["scores"].tolist(), strict=True))
        self._loaded = state if state["inside"] else None
        self._calls, self._new = Calls(), False

    def _settings(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "strategy": repr(self.strategy),
            "window": self.window,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "fresh": self.key is None,
            "ranks": ranks(self._group)[1],
            "rank": ranks(self._group)[0],
        }

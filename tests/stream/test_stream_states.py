"""What a stream's state restores and refuses, and settings that decide what is kept."""

import re

import pytest
import torch
import torch.distributed as dist

from orderdp import OrderDP
from orderdp.stream import StreamPruner
from reference.loop import joined
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HALF = OrderDP(explore=1.0, exploit=0.5)


class Source:
    """Batches that are a function of their number, from a place that can be saved."""

    def __init__(self, num_batches: int, first: int = 0) -> None:
        self.num_batches, self.first, self.next = num_batches, first, 0

    def __iter__(self):
        while self.next < self.num_batches:
            self.next += 1
            i = torch.arange(8 * self.next - 8, 8 * self.next) + self.first
            yield {"i": i, "x": 1 + (i * 7919 % 1009).float()}
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def make(num_batches: int = 6, **changed) -> StreamPruner:
    settings = {"strategy": HALF, "batch_size": 4, "window": 2, "key": lambda batch: batch["i"], **changed}
    return StreamPruner(settings.pop("source", Source(num_batches)), settings.pop("strategy"), **settings)


def update(stream: StreamPruner, index, batch) -> list[int]:
    stream.update(index, batch["x"].clone().requires_grad_())
    return batch["i"].tolist()


def passed(stream: StreamPruner) -> list[list[int]]:
    return [update(stream, index, batch) for index, batch in stream]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "the state must be of seed 1, got 0"),
        ({"batch_size": 5}, "the state must be of batch_size 5, got 4"),
        ({"window": 3}, "the state must be of window 3, got 2"),
        ({"key": None, "score": lambda batch: batch["x"]}, "the state must be of fresh True, got False"),
        ({"strategy": OrderDP(prune_ratio=0.6)}, "the state must be of strategy 'OrderDP(prune_ratio=0.6)'"),
    ],
    ids=["seed", "batch_size", "window", "fresh", "strategy"],
)
def test_a_state_of_other_settings_is_refused_and_changes_nothing(changed, message):
    saved, other = make(), make(**changed)
    passed(saved)
    with pytest.raises(ValueError, match=re.escape(message)):
        other.load_state_dict(saved.state_dict())
    assert other.report().passes == other.report().remembered == other.next_pass == 0


def test_a_state_replaces_what_was_remembered():
    early, stream = make(), make()
    batches = iter(early)
    update(early, *next(batches))
    passed(stream)
    stream.load_state_dict(early.state_dict())
    assert stream.report().remembered == 4
    assert stream.next_pass == 0


def test_a_key_that_was_never_seen_has_the_initial_score():
    stream = make(strategy=OrderDP(explore=1.0, exploit=0.5, initial_score=0.0))
    first = joined(passed(stream))
    assert sorted(joined(passed(stream))) == sorted(first)  # whose losses are above 0


def test_a_state_saved_between_reading_ahead_and_update_counts_failures_once():
    bad = lambda batch: torch.where(batch["i"] % 5 == 0, torch.nan, batch["x"])  # noqa: E731
    fresh = {"key": None, "score": bad}
    whole = make(**fresh)
    expected = passed(whole)
    for steps in range(6):
        stream, other = make(**fresh), make(**fresh)
        batches = iter(stream)
        ahead, trained = next(batches), []
        for _ in range(steps):
            pair, ahead = ahead, next(batches)
            trained.append(update(stream, *pair))
        next(batches, None)  # the loop has read on and not trained yet
        other.load_state_dict(stream.state_dict())
        assert trained + passed(other) == expected
        assert other.report() == whole.report()
    assert whole.report().non_finite > 5


def test_a_batch_that_was_passed_over_comes_again_while_the_loop_is_in_its_window():
    stream, other = make(), make()
    batches = iter(stream)
    _, skipped = next(batches)
    update(stream, *next(batches))  # the last of the window
    other.load_state_dict(stream.state_dict())
    assert next(iter(other))[1]["i"].tolist() == skipped["i"].tolist()


def of_own_group(rank: int) -> list[int]:
    groups = [dist.new_group([each]) for each in range(2)]
    alone = make(source=Source(2 + 2 * rank), process_group=groups[rank])
    together = make(source=Source(2 + 2 * rank))
    return [len(passed(alone)), len(passed(together))]


def test_ranks_of_other_groups_do_not_meet(tmp_path):
    assert run_ranks(2, of_own_group, tmp_path) == [[2, 2], [4, 2]]


def highest_of(rank: int) -> list[list[int]]:
    stream = make(source=Source(2 - rank, first=100 * rank), key=None, score=lambda batch: batch["x"])
    return passed(stream)


def test_a_rank_scores_all_that_it_drew_where_another_drew_less(tmp_path):
    first, second = run_ranks(2, highest_of, tmp_path)
    assert len(first) == len(second) == 1
    (window,) = [sorted(range(16), key=lambda i: -(i * 7919 % 1009))]
    assert set(first[0]) <= set(window[:8])  # the 8 highest of 16, of which one step trains 4
    assert sorted(second[0]) == sorted(sorted(range(100, 108), key=lambda i: -(i * 7919 % 1009))[:4])

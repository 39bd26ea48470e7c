"""OrderDP on sources without random access."""

import copy
import re
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

from orderdp import DynamicRandom, OrderDP
from orderdp.stream import StreamPruner
from orderdp.stream.batches import gathered, joined, num_samples_of, taken
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
TOP = OrderDP(explore=1.0, exploit=0.25)


class Numbers(IterableDataset):
    """The samples i, with a value that looks random, dealt out to the workers."""

    def __init__(self, n: int, first: int = 0) -> None:
        self.n, self.first = n, first

    def __iter__(self):
        info = get_worker_info()
        begin, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(self.first + begin, self.first + self.n, step):
            yield {"name": f"s{i}", "i": i, "x": torch.tensor([float(value_of(i)), 1.0])}


def value_of(i: int) -> int:
    return i * 7919 % 1009


def score(batch) -> torch.Tensor:
    assert not torch.is_grad_enabled()
    return batch["x"][:, 0]


def with_gradient(batch) -> torch.Tensor:
    return batch["x"][:, 0].clone().requires_grad_()


def passed(stream: StreamPruner, limit: int | None = None) -> list[list[int]]:
    """Trains a pass, or its first batches; the samples of each."""
    found = []
    for index, batch in stream:
        stream.update(index, with_gradient(batch))
        found.append(batch["i"].tolist())
        if len(found) == limit:
            break
    return found


def flat(batches) -> list[int]:
    return [i for batch in batches for i in batch]


# What is kept.


@pytest.mark.parametrize("workers", [0, 2])
def test_each_window_trains_its_highest_fresh_scores(workers):
    loader = DataLoader(Numbers(100), batch_size=10, num_workers=workers)
    order = flat(batch["i"].tolist() for batch in loader)
    stream = StreamPruner(loader, TOP, batch_size=6, window=4, score=score)
    batches = passed(stream)
    begin = 0
    for window in (order[:40], order[40:80], order[80:]):
        size = len(window) // 4
        steps = -(-size // 6)
        mine = batches[begin : begin + steps]
        assert sorted(flat(mine)) == sorted(sorted(window, key=value_of)[-size:])
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
        begin += steps
    assert begin == len(batches)
    report = stream.report()
    assert (report.seen, report.scored, report.kept, report.trained) == (100, 100, 25, 25)
    assert (report.passes, report.windows, report.remembered) == (1, 3, 0)


@pytest.mark.parametrize("strategy", [OrderDP(prune_ratio=0.7), OrderDP(explore=0.6, exploit=0.35)], ids=repr)
@pytest.mark.parametrize(("batch", "window"), [(7, 3), (16, 1), (1, 5)])
def test_the_share_is_exact_after_every_window(strategy, batch, window):
    stream = StreamPruner(
        DataLoader(Numbers(233), batch_size=batch), strategy, batch_size=5, window=window, score=score
    )
    for index, part in stream:
        report = stream.report()
        assert (report.scored, report.kept) == strategy.sizes(report.seen)
        stream.update(index, with_gradient(part))
    assert stream.report().seen == 233
    assert stream.report().trained == strategy.sizes(233)[1]


@pytest.mark.parametrize("ratio", [0.3, 0.9])
@pytest.mark.parametrize(("batch", "window", "n"), [(7, 3, 100), (10, 2, 100), (1, 1, 30)])
def test_the_number_of_steps_is_known_where_the_size_is(ratio, batch, window, n):
    loader = DataLoader(Numbers(n), batch_size=batch)
    stream = StreamPruner(loader, OrderDP(prune_ratio=ratio), batch_size=4, window=window, score=score)
    assert stream.total_steps(3, n, batch) == sum(len(passed(stream)) for _ in range(3))


def test_only_what_was_drawn_is_scored_and_the_draw_is_uniform():
    scored, kept = np.zeros(40), np.zeros(40)

    def counted(batch):
        scored[batch["i"]] += 1
        return score(batch)

    for seed in range(400):
        loader = DataLoader(Numbers(40), batch_size=10)
        stream = StreamPruner(
            loader, OrderDP(explore=0.5, exploit=0.5), batch_size=5, window=4, score=counted, seed=seed
        )
        kept[flat(passed(stream))] += 1
    assert scored.sum() == 400 * 20
    assert abs(scored - 200).max() < 50  # five standard deviations
    ranked = kept[np.argsort([-value_of(i) for i in range(40)])]
    assert ranked[:5].mean() > 190  # of the 200 draws
    assert ranked[-5:].sum() == 0


def test_index_numbers_the_samples_of_the_stream():
    loader = DataLoader(Numbers(60), batch_size=10)
    stream = StreamPruner(loader, OrderDP(prune_ratio=0.5), batch_size=4, window=2, score=score)
    for index, batch in stream:
        assert index.dtype == torch.int64
        assert index.tolist() == batch["i"].tolist()
        assert batch["name"] == [f"s{i}" for i in index]
        assert batch["x"][:, 0].tolist() == [value_of(i) for i in index.tolist()]
        stream.update(index, with_gradient(batch))
    for index, batch in stream:  # the second pass goes on counting
        assert index.tolist() == [60 + i for i in batch["i"].tolist()]
        break


def test_remembered_scores_choose_from_the_second_pass_on_and_nothing_is_scored():
    loader = DataLoader(Numbers(80), batch_size=10)
    everything = OrderDP(explore=1.0, exploit=1.0)
    stream = StreamPruner(loader, everything, batch_size=8, window=4, key=lambda batch: batch["name"])
    for index, batch in stream:
        assert index == batch["name"]
        stream.update(index, with_gradient(batch))
    assert stream.report().remembered == 80
    second = StreamPruner(loader, TOP, batch_size=8, window=4, key=lambda batch: batch["i"])
    second._scores = {int(name[1:]): value for name, value in stream._scores.items()}
    kept = flat(passed(second))
    assert sorted(kept) == sorted(sorted(range(40), key=value_of)[-10:] + sorted(range(40, 80), key=value_of)[-10:])
    assert second.report().scored == 0


def test_a_key_that_was_never_seen_comes_first_and_one_that_failed_last():
    loader = DataLoader(Numbers(16), batch_size=16)
    stream = StreamPruner(loader, OrderDP(explore=1.0, exploit=0.5), batch_size=8, window=1, key=lambda b: b["i"])
    first = flat(passed(stream))
    assert sorted(first + flat(passed(stream))) == list(range(16))
    third = []
    for index, batch in stream:
        stream.update(index, with_gradient(batch) * torch.nan)
        third += index
    assert sorted(third) == sorted(sorted(range(16), key=value_of)[-8:])
    assert not set(third) & set(flat(passed(stream)))
    assert stream.report().non_finite == 8


def test_a_fresh_loss_that_is_not_finite_ranks_below_all_others_and_is_counted():
    loader = DataLoader(Numbers(20), batch_size=20)
    bad = lambda batch: torch.where(batch["i"] % 2 == 0, torch.nan, score(batch))  # noqa: E731
    stream = StreamPruner(loader, OrderDP(explore=1.0, exploit=0.5), batch_size=20, window=1, score=bad)
    assert all(i % 2 for i in flat(passed(stream)))
    assert stream.report().non_finite == 10


def test_backward_runs_over_what_is_kept_and_equals_a_loop_by_hand():
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    twin = copy.deepcopy(model)
    data = [{"x": torch.randn(8, 2), "y": torch.randint(0, 3, (8,))} for _ in range(6)]
    losses = lambda net, batch: F.cross_entropy(net(batch["x"]), batch["y"], reduction="none")  # noqa: E731
    stream = StreamPruner(
        data, OrderDP(explore=1.0, exploit=0.5), batch_size=8, window=2, score=lambda b: losses(model, b)
    )
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.5) for net in (model, twin)]
    for index, batch in stream:
        stream.update(index, losses(model, batch)).backward()
        optimizers[0].step()
        optimizers[0].zero_grad()
    for first in range(0, 6, 2):
        both = {name: torch.cat([data[first][name], data[first + 1][name]]) for name in ("x", "y")}
        with torch.no_grad():
            kept = losses(twin, both).topk(8).indices
        losses(twin, {name: part[kept] for name, part in both.items()}).mean().backward()
        optimizers[1].step()
        optimizers[1].zero_grad()
    torch.testing.assert_close(model.weight, twin.weight)


# Ranks.


def of_rank(rank: int, sizes: list[int]) -> dict:
    loader = DataLoader(Numbers(sizes[rank], first=1000 * rank), batch_size=10)
    stream = StreamPruner(loader, OrderDP(explore=1.0, exploit=0.5), batch_size=8, window=2, score=score)
    losses, parts = [], []
    for index, batch in stream:
        losses.append(stream.update(index, with_gradient(batch)).item())
        parts.append(batch["x"][:, 0].tolist())
    return {"losses": losses, "parts": parts, "kept": stream.report().kept}


@pytest.mark.parametrize("sizes", [[60, 60], [60, 45], [60, 20], [57, 60]])
def test_ranks_make_as_many_steps_and_the_mean_of_their_means_is_that_of_the_step(tmp_path, sizes):
    ranks = run_ranks(2, of_rank, tmp_path, sizes)
    assert len(ranks[0]["losses"]) == len(ranks[1]["losses"]) > 0
    for step, losses in enumerate(zip(*(rank["losses"] for rank in ranks), strict=True)):
        together = [value for rank in ranks for value in rank["parts"][step]]
        assert np.mean(losses) == pytest.approx(np.mean(together), rel=1e-6)
        assert all(len(rank["parts"][step]) <= 8 for rank in ranks)
    assert [rank["kept"] for rank in ranks] == [len(flat(rank["parts"])) for rank in ranks]
    if sizes[0] == sizes[1]:
        assert [rank["kept"] for rank in ranks] == [30, 30]


# Saved and resumed.


class Source:
    """Batches that are a function of their number, from a place that can be saved."""

    def __init__(self, num_batches: int) -> None:
        self.num_batches, self.next = num_batches, 0

    def __iter__(self):
        while self.next < self.num_batches:
            self.next += 1
            i = torch.arange(8 * self.next - 8, 8 * self.next)
            yield {"i": i, "x": torch.stack([(i * 7919 % 1009).float(), torch.ones(8)], dim=1)}
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def make(kind: str, model: nn.Module, num_batches: int = 10) -> StreamPruner:
    how = {"score": lambda batch: losses_of(model, batch)} if kind == "fresh" else {"key": lambda batch: batch["i"]}
    return StreamPruner(Source(num_batches), OrderDP(prune_ratio=0.5), batch_size=5, window=3, seed=1, **how)


def losses_of(model: nn.Module, batch) -> torch.Tensor:
    return (model(batch["x"] / 1009)[:, 0] - batch["x"][:, 0] / 500).square()


def run(kind: str, stops: list[int], num_batches: int = 10) -> tuple[list[list[int]], torch.Tensor]:
    """The batches and weights of a run that is saved after each number of steps and goes on in new objects."""
    torch.manual_seed(0)
    model, found = nn.Linear(2, 1), []
    stream = make(kind, model, num_batches)
    while stream.report().passes < 2 or stream._loaded is not None:
        for index, batch in stream:
            loss = stream.update(index, losses_of(model, batch))
            loss.backward()
            with torch.no_grad():
                for weight in model.parameters():
                    weight -= 0.1 * weight.grad
                    weight.grad = None
            found.append(batch["i"].tolist())
            if len(found) in stops:
                saved = copy.deepcopy(model.state_dict()), copy.deepcopy(stream.state_dict())
                model = nn.Linear(2, 1)
                model.load_state_dict(saved[0])
                stream = make(kind, model, num_batches)
                stream.load_state_dict(saved[1])
                again = make(kind, model, num_batches)
                again.load_state_dict(stream.state_dict())  # saved once more before a step
                stream = again
                break
    return found, model.weight.detach()


@pytest.mark.parametrize("kind", ["fresh", "remembered"])
@pytest.mark.parametrize("stops", [[1], [3], [2, 5], [8, 9, 10, 11, 17]])
@pytest.mark.parametrize("num_batches", [9, 10], ids=["whole windows", "a rest"])
def test_a_run_that_is_saved_and_goes_on_ends_as_one_that_is_not(kind, stops, num_batches):
    expected, weight = run(kind, [], num_batches)
    found, after = run(kind, stops, num_batches)
    assert found == expected
    assert torch.equal(weight, after)


def test_a_loop_that_reads_one_batch_ahead_resumes_with_what_update_did_not_see():
    expected = passed(make("remembered", nn.Linear(2, 1)))
    for steps in range(1, len(expected)):
        stream, trained = make("remembered", nn.Linear(2, 1)), []
        batches = iter(stream)
        ahead = next(batches)
        for _ in range(steps):
            (index, batch), ahead = ahead, next(batches)
            stream.update(index, with_gradient(batch))
            trained.append(batch["i"].tolist())
        other = make("remembered", nn.Linear(2, 1))
        other.load_state_dict(stream.state_dict())
        assert trained + passed(other) == expected


def test_states_are_plain_and_load_by_weights_only(tmp_path):
    stream = make("remembered", nn.Linear(2, 1))
    passed(stream, 4)
    torch.save(stream.state_dict(), tmp_path / "state.pt")
    other = make("remembered", nn.Linear(2, 1))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.report().remembered == stream.report().remembered > 0


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strategy": DynamicRandom(prune_ratio=0.5)}, TypeError, "a stream is pruned by OrderDP, got DynamicRandom"),
        ({"strategy": OrderDP(prune_ratio=0.5, skip=0.1)}, ValueError, "keeps the highest scores of one draw a window"),
        ({"score": None}, ValueError, "give score for fresh losses or key for remembered ones, got neither"),
        ({"key": score}, ValueError, "give score for fresh losses or key for remembered ones, got both"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1"),
        ({"window": 0}, ValueError, "window must be an integer of at least 1"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        StreamPruner(**{"source": [], "strategy": TOP, "batch_size": 4, "score": score, **arguments})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"score": lambda b: b["x"].mean()}, "score must return one loss a sample, (4,), got shape ()"),
        ({"score": lambda b: 1.0}, "score must return one loss a sample, (4,), got float"),
        ({"key": lambda b: b["name"][:3]}, "key must return a string or an integer for each of the 8 samples, got 3"),
        ({"key": lambda b: b["x"][:, 0]}, "for each of the 8 samples, got 8 of ['float']"),
    ],
)
def test_bad_scores_and_keys_get_one_clear_line(how, message):
    stream = StreamPruner(
        DataLoader(Numbers(16), batch_size=8), OrderDP(prune_ratio=0.5), batch_size=4, window=1, **how
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        next(iter(stream))


def test_an_index_of_another_pass_or_part_is_refused():
    stream = StreamPruner(DataLoader(Numbers(64), batch_size=8), TOP, batch_size=4, window=2, score=score)
    batches = iter(stream)
    index, batch = next(batches)
    with pytest.raises(ValueError, match="index must be that of a batch under way"):
        stream.update(index[:2], with_gradient(batch)[:2])
    with pytest.raises(ValueError, match="pass one loss per sample"):
        stream.update(index, with_gradient(batch).mean())
    stream.update(index, with_gradient(batch))
    for _ in range(3):
        next(batches)
    with pytest.raises(ValueError, match="index must be that of a batch under way"):
        stream.update(index, with_gradient(batch))


def test_a_source_that_cannot_resume_is_told_when_a_pass_is_saved():
    stream = StreamPruner(DataLoader(Numbers(64), batch_size=8), TOP, batch_size=4, window=2, score=score)
    passed(stream)
    between = stream.state_dict()
    stream.load_state_dict(between)
    assert len(passed(stream, 2)) == 2
    with pytest.raises(ValueError, match=r"needs a source that can resume, got DataLoader without state_dict"):
        stream.state_dict()
    with pytest.raises(ValueError, match=r"needs a source that can resume, got DataLoader"):
        stream.load_state_dict({**between, "inside": True})
    with pytest.raises(ValueError, match=r"the state must be of window 2, got 3"):
        stream.load_state_dict({**between, "window": 3})


# The page.


def test_the_code_of_the_page_trains_half(capsys):
    text = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
    block = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    rng = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3)
    names = {
        "model": model,
        "train_set": TensorDataset(torch.randn(200, 4, generator=rng), torch.randint(3, (200,), generator=rng)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "DataLoader": DataLoader,
    }
    exec(block, names)
    assert "kept=200, trained=200" in capsys.readouterr().out


# Batches of any form.

Pair = namedtuple("Pair", ["x", "names"])


def test_batches_of_any_form_are_taken_apart_and_joined():
    batch = {
        "x": torch.arange(6).reshape(3, 2),
        "n": np.array([1.5, 2.5, 3.5]),
        "pair": Pair(torch.tensor([7, 8, 9]), ("a", "b", "c")),
        "list": [torch.tensor([True, False, True]), [1, 2, 3], [b"x", b"y", b"z"]],
    }
    assert num_samples_of(batch) == 3
    some = taken(batch, np.array([2, 0]))
    assert some["x"].tolist() == [[4, 5], [0, 1]]
    assert some["n"].tolist() == [3.5, 1.5]
    assert isinstance(some["pair"], Pair)
    assert some["pair"].names == ("c", "a")
    assert some["list"][1:] == [[3, 1], [b"z", b"x"]]
    both = joined([some, batch])
    assert both["x"].tolist() == [[4, 5], [0, 1], [0, 1], [2, 3], [4, 5]]
    assert both["pair"].names == ("c", "a", "a", "b", "c")
    assert num_samples_of(both) == 5
    assert gathered([batch, some], np.array([4, 1]))["pair"].x.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((torch.zeros(3), torch.zeros(4)), ValueError, "must hold the same samples, got lengths [3, 4]"),
        ({"x": torch.zeros(3), "t": torch.tensor(1.0)}, TypeError, "a batch must be tensors, or tuples"),
        (object(), TypeError, "got object"),
        ({}, TypeError, "got dict"),
    ],
)
def test_other_batches_are_refused(batch, error, message):
    with pytest.raises(error, match=re.escape(message)):
        num_samples_of(batch)

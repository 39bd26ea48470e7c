"""The training order of samples on many ranks."""

import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from orderdp.ranks import Batching
from orderdp.rng import generator
from orderdp.sharded.blocks import blocks_of, edges
from orderdp.sharded.order import OwnSteps, Places, in_chunks
from orderdp.sharded.wire import Wire
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
CUTS = [Batching(3), Batching(4, drop_last=True), Batching(2, stable_shapes=True), Batching(1)]


def order(wire: Wire, q: int, seed: int) -> np.ndarray:
    ends = edges(q)
    ids = {number: np.arange(ends[number], ends[number + 1]) for number in blocks_of(wire.rank, wire.num_ranks)}
    rng_of = lambda purpose, number: generator(seed, 0, f"{purpose} {number}")  # noqa: E731
    return in_chunks(ids, np.diff(ends), wire, dtype=np.int64, rng_of=rng_of)


def test_every_order_is_equally_likely():
    orders = dict.fromkeys(itertools.permutations(range(4)), 0)
    for seed in range(2400):
        orders[tuple(order(Wire(), 4, seed).tolist())] += 1
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_a_sample_is_as_likely_at_each_place_of_a_large_order():
    places = np.array([np.argsort(order(Wire(), 2000, seed))[[0, 999, 1999]] for seed in range(200)])
    for column in places.T:
        assert stats.kstest(column / 2000, "uniform").pvalue > 1e-3


def test_the_order_of_one_chunk_says_nothing_of_the_next():
    same = []
    for seed in range(40):
        chunks = np.split(order(Wire(), 3 * 256, seed), 256)
        shapes = [tuple(np.argsort(chunk)) for chunk in chunks]
        same.append(np.mean([first == second for first, second in itertools.pairwise(shapes)]))
    assert np.mean(same) == pytest.approx(1 / 6, abs=0.02)  # 10,200 pairs of three samples: a deviation of 0.004


def orders_of_rank(rank: int, q: int) -> dict:
    wire, found = Wire(), {}
    for at, batching in enumerate(CUTS):
        places = Places(q, batching, wire)
        mine = order(wire, q, seed=7)
        own = places.to_steps(mine)
        steps = OwnSteps(q, batching, wire.rank, wire.num_ranks)
        back = places.to_chunks(own, -1)
        told = batching.drop_last
        assert ((back == mine) | (told & (back == -1))).all()
        found[at] = [own[slice(*steps.batch(number))].tolist() for number in range(len(steps))]
        assert len(own) == steps.room == steps[-1][1]
        assert steps.numbers(np.arange(len(own))).tolist() == [n for n, batch in enumerate(found[at]) for _ in batch]
    return {"chunks": order(wire, q, seed=7).tolist(), **found}


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
@pytest.mark.parametrize("q", [17, 96, 1001])
def test_the_order_and_its_steps_do_not_depend_on_the_number_of_ranks(tmp_path, num_ranks, q):
    alone = order(Wire(), q, seed=7).tolist()
    ranks = run_ranks(num_ranks, orders_of_rank, tmp_path, q)
    assert [sample for rank in ranks for sample in rank["chunks"]] == alone
    for at, batching in enumerate(CUTS):
        steps = batching.steps(q, num_ranks=num_ranks)
        for number, (begin, end) in enumerate(steps):
            together = [sample for rank in ranks for sample in rank[at][number]]
            assert together == alone[begin:end]
            assert [len(rank[at][number]) for rank in ranks] == [
                np.diff(batching.steps(q, rank=rank, num_ranks=num_ranks).batch(number))[0] for rank in range(num_ranks)
            ]


def test_the_mean_of_a_step_is_that_of_all_ranks():
    for batching in CUTS[:3]:
        plain = [batching.steps(50, rank=rank, num_ranks=3) for rank in range(3)]
        own = [OwnSteps(50, batching, rank, 3) for rank in range(3)]
        for number in range(len(own[0])):
            assert [mine.factor(number) for mine in own] == [steps.factor(number) for steps in plain]
            assert own[0].size(number) == plain[0].size(number)


def test_places_of_one_of_many_ranks_take_a_small_part_of_the_memory_of_all_steps():
    q, wire = 2_000_000, SimpleNamespace(rank=3, num_ranks=256)
    tracemalloc.start()
    places = Places(q, Batching(2), wire)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(places._trainer) in (q // 256, q // 256 + 1)
    assert peak < q / 4  # a table of all steps and ranks would take eight bytes for each sample

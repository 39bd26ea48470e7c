"""Virtual blocks, and the exact split of a draw over them."""

import numpy as np
import pytest
from scipy import stats

from orderdp.sharded import blocks
from orderdp.sharded.blocks import BLOCKS, blocks_of, edges, rank_edges, split


@pytest.mark.parametrize("total", [0, 1, 255, 256, 1000, 10**10 + 7])
def test_blocks_cover_the_data_set_and_differ_by_one_sample(total):
    ends = edges(total)
    assert (ends[0], ends[-1], len(ends)) == (0, total, BLOCKS + 1)
    assert set(np.diff(ends)) <= {total // BLOCKS, -(-total // BLOCKS)}


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 100, 256])
def test_ranks_share_out_all_blocks(num_ranks):
    parts = [blocks_of(rank, num_ranks) for rank in range(num_ranks)]
    assert [number for part in parts for number in part] == list(range(BLOCKS))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert rank_edges(1000, num_ranks).tolist() == [edges(1000)[part.start] for part in parts] + [1000]


def test_more_ranks_than_blocks_are_refused():
    with pytest.raises(ValueError, match=r"has 256 blocks, got 257 ranks; use at most 256 ranks"):
        blocks_of(0, 257)


@pytest.mark.parametrize("limit", [10**9, 0], ids=["numpy", "own"])
@pytest.mark.parametrize("count", [3, 9])
def test_a_split_has_the_law_of_a_uniform_draw(monkeypatch, limit, count):
    monkeypatch.setattr(blocks, "_NUMPY_LIMIT", limit)
    monkeypatch.setattr(blocks, "_SPREAD", 0)  # so that the first round keeps too many at times
    sizes, rng, runs = np.array([4, 0, 6, 2]), np.random.default_rng(0), 20_000
    found, times = np.unique([split(sizes, count, rng) for _ in range(runs)], axis=0, return_counts=True)
    law = stats.multivariate_hypergeom(sizes[[0, 2, 3]], count).pmf(found[:, [0, 2, 3]])
    assert not found[:, 1].any()
    assert law.sum() == pytest.approx(1)  # every outcome came
    assert stats.chisquare(times, runs * law).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.001, 0.4, 0.9])
def test_ten_billion_samples_are_split_exactly(share):
    sizes = np.diff(edges(10**10))
    count = round(share * 10**10)
    drawn = split(sizes, count, np.random.default_rng(0))
    assert int(drawn.sum()) == count
    assert drawn.dtype == np.int64
    deviation = (drawn - share * sizes) / np.sqrt(share * (1 - share) * sizes)
    assert abs(deviation).max() < 5
    assert 0.8 < deviation.std() < 1.2


def test_nothing_and_all_are_split_too():
    sizes = np.array([3, 0, 5])
    for limit_of in (sizes, sizes * 10**9):
        assert split(limit_of, 0, np.random.default_rng(0)).tolist() == [0, 0, 0]
        assert split(limit_of, int(limit_of.sum()), np.random.default_rng(0)).tolist() == limit_of.tolist()

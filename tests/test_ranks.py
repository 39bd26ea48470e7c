"""Two and three processes choose, train and remember what one would."""

from typing import Any

import pytest
import torch

from orderdp import (
    UCB,
    DynamicRandom,
    EpsilonGreedy,
    FixedSubset,
    FullData,
    IndexedDataset,
    InfoBatch,
    Kakurenbo,
    Memory,
    OrderDP,
    OrderedSGD,
    Pruner,
    RepeatedRandom,
    SelectiveBackprop,
    SeTa,
)
from orderdp.rng import generator
from reference.loop import joined, loss_of, train, train_epoch
from reference.processes import run_ranks

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
IDLE = pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning")
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")

N, EPOCHS = 47, 3
STRATEGIES = [
    OrderDP(),
    OrderDP(prune_ratio=0.3, uniform_share=0.2),
    OrderDP(explore=1.0, exploit=0.5, per="iteration"),
    DynamicRandom(prune_ratio=0.5),
    FullData(),
    RepeatedRandom(prune_ratio=0.3),
    FixedSubset(range(0, N, 2)),
    InfoBatch(),
    EpsilonGreedy(prune_ratio=0.5, every=2),
    UCB(prune_ratio=0.5, every=2),
    SeTa(prune_ratio=0.3, epochs=20),
    Kakurenbo(hide=0.5, epochs=20, confidence=0.51),
]
WITHIN_A_BATCH = [
    OrderDP(explore=1.0, exploit=0.5, per="iteration", fresh=True),
    OrderedSGD(keep=0.5),
    SelectiveBackprop(keep=0.5),
]


def train_rank(rank: int, strategy, batch_size: int, **arguments) -> dict[str, Any]:
    """Trains some epochs and begins one more, so that what the last one saw is exchanged."""
    pruner = Pruner(strategy, N)
    epochs = train(pruner, pruner.loader(range(N), batch_size=batch_size, **arguments), EPOCHS)
    following = pruner.begin_epoch(batch_size)
    return {
        "epochs": epochs,
        "following": following.indices.tolist(),
        "scores": pruner.scores(),
        "visits": pruner.visits(),
        "report": pruner.report().visits,
    }


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_choose_train_and_remember_what_one_process_does(num_ranks, strategy, tmp_path):
    alone = train_rank(0, strategy, 4 * num_ranks)
    ranks = run_ranks(num_ranks, train_rank, tmp_path, strategy, 4)
    for epoch, steps in enumerate(alone["epochs"]):
        by_step = list(zip(*(rank["epochs"][epoch] for rank in ranks), strict=True))  # as many steps on every rank
        together = [joined(step) for step in by_step]
        assert together == steps  # the union is the step of one process, in order, none twice
    for rank in ranks:
        assert rank["following"] == alone["following"]
        assert rank["visits"].tolist() == alone["visits"].tolist()
        assert rank["report"] == alone["report"]
        for name, scores in alone["scores"].items():
            assert torch.equal(rank["scores"][name], scores)


@pytest.mark.parametrize("strategy", WITHIN_A_BATCH, ids=repr)
def test_a_choice_within_a_batch_is_made_within_each_rank_s_own_part(strategy, tmp_path):
    def work(rank):
        pruner, parts = Pruner(strategy, N), []
        for index, _ in pruner.loader(range(N), batch_size=6):
            pruner.update(index, loss_of(index, 0)).backward()
            parts.append((index.tolist(), index[pruner.trained()[index]].tolist()))
        pruner.begin_epoch(6)
        return {"parts": parts, "visits": pruner.visits()}

    ranks = run_ranks(2, work, tmp_path)
    for rank in ranks:
        assert torch.equal(rank["visits"], ranks[0]["visits"])
        for part, trained in rank["parts"]:
            assert len(trained) == max(1, round(len(part) / 2))
            if not isinstance(strategy, SelectiveBackprop):
                losses = loss_of(torch.tensor(part), 0)
                expected = torch.tensor(part)[losses.argsort(descending=True, stable=True)[: len(trained)]]
                assert set(trained) == set(expected.tolist())
    trained = joined(trained for rank in ranks for _, trained in rank["parts"])
    assert sorted(trained) == ranks[0]["visits"].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("selected", "batch_size", "how", "sizes"),
    [
        (47, 2, {}, [[1] + [2] * 7, [2] * 8, [2] * 8]),  # steps of 5, 6, 6, 6, 6, 6, 6, 6
        (25, 4, {}, [[2, 2, 3], [3, 3, 3], [3, 3, 3]]),  # steps of 8, 8, 9
        (7, 1, {}, [[1, 1], [1, 1], [1, 2]]),  # a third step would leave two ranks without a sample
        (47, 2, {"stable_shapes": True}, [[2] * 7 + [1], [2] * 7 + [2], [2] * 7 + [2]]),  # 47 = 7·6 + 5
        # 25 = 2·12 + 1: the step before gives up two.
        (25, 4, {"stable_shapes": True}, [[4, 3, 1], [4, 3, 1], [4, 4, 1]]),
    ],
)
def test_every_rank_has_a_sample_in_every_step(selected, batch_size, how, sizes, tmp_path):
    def work(rank):
        return train_rank(rank, OrderDP(explore=1.0, exploit=selected / N), batch_size, **how)

    ranks = run_ranks(3, work, tmp_path)
    assert [[len(batch) for batch in rank["epochs"][0]] for rank in ranks] == sizes


@pytest.mark.parametrize("arguments", [{"drop_last": True}, {"num_workers": 1}])
def test_ranks_make_equal_numbers_of_steps(arguments, tmp_path):
    def work(rank):
        return train_rank(rank, OrderDP(prune_ratio=0.2), 4, **arguments)

    first, second = run_ranks(2, work, tmp_path)
    assert [len(steps) for steps in first["epochs"]] == [len(steps) for steps in second["epochs"]]
    assert first["following"] == second["following"]
    assert torch.equal(first["scores"]["score"], second["scores"]["score"])


@pytest.mark.parametrize(
    ("num_ranks", "batch_size", "how", "bounds"),
    [
        (2, 5, {}, ((0, 7), (7, 14), (14, 21))),
        (3, 2, {}, ((0, 5), (5, 10), (10, 15), (15, 21))),
        # The step before the last one gives up a sample.
        (2, 5, {"stable_shapes": True}, ((0, 10), (10, 19), (19, 21))),
        (3, 2, {"stable_shapes": True}, ((0, 6), (6, 12), (12, 18), (18, 21))),
        (2, 5, {"drop_last": True}, ((0, 10), (10, 20))),
    ],
)
@IDLE
def test_ranks_select_for_the_very_steps_that_they_make(num_ranks, batch_size, how, bounds, tmp_path):
    strategy = OrderDP(explore=0.9, exploit=0.5, per="iteration")
    assert strategy.sizes(N) == (42, 21)

    def work(rank):
        pruner = Pruner(strategy, N, seed=3)
        loader = pruner.loader(range(N), batch_size=batch_size, **how)
        train_epoch(pruner, loader)
        pruner.synchronize()
        scores, preview = pruner.scores()["score"], pruner.preview(batch_size, **how).indices.tolist()
        return {"batches": [index.tolist() for index, _ in loader], "scores": scores, "preview": preview}

    ranks = run_ranks(num_ranks, work, tmp_path)
    memory = Memory(N, 1, {"score": ranks[0]["scores"].numpy()}, bounds)
    expected = strategy.select(memory, generator(3, 1, "select")).indices.tolist()
    assert [rank["preview"] for rank in ranks] == [expected] * num_ranks
    steps = [joined(parts) for parts in zip(*(rank["batches"] for rank in ranks), strict=True)]
    assert steps == [expected[begin:end] for begin, end in bounds]


def test_scores_travel_bit_for_bit(tmp_path):
    values = torch.tensor([-1.5, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 7.0, float("nan"), float("inf"), -float("inf")])

    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), len(values))
        for index, _ in pruner.loader(range(len(values)), batch_size=2):
            pruner.update(index, values[index].requires_grad_())
        with pytest.warns(RuntimeWarning, match="3 losses of epoch 0 were NaN or infinite"):
            pruner.begin_epoch()
        return {"scores": pruner.scores()["score"], "failed": list(pruner.report().failed)}

    expected = values.clone()
    expected[7:] = -float("inf")  # not finite: these rank below all others
    for rank in run_ranks(2, work, tmp_path):
        assert rank["scores"].view(torch.int32).tolist() == expected.view(torch.int32).tolist()
        assert rank["failed"] == [7, 8, 9]


def test_with_weights_of_the_caller_each_rank_has_the_weighted_mean_of_its_own_part(tmp_path):
    """Also where the parts of a step differ in size: here three samples and two."""

    def work(rank):
        pruner = Pruner(FullData(), 5)
        ((index, _),) = pruner.loader(range(5), batch_size=3)
        losses, weights = (index + 1).float().requires_grad_(), 2.0**index
        result = pruner.update(index, losses, weights=weights)
        plain = pruner.update(index, losses)
        assert torch.equal(pruner.update(index, losses, reduction="none"), losses)
        return [len(index), result.item(), ((weights * losses).sum() / weights.sum()).item(), plain.item()]

    first, second = run_ranks(2, work, tmp_path)
    assert sorted([first[0], second[0]]) == [2, 3]
    for _, result, expected, _ in (first, second):
        assert result == pytest.approx(expected)
    assert (first[3] + second[3]) / 2 == pytest.approx(3.0)  # without weights, the mean of the step


def test_a_newer_entry_wins_over_a_higher_one(tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), 4)
        for epoch, value in enumerate((100.0, 1.0)):  # each sample on the other rank in turn, and lower than before
            pruner.begin_epoch()
            own = torch.arange(2) + 2 * (rank ^ epoch)
            pruner.update(own, torch.full((2,), value, requires_grad=True))
        pruner.begin_epoch()
        return pruner.scores()["score"]

    for scores in run_ranks(2, work, tmp_path):
        assert scores.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    "pruner_of_rank",
    [
        lambda rank: Pruner(OrderDP(), N, seed=rank),
        lambda rank: Pruner(OrderDP(explore=0.5 + rank / 10), N),
        lambda rank: Pruner(OrderDP(), N, schedule=lambda strategy, epoch: FullData() if rank else strategy),
    ],
    ids=["seeds", "strategies", "schedules"],
)
@IDLE
def test_ranks_that_hold_different_pruners_are_told_so(pruner_of_rank, tmp_path):
    def work(rank):
        return pruner_of_rank(rank).begin_epoch().indices.tolist()

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith("RuntimeError: every rank must hold the same pruner, got different strategies, sched")


@IDLE
def test_a_rank_that_trained_before_it_loaded_is_alike_to_one_that_did_not(tmp_path):
    def fresh():
        return Pruner(OrderDP(), N, schedule=lambda strategy, epoch: strategy if epoch else FullData())

    state = fresh().state_dict()

    def work(rank):
        pruner = fresh()
        pruner.begin_epoch(4)
        pruner = fresh() if rank else pruner
        pruner.load_state_dict(state)
        return pruner.state_dict()["running"]

    assert run_ranks(2, work, tmp_path) == [None, None]


def test_ranks_in_different_epochs_are_told_so(tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(), N)
        pruner.set_epoch(rank)
        pruner.begin_epoch()

    for raised in run_ranks(3, work, tmp_path):
        assert raised.startswith("RuntimeError: every rank must hold the same pruner")


def begin_from(state, tmp_path):
    """What two ranks say that load a state each and begin the same epoch."""

    def work(rank):
        twin = Pruner(OrderDP(), N)
        twin.load_state_dict(state(rank))
        twin.set_epoch(4)
        twin.begin_epoch()

    tmp_path.mkdir(exist_ok=True)
    return run_ranks(2, work, tmp_path)


@IDLE
def test_ranks_that_loaded_different_epochs_are_told_so_though_they_begin_the_same_one(tmp_path):
    """A strategy may look at what the epoch before visited, so the ranks must have that in common too."""
    pruner, states = Pruner(OrderDP(), N), []
    for _ in range(2):
        pruner.begin_epoch()
        states.append(pruner.state_dict())
    for raised in begin_from(lambda rank: states[rank], tmp_path):
        assert raised.startswith("RuntimeError: every rank must hold the same pruner")


@pytest.mark.parametrize("entry", ["running", "indices", "recorded", "chooser", "table"])
def test_ranks_whose_states_differ_in_one_entry_only_are_told_so(entry, tmp_path):
    pruner = Pruner(OrderDP(), N)
    loader = pruner.loader(range(N), batch_size=4)
    train_epoch(pruner, loader)
    train_epoch(pruner, loader)
    same, table = pruner.state_dict(), pruner.state_dict()["table"]
    scores = table["columns"]["score"].clone()
    scores[5] = 0.25
    other = {
        "running": 3,
        "indices": same["indices"].flip(0),
        "recorded": 7,
        "chooser": "FullData()",
        "table": {**table, "columns": {"score": scores}},
    }[entry]
    for raised in begin_from(lambda rank: {**same, entry: other} if rank else same, tmp_path):
        assert raised.startswith("RuntimeError: every rank must hold the same pruner")
    assert begin_from(lambda rank: same, tmp_path / "alike") == [None, None]


def test_losses_that_are_not_finite_are_counted_over_all_ranks(tmp_path):
    def work(rank):
        pruner = Pruner(FullData(), 8)
        for index, _ in pruner.loader(range(8), batch_size=4):
            pruner.update(index, torch.full((4,), float("nan"), requires_grad=True))
        with pytest.warns(RuntimeWarning, match="8 losses of epoch 0 were NaN or infinite"):
            pruner.begin_epoch()
        return pruner.report().non_finite

    assert run_ranks(2, work, tmp_path) == [8, 8]


def test_a_rank_knows_of_the_running_epoch_what_it_has_trained_and_after_synchronizing_all(tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(prune_ratio=0.5), 16)
        for index, _ in pruner.loader(range(16), batch_size=2):
            pruner.update(index, torch.ones(2, requires_grad=True))
        before = pruner.report().visits, int(pruner.visits().sum()), int((pruner.ages() == 0).sum())
        pruner.synchronize()
        pruner.synchronize()  # again makes no difference
        after = pruner.report().visits, int(pruner.visits().sum()), int((pruner.ages() == 0).sum())
        return [*before, *after, int(pruner.trained().sum())]

    assert run_ranks(2, work, tmp_path) == [[4] * 3 + [8] * 4] * 2


def test_a_report_on_one_rank_holds_its_own_part_and_keeps_none_from_the_others(tmp_path):
    def work(rank):
        pruner = Pruner(FullData(), 8)
        for index, _ in pruner.loader(range(8), batch_size=4):
            pruner.update(index, torch.full((4,), float("nan"), requires_grad=True))
        if rank == 0:
            assert pruner.report().non_finite == len(pruner.report().failed) == 4
        pruner.synchronize()
        assert pruner.report().failed == tuple(range(8))
        return pruner.report().non_finite

    assert run_ranks(2, work, tmp_path) == [8, 8]


def come_from_a_device(pruner: Pruner, ids: list[int]) -> None:
    """Records ids as a GPU gives them: they are checked when the ranks meet."""
    values = torch.ones(len(ids))
    pruner._record._settle(values)
    pruner._record._log.append(None, values, ids=torch.tensor(ids))


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (lambda own, other: [99], "got 1 ids that epoch 0 did not select and 0 repeated in a batch"),
        (lambda own, other: [own[0], -1, 8], "got 2 ids that epoch 0 did not select and 0 repeated in a batch"),
        (lambda own, other: [own[0], own[0]], "got 0 ids that epoch 0 did not select and 1 repeated in a batch"),
        (lambda own, other: [*own, *other], "got 2 ids that epoch 0 did not select and 0 repeated in a batch"),
    ],
    ids=["out of range", "two out of range", "repeated", "of the other rank"],
)
def test_wrong_ids_on_one_rank_raise_on_all(ids, text, tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 8)
        first, second = pruner.begin_epoch(2).indices.reshape(2, 2).tolist()
        if rank == 1:
            come_from_a_device(pruner, ids(second, first))
        pruner.begin_epoch(2)

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith("RuntimeError: index must hold each sample of the epoch once")
        assert text in raised


def test_ids_from_a_device_are_recorded_as_those_on_the_host(tmp_path):
    def work(rank):
        pruners = [Pruner(OrderDP(explore=1.0, exploit=0.5), N) for _ in range(2)]
        for pruner in pruners:
            for index, _ in pruner.loader(range(N), batch_size=4):
                if pruner is pruners[0]:
                    pruner.update(index, torch.ones(len(index), requires_grad=True))
                else:
                    come_from_a_device(pruner, index.tolist())
            pruner.synchronize()
        return [pruner.table()["visits"] for pruner in pruners]

    for host, device in run_ranks(2, work, tmp_path):
        assert host.sum() == 24
        assert torch.equal(host, device)


def test_a_sampler_of_single_ids_cannot_serve_ranks(tmp_path):
    def work(rank):
        return list(Pruner(OrderDP(), N).sampler())

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith(
            "RuntimeError: pruner.sampler() cannot keep 2 ranks in step without the size of a batc"
        )


def test_a_batch_sampler_serves_ranks(tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(), N)
        own = torch.utils.data.DataLoader(IndexedDataset(range(N)), batch_sampler=pruner.sampler(batch_size=3))
        return train(pruner, own, EPOCHS)

    pruner = Pruner(OrderDP(), N)
    alone = train(pruner, pruner.loader(range(N), batch_size=6), EPOCHS)
    ranks = run_ranks(2, work, tmp_path)
    for epoch in range(EPOCHS):
        together = [first + second for first, second in zip(*(rank[epoch] for rank in ranks), strict=True)]
        assert joined(together) == joined(alone[epoch])


@pytest.mark.parametrize("stop_batch", [0, 1])
def test_ranks_resume_inside_an_epoch(stop_batch, tmp_path):
    def work(rank):
        def loader_of():
            pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), N)
            return pruner, pruner.loader(range(N), batch_size=4)

        expected = train(*loader_of(), 3)
        pruner, loader = loader_of()
        seen = train(pruner, loader, 1)
        last = train_epoch(pruner, loader, num_batches=stop_batch) if stop_batch else []
        twin, resumed = loader_of()
        resumed.load_state_dict(loader.state_dict())
        rest = train(twin, resumed, 2)
        assert [*seen, last + rest[0], *rest[1:]] == expected
        return expected

    first, second = run_ranks(2, work, tmp_path)
    assert not {*joined(first[2])} & {*joined(second[2])}


@pytest.mark.parametrize("saved_by", [0, 1])
def test_what_one_rank_saved_inside_an_epoch_every_rank_loads(saved_by, tmp_path):
    def loader_of():
        pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), N)
        return pruner, pruner.loader(range(N), batch_size=4)

    def save(rank):
        pruner, loader = loader_of()
        train_epoch(pruner, loader, num_batches=1)
        return loader.state_dict()

    def load(rank, state):
        _, loader = loader_of()
        loader.load_state_dict(state)
        return loader.batch_sampler.remaining

    for name in ("saved", "loaded"):
        (tmp_path / name).mkdir()
    states = run_ranks(2, save, tmp_path / "saved")
    assert run_ranks(2, load, tmp_path / "loaded", states[saved_by]) == [2, 2]


def test_the_state_of_every_rank_is_the_same_and_holds_what_all_have_seen(tmp_path):
    def work(rank):
        pruner = Pruner(FullData(), 8, seed=1)
        loader = pruner.loader(range(8), batch_size=2)
        train_epoch(pruner, loader)
        train_epoch(pruner, loader, num_batches=1)
        return loader.state_dict()

    first, second = run_ranks(2, work, tmp_path)
    for part in ("table", "record", "indices"):
        torch.testing.assert_close(first["pruner"][part], second["pruner"][part], rtol=0, atol=0)
    assert (first["pruner"]["table"]["visits"] == 1).all()
    assert (first["pruner"]["record"]["stamps"] > 0).sum() == 4
    assert (first["inside"], first["batch_size"], first["steps"]) == (second["inside"], 4, 2) == (True, 4, 2)


def test_more_ranks_than_selected_samples_are_refused(tmp_path):
    def work(rank):
        Pruner(OrderDP(explore=1.0, exploit=0.5), 4).loader(range(4), batch_size=1)

    for raised in run_ranks(3, work, tmp_path):
        assert raised.startswith("ValueError: every rank needs a sample in every step, got 2 selected samples for 3")


def test_losses_looked_up_alike_on_every_process():
    """The oracle of this file: a loss depends on sample and epoch, and on nothing else."""
    ids = torch.arange(N)
    assert torch.equal(loss_of(ids, 2)[5:9], loss_of(ids[5:9], 2))
    assert not torch.equal(loss_of(ids, 2), loss_of(ids, 3))


def go_back(rank: int) -> list[float]:
    pruner = Pruner(OrderDP(explore=1, exploit=1), 8)
    loader = pruner.loader(range(8), batch_size=2)
    for epoch, loss in ((0, 5.0), (1, 5.0), (0, 0.125), (0, 0.0625)):
        pruner.set_epoch(epoch)
        for index, _ in loader:
            pruner.update(index, torch.full((len(index),), loss, requires_grad=True))
    pruner.begin_epoch()
    return pruner.scores()["score"].tolist()


def test_new_losses_win_also_where_the_epoch_number_went_back(tmp_path):
    assert run_ranks(2, go_back, tmp_path) == [[0.0625] * 8] * 2


def test_the_workers_of_each_rank_have_a_seed_of_their_own(tmp_path):
    first, second = run_ranks(2, lambda rank: Pruner(FullData(), 8).worker_seed(), tmp_path)
    assert first != second


def test_what_two_ranks_saved_inside_an_epoch_one_process_goes_on_with(tmp_path):
    """The state counts steps and samples of a step over all ranks, so that another number of ranks may share them."""
    strategy = OrderDP(explore=1.0, exploit=0.5)

    def work(rank):
        pruner = Pruner(strategy, N)
        loader = pruner.loader(range(N), batch_size=4)
        train_epoch(pruner, loader, num_batches=1)
        return loader.state_dict()

    (tmp_path / "saved").mkdir()
    state, _ = run_ranks(2, work, tmp_path / "saved")
    pruner, alone = Pruner(strategy, N), Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=8)
    with pytest.raises(
        ValueError, match="a state inside an epoch needs the steps over all ranks that it was saved with"
    ):
        pruner.loader(range(N), batch_size=4).load_state_dict(state)
    loader.load_state_dict(state)
    first, *others = train(alone, alone.loader(range(N), batch_size=8), 2)
    assert train(pruner, loader, 2) == [first[1:], *others]


@LEFT
@pytest.mark.parametrize("trained", [[0, 2], [0, 1, 2], [1, 5], [0, 2, 3, 4, 5]], ids=str)
@pytest.mark.filterwarnings("ignore:.* samples of epoch . were left without a loss:RuntimeWarning")
def test_ranks_that_read_ahead_by_different_lengths_remember_the_same(trained, tmp_path):
    """One of them has received every batch of the epoch, and the other has not."""

    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), N)
        loader = pruner.loader(range(N), batch_size=2)
        iterator = iter(loader)
        batches = [next(iterator)[0] for _ in range(6)]
        if rank == 0:
            assert next(iterator, None) is None
        for number in trained:
            pruner.update(batches[number], loss_of(batches[number], 0))
        following = pruner.begin_epoch(2).indices.tolist()
        return {"following": following, "table": pruner.table(), "missing": pruner.report().missing}

    first, second = run_ranks(2, work, tmp_path)
    assert first["following"] == second["following"]
    assert first["missing"] == second["missing"]
    for name, column in first["table"].items():
        assert torch.equal(second["table"][name], column), name


@LEFT
@pytest.mark.parametrize(
    ("ends", "missing"), [((4, 4), 8), ((4, 5), 4), ((None, 4), 4), ((-1, 5), 4), ((-1, 4), 8), ((-1, -1), 8)], ids=str
)
@pytest.mark.filterwarnings("ignore:.* samples of epoch . were left without a loss:RuntimeWarning")
def test_ranks_agree_on_where_their_epoch_ended(ends, missing, tmp_path):
    """The last batch of a rank may have raised an error, or not have come, while another rank has read it ahead."""

    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), N)
        iterator = iter(pruner.loader(range(N), batch_size=2))
        batches = [next(iterator)[0] for _ in range(6)]
        for number in (0, 2, 3, 4):
            pruner.update(batches[number], loss_of(batches[number], 0))
        if ends[rank] is not None:
            pruner.end_epoch(ends[rank])
        following = pruner.begin_epoch(2).indices.tolist()
        return [following, pruner.report().missing, list(pruner.report().failed)]

    first, second = run_ranks(2, work, tmp_path)
    assert first == second
    assert first[1] == missing


@pytest.mark.parametrize(
    ("selected", "batch_size", "how", "fits"),
    [
        (9, 4, {"stable_shapes": True}, False),  # two ranks cut 7 and 2, one process 8 and 1
        (17, 4, {"stable_shapes": True}, False),  # 8, 7, 2 and 8, 8, 1
        (18, 4, {"stable_shapes": True}, True),
        (17, 4, {}, True),
        (17, 4, {"drop_last": True}, True),
        (7, 1, {}, False),  # three steps, so that each rank has a sample in each, and four
    ],
)
def test_another_number_of_ranks_resumes_only_equal_steps(selected, batch_size, how, fits, tmp_path):
    strategy = OrderDP(explore=1.0, exploit=selected / N)
    assert strategy.sizes(N)[1] == selected

    def work(rank):
        pruner = Pruner(strategy, N)
        loader = pruner.loader(range(N), batch_size=batch_size, **how)
        train_epoch(pruner, loader, num_batches=1)
        return loader.state_dict()

    state, _ = run_ranks(2, work, tmp_path)
    alone, pruner = Pruner(strategy, N), Pruner(strategy, N)
    expected = train_epoch(alone, alone.loader(range(N), batch_size=2 * batch_size, **how))
    resumed = pruner.loader(range(N), batch_size=2 * batch_size, **how)
    if not fits:
        with pytest.raises(
            ValueError, match="a state inside an epoch needs the steps over all ranks that it was saved w"
        ):
            resumed.load_state_dict(state)
        return
    resumed.load_state_dict(state)
    assert train_epoch(pruner, resumed) == expected[1:]

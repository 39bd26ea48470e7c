"""Two processes under Lightning train together what one bare loop trains with batches of twice the size."""

from itertools import chain

import pytest

from reference.lightning_ranks import INFOBATCH, SHRINKING, train_rank
from reference.lightning_runs import BATCH, QUIETLY, Trace, bare, fit
from reference.loop import LEFT_EARLY
from reference.processes import run_ranks

pytestmark = QUIETLY


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What both ranks saw, by the name of the run."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = run_ranks(2, train_rank, folder, folder)
    return {"folder": folder, **{name: [rank[name] for rank in ranks] for name in ranks[0]}}


def together(ranks):
    """The run of both ranks as one: the ids of each step in order, and the mean of the losses."""
    one, other = ranks
    trace = Trace(
        [[*mine, *others] for mine, others in zip(one["ids"], other["ids"], strict=True)],
        [(mine + others) / 2 for mine, others in zip(one["losses"], other["losses"], strict=True)],
    )
    if "rates" in one:
        assert one["rates"] == other["rates"]
        trace.rates, trace.steps = one["rates"], one["steps"]
    return trace


def rest(trace, trained):
    return Trace(trace.ids[trained:], trace.losses[trained:], trace.rates[trained:], trace.steps)


@pytest.fixture(scope="module")
def expected():
    return bare(SHRINKING, 4, batch_size=2 * BATCH)


def test_two_processes_with_default_settings(seen, expected):
    together(seen["shrinking"]).equals(expected)
    assert len(expected.ids) == 14


@pytest.mark.parametrize("step", [2, 6, 8])
def test_two_processes_resume_inside_and_at_the_end_of_an_epoch(seen, expected, step):
    together(seen[f"resumed at {step}"]).equals(rest(expected, step))


@pytest.mark.parametrize("path", ["inside/epoch=1-step=6", "ends/epoch=1-step=8"])
def test_one_process_resumes_what_two_began(seen, expected, path):
    model = fit(SHRINKING, 4, loader={"batch_size": 2 * BATCH}, checkpoint=seen["folder"] / f"{path}.ckpt")
    model.trace.equals(rest(expected, int(path[-1])))


@LEFT_EARLY
def test_two_processes_with_a_limit_and_accumulation(seen):
    together(seen["limited"]).equals(bare(SHRINKING, 4, limit=0.5, accumulate=2, batch_size=2 * BATCH))


def test_two_processes_with_a_size_that_the_losses_decide(seen):
    expected = bare(INFOBATCH, 4, batch_size=2 * BATCH)
    together(seen["InfoBatch"]).equals(expected)


def test_two_processes_refuse_the_loader_itself(seen):
    for message in seen["refused"]:
        assert message.startswith("pruner must choose the epochs, got Distributed")
        assert "write trainer.fit(model, pruning.batches) for Lightning" in message


def test_two_processes_refuse_a_pruner_of_other_ranks(seen):
    for message in seen["refused group"]:
        assert message.startswith(
            "the pruner must share the data among 2 ranks, as the Trainer does, got 1; give Pruner("
        )


def test_fabric_on_two_processes_resumes_inside_an_epoch(seen):
    trace, expected = together(seen["Fabric"]), bare(SHRINKING, 3, batch_size=2 * BATCH)
    assert list(chain.from_iterable(trace.ids)) == list(chain.from_iterable(expected.ids))
    assert trace.losses == pytest.approx(expected.losses, rel=1e-5)


def test_fabric_on_two_processes_refuses_a_second_split(seen):
    for message in seen["Fabric refused"]:
        assert "fabric.setup_dataloaders(loader, use_distributed_sampler=False) for Fabric" in message

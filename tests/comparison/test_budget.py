"""How long a run is expected to take, and which runs may still begin, on folders whose seconds are known."""

import time

import pytest

from orderdp.comparison.budget import Budget
from orderdp.comparison.workers import resume
from orderdp.training.run_folder import RunFolder
from reference.made_runs import SIZES

STEPS = {"OrderDP 50 %": 12, "full data": 21}  # of 200 samples in batches of 32, three epochs
RUN_S = 3 * 2.125  # of a made run


@pytest.fixture
def folder(made):
    return made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1))


def test_without_a_finished_run_the_stated_time_counts(folder):
    assert Budget(0.0, stated_s=7.0).expected_s(folder.path, "full data", 21) == 7.0
    assert Budget(0.0).expected_s(folder.path, "full data", None) == 0.0


def test_a_run_takes_as_long_as_with_another_seed_and_else_by_its_steps(folder):
    folder.finish("OrderDP 50 %", (90.0,), seeds=(0,))
    budget = Budget(0.0, stated_s=100.0)
    assert budget.expected_s(folder.path, "OrderDP 50 %", 12) == RUN_S
    assert budget.expected_s(folder.path, "full data", 24) == pytest.approx(2 * RUN_S)
    assert budget.expected_s(folder.path, "full data", None) == pytest.approx(RUN_S)


def test_of_several_finished_runs_the_slowest_alike_and_the_mean_of_all_others_count(folder):
    """Seconds of 2, 4 and 9 for 12, 12 and 21 steps; a mean of the alike would begin runs that end too late."""
    for label, seed, seconds in (("OrderDP 50 %", 0, 2.0), ("OrderDP 50 %", 1, 4.0), ("full data", 0, 9.0)):
        spent = {"training_s": seconds, "selection_s": 0.0, "data_s": 0.0, "evaluation_s": 0.0}
        folder.finish(label, (90.0,), seeds=(seed,), also=spent)
    budget = Budget(0.0)
    a_step = (2 / 12 + 4 / 12 + 9 / 21) / 3
    assert budget.expected_s(folder.path, "OrderDP 50 %", 12) == 4.0
    assert budget.expected_s(folder.path, "another", 30) == pytest.approx(30 * a_step)
    assert budget.expected_s(folder.path, "another", None) == pytest.approx(21 * a_step)


def test_a_run_is_allowed_by_its_label_and_the_steps_of_the_training_samples(folder, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    spent = {"training_s": 12.0, "selection_s": 0.0, "data_s": 0.0, "evaluation_s": 0.0}  # 1 s a step
    folder.finish("OrderDP 50 %", (90.0,), seeds=(0,), also=spent)
    for label, seconds in (("OrderDP 50 %", 12), ("full data", 21)):
        run, member = folder.folder(label, 1), folder.run(label, 1)
        given = (run, label, member.recipe_in(folder.path, SIZES.num_samples), SIZES)
        assert Budget(1000.0 + seconds + 0.01).allows(*given)
        assert not Budget(1000.0 + seconds - 0.01).allows(*given)
    slow = {**spent, "training_s": 100.0}
    folder.finish("full data", (90.0,), seeds=(0,), also=slow)
    assert Budget(1012.01).allows(
        folder.folder("OrderDP 50 %", 1), "OrderDP 50 %", folder.run("OrderDP 50 %", 1).recipe, SIZES
    )


def test_a_damaged_run_counts_for_nothing(folder):
    folder.finish("OrderDP 50 %", (90.0,), seeds=(0,))
    (folder.folder("OrderDP 50 %", 0).path / "result.json").write_text("[]")
    assert Budget(0.0, stated_s=3.0).expected_s(folder.path, "OrderDP 50 %", 12) == 3.0


def test_only_runs_that_end_in_time_begin(folder, digits):
    """OrderDP is expected to end in time and is trained. Full data is not, and stays open."""
    folder.finish("OrderDP 50 %", (90.0,), seeds=(0,))
    begun = []
    (outcome,) = resume([folder.path], show=False, log=begun.append, budget=Budget(time.time() + RUN_S + 300, 900.0))
    assert not outcome.open
    for run in folder.path.glob("*/result.json"):
        if "full-data" in str(run):
            run.unlink()
    begun.clear()
    late = Budget(time.time() - 1)
    (outcome,) = resume([folder.path], show=False, log=begun.append, budget=late)
    assert (begun, len(outcome.open)) == ([], 4)
    assert not RunFolder(folder.path / "full-data-seed0").result()

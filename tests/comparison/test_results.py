"""What the runs of a folder came to, against numbers that are known."""

import math
import re
from statistics import stdev

import pytest

from orderdp.comparison import checks
from orderdp.comparison.grid import Comparison
from orderdp.comparison.results import Seconds, read_results
from orderdp.comparison.workers import extend, start
from orderdp.data import registry
from orderdp.training.objective import OF_CLASSES
from orderdp.training.recipe import load_recipe
from orderdp.training.run_folder import RunFolder, spent_s
from reference.made_runs import SIZES, line, result

LATER = (*OF_CLASSES, "mastered", "processor_s")
CLOCK = Seconds("seconds", spent_s)
OF_LOSS = {"test_loss_last", "predicted"}
SHORT = "full data, steps of OrderDP 50 %"


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_folders_made_here_hold_what_the_trainer_writes(tmp_path, tiny_recipe):
    start(Comparison(tiny_recipe(epochs=2, prune_ratio=0.5), against=()), tmp_path / "run", show=False)
    folder = RunFolder(tmp_path / "run" / "OrderDP-50-seed0")
    lines, made = folder.metrics(), [line(epoch, 2, 8, 256, 90.0) for epoch in (1, 2)]
    assert [[name for name in one if name not in LATER] for one in lines] == [list(one) for one in made]
    real, made = folder.result(), result("OrderDP-50-seed0", 0, made)
    # The made-up runs are as of release 0.1, which wrote and measured less.
    assert (
        set(real)
        == {*made, "finished", "pass_s", "num_classes", "unreadable", "samples_before", *LATER} - {"mastered"} | OF_LOSS
    )
    for name in ("coverage", "digests"):
        assert set(real[name]) == set(made[name])
    assert set(real["versions"]) - {"torchvision", "timm", "transformers", "pillow"} == set(made["versions"])


def test_results_are_read_without_the_data_and_change_nothing(pair, monkeypatch):
    def gone(*arguments, **named):
        raise OSError("the data set is gone")

    monkeypatch.setattr(checks, "load_dataset", gone)
    monkeypatch.setattr(registry, "load_dataset", gone)
    before = content(pair.path)
    results = read_results(pair.path)
    assert (results.seeds, results.references, results.sizes) == ((0, 1, 2), ("full", "short"), SIZES)
    assert results.recipe_text == pair.plan.recipe.to_toml()
    assert (results.recipe["epochs"], results.recipe["dataset"]) == (3, "digits")
    assert content(pair.path) == before


def test_entries_stand_in_the_order_of_the_plan_with_their_runs_by_seed(pair):
    entries = read_results(pair.path).entries
    assert list(entries) == ["OrderDP 50 %", "full data", SHORT]
    pruned, full, short = entries.values()
    assert (pruned.short, full.short, short.short) == (SHORT, None, None)
    assert [entry.reference for entry in entries.values()] == [False, True, True]
    assert pruned.values("accuracy_last") == {0: 90.0, 1: 91.0, 2: 92.0}
    assert {seed: lines[-1]["accuracy"] for seed, lines in pruned.metrics.items()} == {0: 90.0, 1: 91.0, 2: 92.0}
    assert not any(entry.missing for entry in entries.values())


def test_means_and_deviations_are_over_the_seeds(pair):
    results = read_results(pair.path)
    full = results.entries["full data"]
    assert full.mean("accuracy_last") == pytest.approx(91.366666666)
    assert full.deviation("accuracy_last") == pytest.approx(stdev([90.5, 91.0, 92.6]))
    assert full.mean(lambda run: 2 * run["steps"]) == 42
    assert full.mean(results.seconds.of) == 3 * (1.5 + 0.25 + 0.25)  # three epochs, evaluation left out


def test_one_seed_has_no_deviation_and_no_seed_no_mean(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=("full",))
    folder.finish("full data", (90.0,))
    entries = read_results(folder.path).entries
    assert math.isnan(entries["full data"].deviation("accuracy_last"))
    assert math.isnan(entries["OrderDP 50 %"].mean("accuracy_last"))
    assert math.isnan(entries["OrderDP 50 %"].mean(CLOCK.of))


def test_a_missing_run_has_a_reason(pair):
    (pair.folder("OrderDP 50 %", 1).path / "result.json").unlink()
    (pair.folder("full data", 0).path / "result.json").unlink()
    pair.folder("full data", 0).write_failure("out of memory")
    spoilt = pair.folder(SHORT, 2)
    spoilt.write_result({**spoilt.result(), "accuracy_last": math.nan})
    pruned, full, short = read_results(pair.path).entries.values()
    assert pruned.missing == {1: "not finished"}
    assert full.missing == {0: "out of memory"}
    result = spoilt.path / "result.json"
    assert short.missing == {2: f"accuracy_last must be finite, got nan; delete {result} and resume with --resume"}
    assert [entry.mark for entry in (pruned, full, short)] == [" (2 of 3)"] * 3
    assert [set(entry.results) for entry in (pruned, full, short)] == [{0, 2}, {1, 2}, {0, 1}]
    assert [set(entry.metrics) for entry in (pruned, full, short)] == [{0, 2}, {1, 2}, {0, 1}]


def test_differences_are_paired_by_seed_and_those_of_a_hand_computation(pair):
    results = read_results(pair.path)
    pruned = results.entries["OrderDP 50 %"]
    # -0.5, 0 and -0.6: mean -11/30, standard deviation √(0.31/3); t(0.975, 2) = 4.30265273.
    half = 4.30265273 * math.sqrt(0.31 / 3) / math.sqrt(3)
    found = results.against_full(pruned)
    assert found == pytest.approx((-11 / 30, -11 / 30 - half, -11 / 30 + half, 3), abs=1e-6)
    # 1, 0.5 and 1.
    half = 4.30265273 * math.sqrt(1 / 12) / math.sqrt(3)
    assert results.against_short(pruned) == pytest.approx((5 / 6, 5 / 6 - half, 5 / 6 + half, 3), abs=1e-6)


def test_only_seeds_of_both_are_compared(pair):
    (pair.folder("OrderDP 50 %", 1).path / "result.json").unlink()
    (pair.folder("full data", 0).path / "result.json").unlink()
    results = read_results(pair.path)
    found = results.against_full(results.entries["OrderDP 50 %"])
    assert (found.mean, found.seeds, found.low) == (pytest.approx(-0.6), 1, -math.inf)


def test_without_something_to_compare_with_there_is_no_difference(pair, made):
    for seed in (0, 1, 2):
        (pair.folder("full data", seed).path / "result.json").unlink()
    results = read_results(pair.path)
    pruned, full, short = results.entries.values()
    assert results.against_full(pruned) is None
    assert results.against_full(full) is None
    assert results.against_short(short) is None
    assert results.against_short(pruned).seeds == 3
    alone = made("alone", methods=({"name": "orderdp", "prune_ratio": 0.5},), against=())
    alone.finish("OrderDP 50 %", (90.0,))
    results = read_results(alone.path)
    (pruned,) = results.entries.values()
    assert results.against_full(pruned) is results.against_short(pruned) is None


def test_the_shorter_schedule_of_what_forwards_everything_is_full_data(made):
    folder = made(methods=({"name": "ordered_sgd", "prune_ratio": 0.5},), seeds=(0, 1))
    folder.finish("ordered SGD 50 %", (90.0, 91.0)).finish("full data", (91.0, 91.5))
    results = read_results(folder.path)
    entry = results.entries["ordered SGD 50 %"]
    assert results.against_short(entry) == results.against_full(entry)


def test_seconds_count_until_an_epoch_ended_at_the_accuracy(pair):
    pruned = read_results(pair.path).entries["OrderDP 50 %"]
    # Epochs of two seconds that end at 88, 89, 90 with seed 0, a point more with each seed.
    assert pruned.seconds_to(90.0, CLOCK) == {0: 6.0, 1: 4.0, 2: 2.0}
    assert pruned.seconds_to(90.001, CLOCK) == {0: None, 1: 6.0, 2: 4.0}
    assert pruned.seconds_to(0.0, CLOCK) == {0: 2.0, 1: 2.0, 2: 2.0}
    assert pruned.seconds_to(99.0, CLOCK) == {0: None, 1: None, 2: None}
    pruned.metrics[0][0]["accuracy"] = None  # not evaluated, and R² may be reached below 0
    assert pruned.seconds_to(-1.0, CLOCK) == {0: 4.0, 1: 2.0, 2: 2.0}


def test_time_is_of_the_processor_once_all_runs_measured_it(pair):
    results = read_results(pair.path)
    assert results.seconds == CLOCK
    for number, entry in enumerate(results.entries.values()):
        for seed, found in entry.results.items():
            assert results.seconds == CLOCK
            found["processor_s"] = 10.0 * number + seed
    name, of = results.seconds
    assert (name, [entry.mean(of) for entry in results.entries.values()]) == ("processor seconds", [1.0, 11.0, 21.0])
    (pruned, *_) = results.entries.values()
    for rows in pruned.metrics.values():
        for row in rows:
            row["processor_s"] = 1.5
    assert pruned.seconds_to(90.0, results.seconds) == {0: 4.5, 1: 3.0, 2: 1.5}
    pruned.results[1]["processor_s"] = None  # of several processes, or a GPU
    assert results.seconds == CLOCK
    results.entries.clear()
    assert results.seconds == CLOCK


def test_samples_count_until_an_epoch_ended_at_the_accuracy(pair):
    pruned = read_results(pair.path).entries["OrderDP 50 %"]  # three epochs of 128 samples
    assert pruned.samples_to(90.0) == {0: 384, 1: 256, 2: 128}
    assert pruned.samples_to(90.001) == {0: None, 1: 384, 2: 256}


def test_a_run_whose_files_are_damaged_or_incomplete_counts_as_missing(pair):
    runs = [pair.folder("OrderDP 50 %", seed).path for seed in range(3)]
    (runs[0] / "result.json").write_text("{")
    (runs[1] / "metrics.jsonl").unlink()
    lines = (runs[2] / "metrics.jsonl").read_text().splitlines()
    (runs[2] / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    entry = read_results(pair.path).entries["OrderDP 50 %"]
    assert (entry.results, entry.metrics) == ({}, {})
    assert entry.missing[0].startswith(f"{runs[0] / 'result.json'} must hold JSON, got ")
    assert entry.missing[0].endswith("; delete it and resume with --resume")
    assert [entry.missing[seed] for seed in (1, 2)] == [
        f"metrics.jsonl lacks epochs: {n} of 3; delete {runs[seed] / 'result.json'} and resume with --resume"
        for seed, n in ((1, 0), (2, 2))
    ]


def test_a_run_whose_result_is_no_result_is_missing_and_so_is_the_run_that_takes_its_steps(made):
    folder = made(methods=({"name": "infobatch", "prune_ratio": 0.5},))
    (folder.folder("InfoBatch 50 %").path).mkdir()
    (folder.folder("InfoBatch 50 %").path / "result.json").write_text("{}")
    folder.finish("full data", (91.0,))
    entries = read_results(folder.path).entries
    why = entries["InfoBatch 50 %"].missing[0]
    assert why.endswith("result.json must hold the result of a run, got another; delete it and resume with --resume")
    assert entries["full data, steps of InfoBatch 50 %"].missing == {0: "not finished"}
    assert entries["full data"].missing == {}
    assert [entry.mark for entry in entries.values()] == [" (0 of 1)", "", " (0 of 1)"]


def test_unplanned_runs_are_named(pair):
    (pair.path / "UCB-50-seed0").mkdir()
    pair.folder("full data", 1).recipe().write(pair.path / "UCB-50-seed0" / "recipe.toml")
    (pair.path / "plots").mkdir()
    assert read_results(pair.path).unplanned == ("UCB-50-seed0",)


def test_an_open_number_of_steps_is_read_from_the_run_that_made_them(made):
    folder = made(methods=({"name": "infobatch", "prune_ratio": 0.5},))
    short = "full data, steps of InfoBatch 50 %"
    entries = read_results(folder.path).entries
    assert {label: entry.missing for label, entry in entries.items()} == {
        label: {0: "not finished"} for label in ("InfoBatch 50 %", "full data", short)
    }
    folder.finish("InfoBatch 50 %", (90.0,)).finish(short, (89.0,))
    entries = read_results(folder.path).entries
    assert entries[short].mean("steps") == entries["InfoBatch 50 %"].mean("steps") == 9
    # Of another number of steps than the run beside it: not the run that the plan asks for.
    changed = folder.folder("InfoBatch 50 %")
    changed.write_result({**changed.result(), "steps": 8})
    message = (
        "^every run in a folder must have its planned recipe, "
        f"got {re.escape(str(folder.folder(short).path))} with max_steps 9"
    )
    with pytest.raises(ValueError, match=message):
        read_results(folder.path)


def test_a_run_of_another_recipe_is_refused(pair):
    path = pair.folder("full data", 1).path / "recipe.toml"
    load_recipe(path, weight_decay=0.25).write(path)
    with pytest.raises(ValueError, match=r"full-data-seed1 with weight_decay 0\.25 instead of 0\.0005; move"):
        read_results(pair.path)


def test_a_run_of_another_strategy_is_refused(pair):
    path = pair.folder("OrderDP 50 %", 1).path / "recipe.toml"
    load_recipe(path, strategy={"name": "orderdp", "prune_ratio": 0.25}).write(path)
    with pytest.raises(ValueError, match=r"OrderDP-50-seed1 with strategy prune_ratio 0\.25 instead of 0\.5; move"):
        read_results(pair.path)


def test_a_run_without_a_setting_that_is_planned_is_refused(made):
    folder = made(methods=({"name": "ucb", "prune_ratio": 0.5, "every": 1},), seeds=(0,))
    folder.finish("UCB 50 % every 1", (90.0,))
    path = folder.folder("UCB 50 % every 1").path / "recipe.toml"
    load_recipe(path, strategy={"name": "ucb", "prune_ratio": 0.5}).write(path)
    with pytest.raises(ValueError, match=r"UCB-50-every-1-seed0 with strategy every None instead of 1; move"):
        read_results(folder.path)


def as_release_0_1(folder):
    """Turns the folder into what release 0.1 wrote: a plan of methods, which does not list the runs."""
    (folder.path / "comparison.toml").unlink()
    (folder.path / "plan.toml").write_text(
        'seeds = [0, 1, 2]\nagainst = ["full", "short"]\nnum_samples = 200\nnum_test_samples = 360\nnum_ranks = 1\n'
        'methods = [{ strategy = "orderdp", prune_ratio = 0.5 }]\n'
    )


def test_a_folder_of_release_0_1_is_read_and_stays_as_it_is(pair):
    expected = read_results(pair.path)
    as_release_0_1(pair)
    before = content(pair.path)
    assert read_results(pair.path) == expected
    assert content(pair.path) == before


def test_a_folder_of_release_0_1_can_be_extended(pair):
    as_release_0_1(pair)
    plan = (pair.path / "plan.toml").read_bytes()
    extend(pair.path, seeds=[3])
    results = read_results(pair.path)
    assert results.seeds == (0, 1, 2, 3)
    assert results.entries["full data"].missing == {3: "not finished"}
    assert (pair.path / "plan.toml").read_bytes() == plan


def test_a_run_of_release_0_1_under_another_name_is_refused_and_not_missing(pair):
    as_release_0_1(pair)
    run = pair.folder("OrderDP 50 %", 1).path
    run.rename(run.with_name("OrderDP-50-every-10-seed1"))
    with pytest.raises(
        ValueError, match=r"^a folder of release 0\.1 must hold planned runs only, got OrderDP-50-every-10-s"
    ):
        read_results(pair.path)


def test_a_folder_that_grows_keeps_its_recipe_file_as_it_was_written(pair):
    recipe = pair.path / "recipe.toml"
    recipe.write_text(f"# mine\n{recipe.read_text()}")
    before = recipe.read_bytes()
    extend(pair.path, seeds=[3])
    assert recipe.read_bytes() == before
    assert read_results(pair.path).seeds == (0, 1, 2, 3)


def test_a_damaged_plan_of_release_0_1_is_refused(pair):
    as_release_0_1(pair)
    (pair.path / "plan.toml").write_text("seeds = [0]\n")
    message = r"^the folder of a comparison must hold recipe\.toml and comparison\.toml, got .* \('against'\); write"
    with pytest.raises(ValueError, match=message):
        read_results(pair.path)


def pairs_of(folder, **changed):
    """The pairs of the results after some runs were changed: label and seed to keys of the result."""
    for name, values in changed.items():
        label, _, seed = name.rpartition("_")
        run = folder.folder({"pruned": "OrderDP 50 %", "full": "full data", "short": SHORT}[label], int(seed))
        run.write_result({**run.result(), **values})
    results = read_results(folder.path)
    return results.mixed_pairs, results.mixed_note


def test_pairs_of_one_commit_and_processor_need_no_note(pair):
    assert pairs_of(pair) == ((0, 6), "")


def test_pairs_that_join_commits_or_processors_are_counted(pair):
    note = "{} of 6 pairs join runs of different commits or processors."
    assert pairs_of(pair, full_1={"commit": "abc"}) == ((1, 6), note.format(1).replace("join", "joins"))
    assert pairs_of(pair, short_0={"device": "another"}, short_2={"commit": "abc"}) == ((3, 6), note.format(3))
    # This pair is of one commit again, and the pair with the shorter schedule no longer is.
    assert pairs_of(pair, pruned_1={"commit": "abc"}) == ((3, 6), note.format(3))


def test_a_pair_of_runs_that_both_went_on_under_another_commit_is_counted(pair):
    """Neither is of one commit, though what they record is equal."""
    went_on = {"commit": "abc and abd"}
    assert pairs_of(pair, pruned_1=went_on, full_1=went_on)[0] == (2, 6)  # also the one with the shorter schedule
    assert pairs_of(pair, pruned_1=went_on, full_1=went_on, short_1=went_on)[0] == (2, 6)


def test_a_pair_needs_both_runs(pair):
    (pair.folder("full data", 0).path / "result.json").unlink()
    assert pairs_of(pair, pruned_0={"commit": "abc"})[0] == (1, 5)


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"^the folder of a comparison must hold recipe\.toml and comparison\.toml, got "
    ):
        read_results(tmp_path)

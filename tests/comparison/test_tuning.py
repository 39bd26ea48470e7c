"""A learning rate for each run, chosen on held-out training data."""

import re
import time
from dataclasses import replace

import pytest

from orderdp.comparison import workers
from orderdp.comparison.budget import Budget
from orderdp.comparison.checks import LoadedData
from orderdp.comparison.grid import Comparison, load_comparison
from orderdp.comparison.planned import Planned, Sizes
from orderdp.comparison.records import read_folder
from orderdp.comparison.results import Entry, Results, read_results
from orderdp.comparison.tuning import SEED, _best, _name_in, _told, tuning_of, untuned
from orderdp.comparison.workers import extend, resume, start
from orderdp.report.page import read_report
from orderdp.training.recipe import load_recipe
from orderdp.training.run_folder import RunFolder
from reference.made_runs import SIZES

N = 200
METHODS = ({"name": "orderdp", "prune_ratio": 0.5},)
RATES = (0.001, 0.3)


def plan(tiny, **settings):
    return Comparison(tiny(), METHODS, **{"max_lrs": RATES, **settings})


@pytest.fixture
def tuned(tmp_path, tiny):
    path = tmp_path / "run"
    outcome = start(plan(tiny), path, show=False)
    assert not outcome.failed
    return path


def test_each_run_has_the_rate_that_was_best_on_held_out_data(tuned):
    comparison, sizes = load_comparison(tuned)
    labels = {member.label for member in comparison.members(sizes.num_samples)}
    assert set(comparison.tuned) == labels
    for label, rate in comparison.tuned.items():
        found = {}
        for folder, each in zip(("max_lr_0.001", "max_lr_0.3"), RATES, strict=True):
            (member,) = (
                member for member in load_comparison(tuned / "tuning" / folder)[0].members(180) if member.label == label
            )
            run = RunFolder(tuned / "tuning" / folder / member.name)
            recipe = run.recipe()
            assert (recipe.max_lr, recipe.held_out, recipe.seed, recipe.evaluations) == (each, 0.1, SEED, 1)
            found[each] = run.result()["accuracy_last"]
        assert rate == max(sorted(found), key=found.get)
    for member in comparison.members(sizes.num_samples):
        assert load_recipe(tuned / member.name / "recipe.toml").max_lr == comparison.tuned[member.label]
    assert set(comparison.tuned.values()) == {0.3}  # three epochs at 0.001 learn nothing


@pytest.mark.parametrize("rates", [(0.1, 0.3, 0.9), (0.9, 0.3, 0.1)])
def test_of_rates_as_good_as_each_other_the_lowest_is_chosen(rates):
    planned = Planned({}, "", {}, (SEED,), (), Sizes(180, 20), ())

    def ended(accuracy):
        entry = Entry("own", "own", 0.5, False, None, {}, {SEED: {"accuracy_last": accuracy}})
        return Results(planned, {"own": entry})

    by_rate = {rate: ended(80.0 if rate == 0.1 else 90.0) for rate in rates}
    assert _best("own", by_rate) == 0.3


def test_a_tuned_folder_is_read_back_and_refuses_a_run_of_another_rate(tuned):
    assert all(run.max_lr == 0.3 for run in read_folder(tuned).planned.runs)
    file = tuned / "OrderDP-50-seed0" / "recipe.toml"
    file.write_text(file.read_text().replace("max_lr = 0.3", "max_lr = 0.001"))
    with pytest.raises(ValueError, match=r"with max_lr 0\.001 instead of 0\.3; move that run elsewhere"):
        read_folder(tuned)


def test_the_page_says_that_runs_have_their_own_rate_and_that_it_is_the_highest(tuned):
    (part,) = read_report(tuned).parts
    assert re.search(
        r"^max_lr = \S+  # replaced in each run by the rate chosen for it", part.recipe, flags=re.MULTILINE
    )
    assert (
        "For 3 of 3 runs the best learning rate is the lowest or highest of those tried. One beyond it may be better."
    ) in part.summary.may_not


def test_no_word_of_an_end_is_said_of_a_rate_between_two_others():
    assert _told({"a": 0.1, "b": 0.1}, (0.03, 0.1, 0.3)) == ["max_lr 0.1 is best for a; b"]


def test_a_resumed_comparison_trains_nothing_again_and_tunes_what_was_added(tuned, monkeypatch):
    lines = []
    resume([tuned], show=False, log=lines.append)
    assert lines == []
    extend(tuned, methods=({"name": "dynamic_random", "prune_ratio": 0.5},))
    comparison, sizes = load_comparison(tuned)
    assert untuned(comparison, sizes.num_samples, 1) == {"dynamic random 50 %"}
    resume([tuned], show=False, log=lines.append)
    first, *runs, chosen, at_an_end, begun, ended = lines
    assert first == (
        "choosing max_lr for 1 run on 10 % of the training samples, held out: each is trained at 0.001, 0.3"
    )
    assert [line.partition(": ")[0].partition("] ")[2] for line in runs] == [
        f"dynamic random 50 %, trying max_lr {rate}" for rate in ("0.001", "0.001", "0.3", "0.3")
    ]
    assert chosen == "max_lr 0.3 is best for dynamic random 50 %"
    assert at_an_end == (
        "for 1 of 1 run the best max_lr is the lowest or highest of those tried; one beyond it may be better: start a "
        "new comparison with more"
    )
    assert begun.endswith("dynamic random 50 %, seed 0")
    assert ended.startswith(f"{begun}: ")
    assert untuned(load_comparison(tuned)[0], sizes.num_samples, 1) == set()


def test_the_comparisons_that_choose_hold_out_a_tenth_and_have_a_seed_of_their_own(tiny):
    parts = tuning_of(plan(tiny, seeds=(0, 1), budgets=(0.5,)))
    assert list(parts) == ["max_lr_0.001", "max_lr_0.3"]
    for rate, part in zip(RATES, parts.values(), strict=True):
        assert (part.recipe.max_lr, part.recipe.held_out, part.seeds) == (rate, 0.1, (SEED,))
        assert (part.methods, part.budgets, part.max_lrs, part.tuned) == (METHODS, (0.5,), (), {})
        assert len(LoadedData().of(part.recipe).train) == 180
    assert tuning_of(plan(tiny, max_lrs=())) == {}


def test_a_schedule_that_equals_another_on_less_data_has_the_rate_of_that_one(tmp_path, tiny):
    # Half of full data's 45 steps is 22, and OrderDP makes 24. Without a tenth of the data, both are 21.
    comparison = plan(lambda: tiny(train_size=150, batch_size=10), budgets=(0.5,))
    label = "full data, 50 % of the steps"
    assert label in {member.label for member in comparison.members(150)}
    assert label not in {member.label for member in comparison.members(135)}
    start(comparison, tmp_path / "run", show=False)
    tuned = load_comparison(tmp_path / "run")[0].tuned
    assert tuned[label] == tuned["full data, steps of OrderDP 50 %"]


def test_a_schedule_that_is_not_there_has_the_rate_of_one_with_its_augmentation(made, tiny_recipe):
    methods = tuple({"name": "orderdp", "prune_ratio": ratio} for ratio in (0.5, 0.3))
    comparison = Comparison(tiny_recipe(), methods, max_lrs=RATES, short_augment="crop")
    there = made(methods=methods[:1], short_augment="crop")
    label = "full data, steps of OrderDP 30 %"
    for end in ("", ", augment crop"):
        found = _name_in(read_results(there.path), f"{label}{end}", comparison, SIZES)
        assert found == f"full data, steps of OrderDP 50 %{end}"


def test_a_schedule_that_is_not_there_has_the_rate_of_the_nearest_share_of_the_steps(made, tiny_recipe):
    comparison = Comparison(tiny_recipe(), METHODS, max_lrs=RATES, budgets=(0.5,))
    there = made(methods=METHODS, against=("full",), budgets=(0.25, 0.6))
    half = _name_in(read_results(there.path), "full data, 50 % of the steps", comparison, Sizes(400, 360))
    assert half == "full data, 60 % of the steps"


def test_the_data_of_the_choice_follows_that_of_the_comparison(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(LoadedData, "checked", lambda *_: None)  # digits lie in no folder
    (part, _) = tuning_of(plan(tiny)).values()
    workers._create_or_extend(part, tmp_path / "part")
    moved = replace(part, recipe=part.recipe.model_copy(update={"data_root": str(tmp_path)}))
    workers._create_or_extend(moved, tmp_path / "part")
    assert load_comparison(tmp_path / "part")[0] == moved


def test_a_rate_at_which_a_run_fails_is_not_chosen(tmp_path, tiny, monkeypatch):
    real = workers.Run.train

    def fails(run):
        if run.recipe.max_lr == 0.3 and run.recipe.held_out:
            raise FloatingPointError("too large")
        return real(run)

    monkeypatch.setattr(workers.Run, "train", fails)
    start(plan(tiny), tmp_path / "run", show=False)
    assert set(load_comparison(tmp_path / "run")[0].tuned.values()) == {0.001}


def test_without_time_no_rate_is_tried_and_the_runs_that_need_one_wait(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(workers.Run, "train", lambda run: pytest.fail("a run began"))
    comparison, path, lines = plan(tiny), tmp_path / "run", []
    workers.create_folder(comparison, path, workers.check(comparison))
    (outcome,) = resume([path], show=False, log=lines.append, budget=Budget(time.time() - 1))
    assert len(outcome.open) == 3  # pruned, full data, shorter schedule
    assert load_comparison(path)[0].tuned == {}
    assert lines[-1] == "no time to try max_lr for all: 6 runs left"


def test_a_run_that_fails_at_every_rate_is_named(tmp_path, tiny, monkeypatch):
    def fails(run):
        raise FloatingPointError("too large")

    monkeypatch.setattr(workers.Run, "train", fails)
    message = "a learning rate needs a run that ends, got none of OrderDP 50 %; write smaller --max-lr"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start(plan(tiny), tmp_path / "run", show=False)


def test_tuned_runs_keep_their_rate_at_every_seed(tiny):
    comparison = replace(plan(tiny, seeds=(0, 1)), tuned={"OrderDP 50 %": 0.3})
    rates = {(member.label, member.recipe.seed): member.recipe.max_lr for member in comparison.members(N)}
    assert rates["OrderDP 50 %", 0] == rates["OrderDP 50 %", 1] == 0.3
    assert rates["full data", 0] == tiny().max_lr


def test_rates_are_refused_where_images_cannot_be_held_out_for_them(tiny):
    with pytest.raises(ValueError, match=r"no run is evaluated on, got held_out 0\.2; leave one of them out"):
        plan(lambda: tiny(held_out=0.2))
    subset = {"name": "fixed_subset", "indices": [0, 1, 2]}
    with pytest.raises(ValueError, match=r"a fixed subset of all of them; write one max_lr"):
        Comparison(tiny(), (subset,), max_lrs=RATES)
    assert Comparison(tiny(held_out=0.2), (subset,)).max_lrs == ()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.1, 0.1), "max_lr must be given once each, got [0.1, 0.1]; leave the repeats out"),
        ((0.1, -1), "max_lr must lie in (0, inf), got -1; write max_lr = 0.1"),
    ],
)
def test_bad_rates_are_refused(tiny, rates, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plan(tiny, max_lrs=rates)

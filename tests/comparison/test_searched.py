"""A search in a folder: what it plans next follows from the results on disk, however often it was stopped."""

import dataclasses
import math
import re
import sys

import pytest

from orderdp.comparison import workers
from orderdp.comparison.archive import read_archive, write_archive
from orderdp.comparison.grid import Comparison, load_comparison
from orderdp.comparison.lossless import Judged, Search
from orderdp.comparison.planned import FILE
from orderdp.comparison.results import read_results, results_of
from orderdp.comparison.searched import plan_next, search_of, searching, trails_of
from orderdp.comparison.workers import extend, resume, start
from orderdp.report.across import Across, across
from orderdp.report.outline import collect
from orderdp.report.section import Choices
from orderdp.report.sections import SECTIONS, lossless
from orderdp.report.summary import summary_of
from orderdp.training.run_folder import RunFolder
from reference.log_lines import begun_or_failed
from reference.made_runs import Made
from reference.reported import methods

RATIOS = (0.3, 0.5, 0.7)
# What each ratio loses, in points: OrderDP nothing up to 50 %, dynamic random something everywhere.
LOSSES = {"OrderDP": {0.3: 0.0, 0.5: 0.0, 0.7: 4.0}, "dynamic random": {0.3: 0.9, 0.5: 3.0, 0.7: 5.0}}
WOBBLE = (0.0, 0.1, -0.1, 0.05, -0.05, 0.02)
END = {
    "OrderDP": [(0.5, "lossless", 3), (0.7, "not lossless", 3)],
    "dynamic random": [(0.5, "not lossless", 3), (0.3, "undecided", 6)],
}


def quiet(line):
    pass


@pytest.fixture
def search(tiny_recipe):
    """Makes a search of two methods within a point."""

    def make(seeds=(0, 1, 2), **settings):
        settings = {"margin": 1.0, "seeds_max": 6, **settings}
        return searching(tiny_recipe(), methods("orderdp", "dynamic_random"), RATIOS, seeds, **settings)

    return make


def accuracy(label, number):
    """What a run ends with: its loss below full data, which itself differs from seed to seed."""
    full = 90.0 + number
    if label == "full data":
        return full
    method, ratio, _ = label.rsplit(" ", 2)
    loss = LOSSES[method][int(ratio) / 100]
    return full - loss + (8 if loss == 0.9 else 1) * WOBBLE[number]


def finish(folder, *, only=""):
    """Writes results of all planned runs that lack one; returns how many."""
    folder.plan = load_comparison(folder.path)[0]
    written = 0
    for member in folder.plan.members(200):
        run, seed = RunFolder(folder.path / member.name), member.recipe.seed
        if run.result() is None and only in member.label:
            folder.finish(member.label, [accuracy(member.label, folder.plan.seeds.index(seed))], seeds=[seed])
            written += 1
    return written


def searched(folder, *, orders=("",)):
    """Trains and plans until nothing is left; each round trains the runs whose label holds one of `orders` only."""
    rounds = 0
    while rounds < 100 and (sum(finish(folder, only=only) for only in orders) or rounds == 0):
        plan_next(folder.path, quiet)
        rounds += 1
    return folder


def ends(folder):
    """Name of each method to the ratios it tried, what the tests said, and after how many seeds."""
    trails = trails_of(read_results(folder.path))
    return {
        arm: [(probe.ratio, probe.judged.verdict, probe.judged.seeds) for probe in trail.probes]
        for arm, trail in trails.items()
    }


@pytest.fixture
def done(tmp_path, search):
    return searched(Made(tmp_path / "run", search()))


def test_a_search_begins_in_the_middle_of_the_grid_with_full_data_beside_it(search):
    comparison = search()
    assert [(member.label, member.recipe.seed) for member in comparison.members(200)] == [
        (label, seed) for seed in (0, 1, 2) for label in ("OrderDP 50 %", "dynamic random 50 %", "full data")
    ]
    assert list(comparison.lossless.arms) == ["OrderDP", "dynamic random"]


def test_a_search_begins_with_as_few_seeds_as_a_test_needs_whatever_the_order_of_its_ratios(tiny_recipe):
    found = searching(tiny_recipe(), methods("orderdp"), RATIOS[::-1], range(5), margin=1.0)
    assert (found.lossless.prune_ratios, dict(found.lossless.seeds_of)) == (RATIOS, {"OrderDP 50 %": 3})
    assert [member.recipe.seed for member in found.members(200) if member.label == "OrderDP 50 %"] == [0, 1, 2]


def test_each_method_goes_its_own_way_with_the_same_seeds_and_full_data(done):
    assert ends(done) == END
    seeds = {}
    for member in load_comparison(done.path)[0].members(200):
        seeds.setdefault(member.label, []).append(member.recipe.seed)
    assert seeds == {
        "OrderDP 50 %": [0, 1, 2],
        "OrderDP 70 %": [0, 1, 2],
        "dynamic random 30 %": [0, 1, 2, 3, 4, 5],
        "dynamic random 50 %": [0, 1, 2],
        "full data": [0, 1, 2, 3, 4, 5],
    }
    # No run was made that no test needed.
    assert not read_results(done.path).unplanned
    assert len(list(done.path.glob("*/result.json"))) == sum(map(len, seeds.values()))


@pytest.mark.parametrize("orders", [("full", "OrderDP"), ("dynamic", "full")])
def test_the_plan_depends_on_the_results_alone_and_not_on_when_it_was_looked_at(tmp_path, search, done, orders):
    other = searched(Made(tmp_path / "other", search()), orders=orders)  # one method first, as if the other waited
    searched(other)
    assert (other.path / FILE).read_bytes() == (done.path / FILE).read_bytes()
    before = (done.path / FILE).read_bytes()
    plan_next(done.path, quiet)
    assert (done.path / FILE).read_bytes() == before


def test_a_method_waits_for_a_run_that_is_missing_and_the_others_go_on(tmp_path, search):
    folder = Made(tmp_path / "run", search())
    finish(folder)
    gone = folder.folder("OrderDP 50 %", 1).path / "result.json"
    kept = gone.read_bytes()
    gone.unlink()
    searched(folder, orders=("dynamic", "full"))
    assert ends(folder) == {"OrderDP": [(0.5, None, 1)], "dynamic random": END["dynamic random"]}
    results = read_results(folder.path)
    # That nothing was found is said of a search that has ended, and how often its end was undecided.
    assert lossless.sentences(results) == [
        "OrderDP: the search is not finished: 50 % has 1 seed so far.",
        "dynamic random: no prune ratio was shown to be lossless within 1 point; 50 % is not lossless; 30 % is "
        "undecided after 6 seeds.",
    ]
    assert [line[1] for line in SECTIONS["lossless"](results, Choices()).tables[0].lines[1:]] == ["open", "none"]
    tests = SECTIONS["lossless"](results, Choices()).tables[1]
    assert tests.lines[1] == ["OrderDP 50 %", "1", "+0.00", "needs further seeds"]  # and no interval yet
    gone.write_bytes(kept)
    assert ends(searched(folder)) == END


def test_seeds_go_on_after_the_highest(tmp_path, search):
    folder = searched(Made(tmp_path / "run", search(seeds=(7, 3))))
    assert folder.plan.seeds == (7, 3, 8, 9, 10, 11)
    assert ends(folder) == END


def test_the_log_says_where_each_search_goes(tmp_path, search):
    folder, told = Made(tmp_path / "run", search()), []
    finish(folder)
    plan_next(folder.path, told.append)
    assert told == [
        "OrderDP 50 %: lossless after 3 seeds; next OrderDP 70 %",
        "dynamic random 50 %: not lossless after 3 seeds; next dynamic random 30 %",
    ]


def test_a_comparison_without_a_search_is_left_alone(pair):
    before = (pair.path / FILE).read_bytes()
    assert plan_next(pair.path, quiet) == 9
    assert (pair.path / FILE).read_bytes() == before
    assert trails_of(read_results(pair.path)) == {}
    assert SECTIONS["lossless"](read_results(pair.path), Choices()) is None


def test_the_report_shows_the_ratios_the_tests_and_how_sure_they_are(done):
    results = read_results(done.path)
    found, tests = SECTIONS["lossless"](results, Choices()).tables
    rows = [dict(zip(found.lines[0], line, strict=True)) for line in found.lines[1:]]
    assert [row["method"] for row in rows] == ["OrderDP", "dynamic random"]
    assert [row["largest lossless ratio"] for row in rows] == ["50 %", "none"]
    assert [row["samples left out"] for row in rows] == ["42.9 %", ""]
    # Beside the three seeds at 50 %, those of full data, and not all six.
    assert [row["accuracy, %"] for row in rows] == ["91.00 ± 0.95", ""]
    assert [row["full data, %"] for row in rows] == ["91.00 ± 1.00", "92.50 ± 1.87"]
    assert [row["minus full data"] for row in rows] == [tests.lines[1][2], ""]
    assert [row["not lossless"] for row in rows] == ["70 %", "50 %"]
    assert [row["undecided"] for row in rows] == ["", "30 %"]
    assert [row["seeds there"] for row in rows] == ["3", ""]
    assert [row["pruned runs"] for row in rows] == ["6", "9"]
    assert [(line[0], line[1], line[3]) for line in tests.lines[1:]] == [
        (f"{arm} {100 * ratio:g} %", str(seeds), verdict)
        for arm, probes in END.items()
        for ratio, verdict, seeds in probes
    ]
    assert re.fullmatch(r"\+0\.00 \[−0\.\d\d, \+0\.\d\d\]", tests.lines[1][2])
    summary = summary_of(results)
    assert summary.may == [
        "OrderDP: 50 % is the largest prune ratio shown to be lossless within 1 point; it leaves out 42.9 % of the "
        "samples (3 seeds); 70 % is not lossless.",
        "dynamic random: no prune ratio was shown to be lossless within 1 point; 50 % is not lossless; 30 % is "
        "undecided after 6 seeds.",
    ]
    assert summary.may_not[0].startswith(
        "The ratio named for a method is not lossless with probability at most 5 %: a search makes at most 2 tests for "
        "a method, each wrong with probability at most 2.5 % over all its looks."
    )
    assert summary.may_not[1].startswith("Ratios that were not tried are not judged.")
    # Intervals of a number of seeds that was fixed beforehand do not hold here.
    assert SECTIONS["differences"](results, Choices()) is None
    # A run on full data beyond those seeds is not missing beside them.
    (done.folder("full data", 5).path / "result.json").unlink()
    (table, _) = SECTIONS["lossless"](read_results(done.path), Choices()).tables
    assert dict(zip(*table.lines[:2], strict=True))["full data, %"] == "91.00 ± 1.00"


def test_equal_differences_are_no_proof_since_accuracies_are_rounded(tmp_path, search, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "WOBBLE", (0.0,) * 6)
    folder = Made(tmp_path / "run", search())
    finish(folder)
    tests = SECTIONS["lossless"](read_results(folder.path), Choices()).tables[1]
    assert re.fullmatch(r"\+0\.00 \[−0\.[2-9]\d, \+0\.[2-9]\d\]", tests.lines[1][2])


INTERVALS = {  # mean and ends to what is shown beside a margin of half a point
    (-0.21, -0.4979, 0.07): "−0.210 [−0.498, +0.070]",  # lossless
    (-0.7, -0.9, -0.50001): "−0.7000 [−0.9000, −0.5000]",  # not lossless; four digits at most
    (-0.4, -0.55, -0.25): "−0.40 [−0.55, −0.25]",
    (-0.4, -0.5, -0.3): "−0.40 [−0.50, −0.30]",  # the margin itself, which decides nothing
    (-0.4, -math.inf, math.inf): "−0.40",
    (math.nan, -math.inf, math.inf): "",
}


@pytest.mark.parametrize(("found", "shown"), list(INTERVALS.items()))
def test_an_interval_shows_on_which_side_of_the_margin_it_lies(found, shown):
    assert lossless._difference(Search((0.5,), {}, margin=0.5), Judged(None, *found, 14)) == shown


def test_an_undecided_ratio_has_all_seeds_whatever_the_next_one_needs(tmp_path, search, monkeypatch):
    monkeypatch.setitem(LOSSES, "dynamic random", {0.3: 0.0, 0.5: 0.9, 0.7: 5.0})
    folder = searched(Made(tmp_path / "run", search()))
    assert ends(folder)["dynamic random"] == [(0.5, "undecided", 6), (0.3, "lossless", 3)]
    assert lossless.sentences(read_results(folder.path))[1].endswith("(3 seeds); 50 % is undecided after 6 seeds.")


def test_a_search_that_ends_at_the_top_of_its_grid_says_so(tmp_path, search, monkeypatch):
    monkeypatch.setitem(LOSSES, "OrderDP", dict.fromkeys(RATIOS, 0.0))
    folder = Made(tmp_path / "run", search())
    finish(folder)
    plan_next(folder.path, quiet)
    results = read_results(folder.path)
    assert SECTIONS["lossless"](results, Choices()).tables[0].lines[1][:2] == ["OrderDP", "50 % so far"]
    begun = summary_of(results).may[0]
    assert "tried" not in begun
    assert begun.endswith("; the search is not finished: 70 % has 0 seeds so far.")
    found = summary_of(read_results(searched(folder).path)).may[0]
    assert found.startswith(
        "OrderDP: 70 % is the largest prune ratio shown to be lossless within 1 point, and no larger"
    )


def test_tasks_stand_in_one_table(done):
    results = read_results(done.path)
    (table,) = lossless.joined({"first": results, "second": results})
    assert [line[:4] for line in table.lines] == [
        ["method", "data set", "network", "largest lossless ratio"],
        *[["OrderDP", "digits", "small_cnn", "50 %"], ["dynamic random", "digits", "small_cnn", "none"]] * 2,
    ]


def test_the_report_of_a_study_shows_all_tasks_first(done):
    results = read_results(done.path)
    assert [table.name for table in across({"first": results, "second": results}, {}).tables] == ["lossless"]
    assert across({"first": results}, {}) == Across()


def test_an_archive_holds_the_search(done, tmp_path):
    write_archive(tmp_path / "a.jsonl.xz", collect(done.path))
    archived = results_of(read_archive(tmp_path / "a.jsonl.xz").parts[""])
    assert search_of(archived) == search_of(read_results(done.path))
    assert trails_of(archived) == trails_of(read_results(done.path))


REFUSED = {
    "own size": ("orderdp,explore=0.9,exploit=0.5", "a method of a search gets its prune ratio from the search, got "),
    "full data": ("full", "prune_ratio does not apply to strategy 'full', got 0.3; leave prune_ratio out"),
}


@pytest.mark.parametrize(("method", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_method_without_a_ratio_to_search_is_refused(tiny_recipe, method, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        searching(tiny_recipe(), methods(method), RATIOS, margin=1.0)


def test_a_method_with_its_own_ratio_is_refused_on_a_grid_of_one_ratio_too(tiny_recipe):
    with pytest.raises(
        ValueError, match=r"^a method of a search gets its prune ratio from the search, got OrderDP 30 %"
    ):
        searching(tiny_recipe(), methods("orderdp,prune_ratio=0.3"), [0.5], margin=0.5)


@pytest.mark.parametrize(("asked", "seeds"), [((), (0, 1, 2)), (("orderdp",), ())])
def test_a_search_without_a_method_or_a_seed_is_refused(tiny_recipe, asked, seeds):
    with pytest.raises(ValueError, match=r"^a search needs a method and a seed at least, got "):
        searching(tiny_recipe(), methods(*asked), [0.3, 0.5], margin=0.5, seeds=seeds)


def test_what_a_search_would_not_plan_is_refused(search, done):
    comparison = search()
    for change in ({"against": ("full", "short")}, {"budgets": (0.5,)}, {"max_lrs": (0.1, 0.2)}):
        with pytest.raises(ValueError, match=r"a search for the largest lossless ratio.*, got .*; (write|leave) "):
            dataclasses.replace(comparison, **change)
    with pytest.raises(ValueError, match=r"^seeds_max must be at least the number of seeds to begin with, got 6 for 7"):
        search(seeds=range(7))
    for more in ({"seeds": (9,)}, {"methods": methods("ucb,prune_ratio=0.5")}, {"budgets": (0.5,)}):
        with pytest.raises(ValueError, match=r"^a search for the largest lossless ratio adds its runs itself, got "):
            extend(done.path, **more)


@pytest.fixture
def trained(tiny_recipe):
    """A search over real runs, which within 60 points are all lossless, and so ends at the top of the grid."""
    recipe = tiny_recipe(epochs=1, model="small_cnn")
    return searching(recipe, methods("orderdp", "infobatch"), (0.3, 0.5), margin=60.0, seeds_max=4)


def results_in(path):
    return {
        run.parent.name: {name: RunFolder(run.parent).result()[name] for name in ("accuracy_last", "digests")}
        for run in path.glob("*/result.json")
    }


def test_a_search_that_was_stopped_goes_on_exactly(tmp_path, trained):
    whole = start(trained, tmp_path / "whole", show=False)
    assert (whole.failed, whole.open) == ({}, [])
    assert [trail.largest.ratio for trail in trails_of(whole.results).values()] == [0.5, 0.5]
    stops = iter((4, 8))
    stop, told = next(stops), []

    def log(line):
        told.append(line)
        if len(begun_or_failed(told)) > stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(trained, tmp_path / "stopped", show=False, log=log)
    stop = next(stops)
    with pytest.raises(KeyboardInterrupt):
        resume([tmp_path / "stopped"], show=False, log=log)
    (found,) = resume([tmp_path / "stopped"], show=False)
    assert (found.failed, found.open) == ({}, [])
    assert (tmp_path / "stopped" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert results_in(tmp_path / "stopped") == results_in(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_search_as_one_does(tmp_path, trained):
    one = start(trained, tmp_path / "one", show=False)
    two = start(trained, tmp_path / "two", processes=2, show=False)
    assert (two.failed, two.open) == ({}, [])
    assert trails_of(two.results) == trails_of(one.results)
    assert results_in(tmp_path / "two") == results_in(tmp_path / "one")


def test_a_failed_run_ends_its_search_and_not_the_command(tmp_path, trained, monkeypatch):
    train = workers.Run.train

    def fail(self):
        if self.recipe.strategy.name == "orderdp" and self.recipe.seed == 1:
            raise FloatingPointError("the loss is nan")
        return train(self)

    monkeypatch.setattr(workers.Run, "train", fail)
    found = start(trained, tmp_path / "run", show=False)
    assert list(found.failed) == ["OrderDP 30 %, seed 1"]
    assert [trail.largest and trail.largest.ratio for trail in trails_of(found.results).values()] == [None, 0.5]
    monkeypatch.undo()
    (found,) = resume([tmp_path / "run"], show=False)
    assert [trail.largest.ratio for trail in trails_of(found.results).values()] == [0.5, 0.5]


def test_a_job_that_torchrun_restarts_finds_its_search_again(tmp_path, trained, monkeypatch):
    start(trained, tmp_path / "run", show=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert start(trained, tmp_path / "run", show=False).open == []
    other = Comparison(trained.recipe, methods("orderdp,prune_ratio=0.5"))
    with pytest.raises(FileExistsError):
        start(other, tmp_path / "run", show=False)

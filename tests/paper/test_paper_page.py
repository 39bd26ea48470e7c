"""The page of the paper: docs/paper.md is that of the archives, and it claims no more than was run."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from orderdp.comparison.records import read_folder
from orderdp.comparison.results import read_results, results_of
from orderdp.comparison.searched import searching
from orderdp.output.text_table import Table
from orderdp.paper import page as module
from orderdp.paper.contents import CONTENTS, Kind, Place, places
from orderdp.paper.exhibit import Shown
from orderdp.paper.failures import Failure
from orderdp.paper.page import (
    Exhibit,
    Page,
    _against_print,
    _against_shorter,
    _held,
    _lacking,
    _of_exact,
    _state,
    page_of,
)
from orderdp.paper.page_text import as_html, as_markdown
from orderdp.paper.runs_shown import Task
from orderdp.paper.sources import Found, Joined, Source, find, join
from orderdp.paper.studies import catalogue, find_study
from orderdp.paper.study import Study, load_study
from orderdp.report.beside_print import OPEN, ORDER, OTHER, OUTSIDE, SAME, WITHIN, Held
from orderdp.report.canvas import Chart
from orderdp.report.outline import Outline, Published
from orderdp.report.section import Section
from orderdp.strategies.registry import parse
from reference.made_runs import Made

ROOT = Path(__file__).parents[2]

in_repository = pytest.mark.skipif(not (ROOT / "results").exists(), reason="the sdist holds no results")


@pytest.fixture(scope="module")
def page():
    return page_of("cpu", find("cpu", None, [ROOT / "results"]), charts=False)


@in_repository
def test_the_page_in_the_repository_is_that_of_its_archives(page):
    written = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert as_markdown(page, ROOT / "docs") == written, "write: make results"


@in_repository
def test_the_overview_counts_what_the_tables_say(page):
    exhibits = {each.name: each for each in page.exhibits}
    assert list(exhibits) == list(CONTENTS)
    for each in page.exhibits:
        text = "\n".join(table.as_markdown() for table in each.tables)
        for mark, count in each.marks.items():
            assert text.count(str(mark)) == count, each.name
        origins = [line for table in each.tables if table.name == "blocks" for line in table.lines[1:]]
        mixed = {line[0] for line in origins if " and " in "".join(line[3:5])}
        assert set(re.findall(r"Mixed: runs of a seed of (\S+) come", "\n".join(each.seen))) == mixed, each.name
    assert exhibits["table1"].marks[ORDER] > exhibits["table1"].marks[SAME] > 10
    assert (exhibits["table10"].marks[WITHIN], exhibits["table10"].marks[OUTSIDE]) == (1, 1)
    assert exhibits["figure4"].marks == {}  # a picture
    words = " ".join(exhibits["table1"].seen)
    seen, same = map(
        int,
        re.findall(
            r"of 94 comparisons with a printed difference, the printed sign is seen in (\d+), in (\d+) of these", words
        )[0],
    )
    assert (seen, same) == (
        exhibits["table1"].marks[SAME] + exhibits["table1"].marks[ORDER],
        exhibits["table1"].marks[SAME],
    )
    assert "Numbers: – not comparable" in words
    assert re.search(r"better in \d of 6 cases, worse in \d, and open in \d\.", words)


def test_without_results_nothing_is_claimed():
    page = page_of("cpu", Found())
    for each in (*page.exhibits, *page.left_open):
        assert each.state in ("not run", "not run at this size", "no study yet", "nothing to compute", "exact")
        assert bool(each.tables) == (each.state == "exact"), each.name
    text = as_html(page)
    # And the legend, what the paper leaves open, and the studies that the paper has not.
    assert text.count("<h2 id=") == len(CONTENTS) + 3
    assert text.count('<h3 id="open_') == len(page.left_open) > 0
    assert "not run at this size" in text


def test_a_size_that_a_study_has_not_is_named(monkeypatch):
    read = module.read_study
    monkeypatch.setattr(module, "read_study", lambda file: {k: v for k, v in read(file).items() if k != "gpu"})
    shown = page_of("gpu", Found())
    states = {each.name: each.state for each in (*shown.exhibits, *shown.left_open)}
    assert states["table2"] == "no size gpu, only smoke, cpu, paper"
    assert states["open_mae"] == states["open_stream"] == "no size gpu, only smoke, cpu"


def test_a_run_that_no_source_has_planned_is_lacking(made):
    both = [{**parse(name), "prune_ratio": 0.5} for name in ("orderdp", "dynamic_random")]
    labels = ("full data", "OrderDP 50 %", "dynamic random 50 %")
    folders = [
        made(f"seed{seed}", methods=tuple(both[: 2 - seed]), against=("full",), seeds=(seed,)) for seed in (0, 1)
    ]
    for folder, there in zip(folders, (labels, labels[:2]), strict=True):
        for label in there:
            folder.finish(label, (90.0,))
    joined = join([Source(folder.path, read_folder(folder.path)) for folder in folders])
    study = Study("mine", "cpu", None, {"digits": folders[0].plan}, {}, {})
    assert _lacking(study, "digits", Task(results_of(joined.records), joined, 2)) == ["1 run"]


@in_repository
def test_a_question_that_the_paper_leaves_open_is_answered_by_all_tables_of_accuracy(page):
    """Its text speaks of single classes, or of the loss, which stand in tables of their own."""
    tables = {each.name: [table.title for table in each.tables] for each in page.left_open}
    assert {"shuttle: Mean accuracy of the classes", "shuttle: Accuracy of the worst class"} <= {
        *tables["open_tabular"]
    }


def test_what_a_task_lacks_is_counted_in_seeds_and_in_static_methods(pair):
    subsets = SimpleNamespace(labels=lambda: {"el2n": "EL2N", "grand": "GraNd"})
    study = Study("mine", "cpu", None, {"digits": pair.plan}, {}, {"digits": subsets})
    assert _lacking(study, "digits", Task(read_results(pair.path), None, 8)) == [
        "5 of 8 seeds",
        "2 of the methods and prune ratios, such as EL2N",
    ]


def test_a_seed_without_any_run_lacks_as_a_seed(made):
    folder = made(methods=({**parse("orderdp"), "prune_ratio": 0.5},), against=("full",), seeds=(0, 1))
    folder.finish("full data", (90.0,), seeds=(0,)).finish("OrderDP 50 %", (90.0,), seeds=(0,))
    study = Study("mine", "cpu", None, {"digits": folder.plan}, {}, {})

    def lacking():
        return _lacking(study, "digits", Task(read_results(folder.path), None, 3))

    assert lacking() == ["2 of 3 seeds"]
    folder.finish("full data", (91.0,), seeds=(1,))
    assert lacking() == ["1 of 3 seeds", "1 run"]


def test_a_search_lacks_its_end_though_none_of_its_planned_runs(tiny_recipe, tmp_path):
    plan = searching(tiny_recipe(), [parse("orderdp"), parse("ucb")], (0.5,), margin=1.0, seeds_max=4)
    folder = Made(tmp_path / "search", plan)
    for label, wobble in (("full data", 0.0), ("OrderDP 50 %", 0.1), ("UCB 50 %", 9.0)):
        folder.finish(label, (90.0, 90.0 - wobble, 90.0 + wobble))
    wider = searching(tiny_recipe(), list(map(parse, ("orderdp", "ucb", "dynamic_random"))), (0.5,), margin=1.0)
    task = Task(read_results(folder.path), None, None)
    for asked, unfinished in ((plan, "UCB"), (wider, "UCB and dynamic random")):
        study = Study("mine", "cpu", None, {"digits": asked}, {}, {})
        assert _lacking(study, "digits", task) == [f"the end of the search of {unfinished}"]


def test_printed_numbers_are_held_against_at_the_size_of_the_paper_alone(pair):
    results = read_results(pair.path)
    title = "{dataset}, {model}: accuracy".format(**results.recipe)
    rows = {"OrderDP": ["91.0"], "full data": ["91.0"]}
    tasks = {"digits": Task(results, None, 3)}
    for shown, expected in ((title, ["numbers", "order"]), ("CIFAR-10, ResNet-18", ["order"])):
        outline = Outline("mine", published=(Published(shown, ("method", "50 %"), rows),))
        for size in ("cpu", "gpu", "paper"):
            found = [held.table.name for _, held in _held(size, outline, tasks)]
            assert found == (expected if size == "paper" else ["order"])


def test_an_exact_number_that_is_not_the_printed_one_is_outside():
    place = Place("table10", "Table 10", None, Kind.PRINTED)
    header, rows = ("method", "computed", "printed"), [("1.5", "2.5", "2.5"), ("1.5", "2.5", "1.5")]
    shown = _of_exact(place, Shown({}, {}, (header, rows), "Why."))
    assert [line[-1] for line in shown.tables[0].lines[1:]] == [f"2.5 {WITHIN}", f"1.5 {OUTSIDE}"]
    assert shown.tables[0].note == "Why."
    assert shown.marks == {WITHIN: 1, OUTSIDE: 1}


def test_the_sentences_of_print_count_its_marks():
    outline = Outline("mine", published=(Published("Accuracy", ("method",), {}),))
    marks = {"order": {SAME: 1, ORDER: 2, OTHER: 4, OPEN: 8}, "numbers": {WITHIN: 3, OUTSIDE: 5, OPEN: 9}}
    held = [(outline.published[0], Held(Table(name, "", []), Counter(of))) for name, of in marks.items()]
    assert list(_against_print(outline, held)) == [
        "Order: of 15 comparisons with a printed difference, the printed sign is seen in 3, in 1 of these with the "
        "printed size in the interval. Another sign is seen in 4, and the sign is open in 8.",
        "Numbers: of 17 printed numbers, 3 within the interval, 5 outside, and 9 open.",
    ]


def test_the_shorter_schedule_is_counted_in_cases():
    assert list(_against_shorter(Counter(better=1, worse=2, open=4))) == [
        "Shorter schedule: the method named first is better in 1 of 7 cases, worse in 2, and open in 4."
    ]
    assert list(_against_shorter(Counter())) == []


def test_a_study_is_run_when_all_its_tasks_are_whole(pair):
    study = Study("mine", "cpu", None, {"a": pair.plan, "b": pair.plan}, {}, {})
    whole, begun = (Task(read_results(pair.path), None, seeds) for seeds in (3, 4))
    assert _state(study, {"a": whole, "b": whole}) == "run"
    assert _state(study, {"a": whole}) == "partly run: 1 of 2 tasks whole"
    assert _state(study, {"a": whole, "b": begun}) == "partly run: 1 of 2 tasks whole, 1 more begun"


def test_in_markdown_a_question_stands_before_its_answers(tmp_path):
    exhibit = Exhibit(
        *("figure9", "Figure 9", "run"),
        asks="Is it?",
        claim="It is.",
        seen=["Here."],
        tables=[Table("t", "T", [["a"], ["b"]])],
        pictures=[tmp_path / "docs" / "p.svg"],
        deviations=["A.", "B."],
        reports={"digits": tmp_path / "tables.md"},
    )
    text = as_markdown(Page("cpu", [exhibit], [], []), tmp_path / "docs")
    assert text.partition("## Figure 9\n\n")[2].splitlines() == [
        *("Is it?", "", "- **State:** run.", "- **The paper reads:** It is.", "- Here."),
        *("- **Deviation:** A.", "- **Deviation:** B.", "- **All tables:** [digits](../tables.md).", ""),
        *("**T**", "", "| a |", "| --- |", "| b |", "", "![Figure 9](p.svg)"),
    ]


def test_a_figure_has_the_charts_of_the_first_section_that_has_any(monkeypatch):
    sections = {name: Section(name, charts=[Chart(name, name, None, "")]) for name in ("b", "c")}
    monkeypatch.setattr(module, "_section", lambda name, *_: sections.get(name))
    outline, task = SimpleNamespace(sections=("a", "b", "c")), SimpleNamespace(results=None)
    assert [chart.title for chart in module._charts(outline, {"x": task, "y": task})] == ["x: b", "y: b"]


def test_what_was_left_out_or_failed_is_said(pair, monkeypatch):
    study = Study("mine", "cpu", None, {"another": pair.plan}, {}, {})
    task = Task(read_results(pair.path), Joined(None, {}, ["a.jsonl.xz, which has another max_lr"]), 3)
    monkeypatch.setattr(module, "answers", lambda name, tasks: (f"{name}, {part}." for part in tasks))
    bare = Exhibit("mine", "Mine", "run", printed=False, seen=["Before."])
    shown = module._of_runs(bare, find_study("open_mae").file, study, Outline("mine"), {"of another plan": task})
    assert shown.seen == [
        "Before.",
        "mine, of another plan.",
        "Shorter schedule: the method named first is better in 1 of 1 case, worse in 0, and open in 0.",
        "Left out: a.jsonl.xz, which has another max_lr.",
    ]
    monkeypatch.setattr(module, "places", lambda: [place for place in places() if place.name == "open_stream"])
    failed = [Failure(name, "", name, name, "no data") for name in ("open_text", "open_stream")]
    (stream,) = page_of("cpu", Found(failed=failed)).left_open
    assert (stream.state, stream.seen) == ("not run", ["Could not be run: all of it: no data."])


def test_a_commit_that_nobody_knows_is_said_in_words(tmp_path, monkeypatch):
    origin = {"size": "cpu", "commit": None, "device": "a processor", "finished": "2026-03-10T12:00:00+00:00"}
    monkeypatch.setattr(module, "places", lambda: [place for place in places() if place.name == "open_stream"])
    monkeypatch.setattr(module, "origin_in", lambda *_: origin)
    (stream,) = page_of("cpu", Found(computed={"open_stream": tmp_path})).left_open
    assert stream.tables[-1].lines[1] == ["not recorded", "a processor", "2026-03-10"]


def test_the_page_of_the_smallest_size_says_that_it_is_of_digits():
    html = [as_html(Page(size, [], [], [])) for size in ("smoke", "cpu")]
    assert ["<h1>The paper at size smoke, on digits</h1>" in text for text in html] == [True, False]
    assert ["whatever data its heading names" in text for text in html] == [True, False]
    small, other = (as_markdown(page_of(size, Found()), ROOT) for size in ("smoke", "cpu"))
    assert small.startswith("# The paper at size smoke, on digits\n")
    assert "whatever data its heading names" in small
    assert other.startswith("# The paper at size cpu\n")
    assert "whatever data" not in other


def test_at_the_smallest_size_all_that_trains_runs_on_digits():
    studies = [load_study(row.file, "smoke") for row in catalogue().values() if row.file]
    assert {plan.recipe.dataset for study in studies for plan in study.parts.values()} == {"digits"}


@in_repository
def test_the_accuracies_stand_on_the_page_and_not_their_differences_alone(page):
    tables = {each.name: [table.title for table in each.tables] for each in page.exhibits}
    assert {"cifar10: Accuracy", "cifar100: Accuracy"} <= {*tables["table1"]}
    of_parts = ("Test accuracy, %, by part of the run", "Gradient norm, by part of the run", "Accuracy")
    assert {f"cifar10: {title}" for title in of_parts} <= {*tables["table9"]}


@in_repository
def test_hours_stand_on_the_page_of_the_study_that_the_paper_gives_in_hours(page):
    with_hours = {each.name for each in page.exhibits for table in each.tables if table.title.endswith("in hours")}
    assert with_hours == {"table3"}


@in_repository
def test_no_two_headings_begin_alike(page):
    """The contents of the HTML page name each by what stands before the colon."""
    labels = [each.title.partition(":")[0] for each in page.exhibits]
    assert len(set(labels)) == len(labels)


@in_repository
def test_what_is_computed_says_below_its_table_what_to_see_in_it(page):
    for each in page.exhibits:
        if each.name.startswith("theorem"):
            assert "contradict" in each.tables[0].note, each.name
            assert each.tables[0].note in as_markdown(page, ROOT)
        if each.name == "table10":
            assert all(number in each.tables[0].note for number in ("3/25 and 9/50", "1/10 and 1/5", "4.24"))

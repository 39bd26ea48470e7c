"""What the page says of runs: settings other than the paper's, where they come from, the shorter schedule."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from orderdp.comparison.results import read_results
from orderdp.output.toml import parse_toml
from orderdp.paper.runs_shown import Task, against_short, origins, other_settings, reports
from orderdp.paper.sources import Joined
from orderdp.paper.studies import find_study
from orderdp.paper.study import load_study
from orderdp.strategies.registry import parse
from orderdp.training.recipe import gathered

CLASSES = {"num_classes": 10}


@pytest.fixture
def named():
    """Returns the table of settings of a study at a size, with those of a task changed; its lines by setting.

    Of the seeds of the study, so many were planned in the archive; None for all.
    """

    def found(name, size, planned=None, result=CLASSES, **changes):
        file = find_study(name).file
        study = load_study(file, size)
        tasks = {}
        for part, plan in study.parts.items():
            recipe = gathered(parse_toml(plan.recipe.model_copy(update=changes).to_toml()))
            entries = {"full data": SimpleNamespace(results={0: result, 1: {}})}  # a seed of release 0.1
            sizes = SimpleNamespace(num_samples=1_600)
            results = SimpleNamespace(recipe=recipe, seeds=plan.seeds[:planned], entries=entries, sizes=sizes)
            tasks[part] = SimpleNamespace(results=results, seeds=len(plan.seeds))
        tables = other_settings(file, study, tasks)
        return {key: cells for key, *cells in tables[0].lines[1:]} if tables else {}

    return found


def test_every_setting_of_a_recipe_is_compared(named):
    found = named("table5", "cpu")
    assert found.keys() >= {"dataset", "train_size", "ema", "drop_path", "final_div_factor", "batch_size", "finetune"}
    assert found["drop_path"] == ["0.0, 0.1", "0.0, 0.2"]
    assert found["finetune"][0] == "none, epochs 8 and max_lr 0.001"
    assert found["train_size"][1] == "all"
    assert not found.keys() & {"data_root", "num_threads", "num_workers", "evaluations", "seed", "strategy"}


def test_one_setting_alone_is_seen(named):
    before = named("table2", "cpu")
    assert "label_smoothing" not in before
    after = named("table2", "cpu", label_smoothing=0.0)
    assert after == {**before, "label_smoothing": ["0.0", "0.1"]}


def test_a_folder_of_images_is_not_taken_for_imagenet(named):
    assert named("table3", "cpu")["dataset"] == ["a folder with 1,600 images of 10 classes", "ImageNet-1K"]
    assert named("table3", "cpu", result={})["dataset"][0] == "a folder with 1,600 images"  # of release 0.1
    assert named("table3", "paper") == {}


def test_a_study_that_was_begun_has_the_seeds_of_its_size(named):
    assert "seeds" not in named("table3", "cpu", planned=1)
    assert named("table9", "cpu", planned=1)["seeds"] == ["3", "10"]


def test_runs_at_the_size_of_the_paper_have_no_other_settings_while_tasks_are_missing():
    file = find_study("table2").file
    assert other_settings(file, load_study(file, "paper"), {}) == []


def test_a_split_that_selects_nothing_by_score_does_not_stand_for_the_method(made):
    methods = "orderdp,prune_ratio=0.2", "orderdp,explore=0.5,exploit=1", "orderdp,explore=0.8,exploit=0.625"
    folder = made(methods=tuple(map(parse, methods)), against=("short",), seeds=(0, 1, 2))
    short = "full data, steps of OrderDP"
    for label, accuracies in {
        "OrderDP 20 %": (91.0, 91.1, 91.2),
        f"{short} 20 %": (90.0, 90.0, 90.1),
        "OrderDP explore 0.5 exploit 1": (88.0, 88.1, 88.0),
        "OrderDP explore 0.8 exploit 0.625": (90.0, 90.1, 90.2),
        f"{short} explore 0.5 exploit 1": (89.0, 89.0, 89.1),
    }.items():
        folder.finish(label, accuracies)
    tables, counts = against_short({"digits": Task(read_results(folder.path), None, 3)})
    header, *rows = tables[0].lines
    assert header == ["task and method", "20 %", "50 %"]
    assert [(label, bool(first), bool(second)) for label, first, second in rows] == [
        ("digits, OrderDP", True, False),
        ("digits, OrderDP explore 0.5 exploit 1", False, True),
        ("digits, OrderDP explore 0.8 exploit 0.625", False, True),  # each ratio under the method that it is of
    ]
    assert [cell.split()[-1] for row in rows for cell in row[1:] if cell] == ["better", "worse", "better"]
    assert tables[0].note.endswith("Counted above: OrderDP, OrderDP explore 0.8 exploit 0.625.")
    assert counts == {"better": 2}


def test_each_method_stands_beside_a_schedule_of_its_own_steps_and_the_first_is_counted(made):
    methods = "orderdp,prune_ratio=0.5", "orderdp,prune_ratio=0.5,initial_score=3.0", "infobatch,prune_ratio=0.5"
    folder = made(methods=tuple(map(parse, methods)), against=("short",), seeds=(0, 1, 2))
    for label, accuracies in {
        "OrderDP 50 %": (91.0, 91.1, 91.2),
        "OrderDP 50 % unseen at 3": (95.0, 95.0, 95.0),
        "InfoBatch 50 %": (92.0, 92.1, 92.2),
        "full data, steps of OrderDP 50 %": (90.0, 90.0, 90.1),
        "full data, steps of InfoBatch 50 %": (94.0, 94.2, 94.1),
    }.items():
        folder.finish(label, accuracies)
    tables, counts = against_short({"digits": Task(read_results(folder.path), None, 3)})
    assert [(row[0], row[1].split()[-1]) for row in tables[0].lines[1:]] == [
        ("digits, OrderDP", "better"),
        ("digits, OrderDP unseen at 3", "better"),
        ("digits, InfoBatch", "worse"),
    ]
    assert counts == {"better": 1}


def test_where_nothing_selects_by_score_none_is_counted(made):
    folder = made(methods=(parse("orderdp,explore=0.5,exploit=1"),), against=("short",), seeds=(0, 1, 2))
    label = "OrderDP explore 0.5 exploit 1"
    folder.finish(label, (90.0, 90.1, 90.2)).finish(f"full data, steps of {label}", (89.0, 89.0, 89.1))
    tables, counts = against_short({"digits": Task(read_results(folder.path), None, 3)})
    assert (len(tables[0].lines), counts) == (2, {})
    assert tables[0].note.endswith("Counted above: none.")


def test_fixed_subsets_have_no_row_and_do_not_count(made):
    """Neither where they stand first, nor where they stand alone."""
    methods = "ucb,prune_ratio=0.5", "orderdp,prune_ratio=0.5", "ucb,prune_ratio=0.7"
    folder = made(methods=tuple(map(parse, methods)), against=("short",), seeds=(0, 1, 2))
    for ratio in ("50 %", "70 %"):
        folder.finish(f"UCB {ratio}", (80.0, 80.1, 80.2)).finish(f"full data, steps of UCB {ratio}", (90.0, 90.1, 90.1))
    folder.finish("OrderDP 50 %", (91.0, 91.1, 91.2))
    folder.finish("full data, steps of OrderDP 50 %", (90.0, 90.1, 90.1))
    results = read_results(folder.path)
    for label in ("UCB 50 %", "UCB 70 %"):
        results.entries[label] = replace(results.entries[label], strategy={"name": "fixed"})
    (table,), counts = against_short({"digits": Task(results, None, 3)})
    assert [row[0] for row in table.lines[1:]] == ["digits, OrderDP"]
    assert (counts, table.note.rpartition(": ")[2]) == ({"better": 1}, "OrderDP.")


def test_classes_that_have_a_table_are_compared_with_the_shorter_schedule_too(pair):
    def tables(name, pruned, full):
        for label in ("OrderDP 50 %", "full data", "full data, steps of OrderDP 50 %"):
            for seed, added in enumerate(full if label.startswith("full") else pruned):
                run = pair.folder(label, seed)
                result = run.result()
                run.write_result({**result, name: result["accuracy_last"] + added})
        return against_short({"digits": Task(read_results(pair.path), None, 3)})[0]

    (of_all,) = tables("accuracy_mean_class", (0.3, 0.2, 0.1), (0.5, 0.0, 0.0))  # says what the accuracy says
    assert of_all.lines[1:] == [["digits, OrderDP", "+0.83 [+0.12, +1.55] better"]]
    again, of_rare = tables("accuracy_rare_classes", (-50.0, -50.0, -50.0), (-43.0, -43.5, -43.0))
    assert (again, of_rare.title) == (of_all, "Accuracy of the rare classes, minus full data for as many steps")
    assert of_rare.lines == [["task and method", "50 %"], ["digits, OrderDP", "−6.00 [−6.28, −5.72] worse"]]
    _, of_mean, _ = tables("accuracy_mean_class", (0.0, 0.0, 0.0), (0.0, 0.5, 9.0))
    assert of_mean.lines[1][1] == "−2.33 [−14.59, +9.92] open"


def test_runs_of_a_seed_of_two_machines_or_commits_are_named(pair):
    def shown(label, seed, **changes):
        file = pair.folder(label, seed).path / "result.json"
        before = file.read_text()
        file.write_text(json.dumps({**json.loads(before), **changes}))
        table, mixed = origins({"digits": Task(read_results(pair.path), None, 3)})
        file.write_text(before)
        return table.lines[1:], mixed

    day = "2026-03-10"
    assert shown("full data", 1) == ([["digits", "0, 1, 2", "9", "not recorded", "a processor", day]], [])
    rest = ["digits", "0, 2", "6", "not recorded", "a processor", day]
    another = ["digits", "1", "3", "not recorded", "a processor and another", day]
    assert shown("full data", 1, device="another") == ([rest, another], ["digits"])
    lines, mixed = shown("full data", 1, finished="2026-03-09T23:00:00+00:00")
    assert (lines[1][-1], mixed) == (f"2026-03-09 and {day}", [])
    for run in pair.path.glob("*-seed1/result.json"):
        run.write_text(json.dumps({**json.loads(run.read_text()), "commit": "abc"}))
    assert shown("full data", 1)[1] == []
    assert shown("full data", 1, commit="abd")[1] == ["digits"]
    lines, mixed = shown("full data", 1, commit=None)  # made outside a checkout
    assert (lines[1][3], mixed) == ("abc and not recorded", ["digits"])
    lines, mixed = shown("full data", 1, commit="abc and abd")  # went on after a commit
    assert (lines[1][3], mixed) == ("abc and abd", ["digits"])
    for run in pair.path.glob("*-seed1/result.json"):
        run.write_text(json.dumps({**json.loads(run.read_text()), "commit": "abc and abd"}))
    assert shown("full data", 1)[1] == ["digits"]  # each of its runs


def test_of_many_days_the_first_and_the_last_are_shown(pair):
    for day, run in enumerate(sorted(pair.path.glob("*-seed1/result.json")), 1):
        run.write_text(json.dumps({**json.loads(run.read_text()), "finished": f"2026-03-0{day}T01:00:00+00:00"}))
    table, _ = origins({"digits": Task(read_results(pair.path), None, 3)})
    assert {row[1]: row[-1] for row in table.lines}["1"] == "2026-03-01 and 2026-03-03"


def test_tables_are_linked_that_lie_beside_an_archive_and_not_beside_a_folder(tmp_path):
    (archive, tables), folder = (tmp_path / name for name in ("a.jsonl.xz", "tables.md")), tmp_path / "run"
    archive.touch()
    tables.touch()
    folder.mkdir()
    tasks = {path.name: Task(None, Joined(None, {0: path}, ()), 1) for path in (archive, folder)}
    assert reports(tasks) == {"a.jsonl.xz": tables}


def test_runs_are_counted_of_those_that_are_planned(pair):
    (pair.folder("full data", 2).path / "result.json").unlink()
    table, _ = origins({"digits": Task(read_results(pair.path), None, 3)})
    assert [line[1:3] for line in table.lines] == [["seeds", "runs"], ["0, 1, 2", "8 of 9"]]


def test_the_seeds_of_a_difference_are_said_if_a_planned_one_is_missing(pair):
    """Planned in the runs that are read: how many the study has by now stands elsewhere."""
    before, after = (against_short({"digits": Task(read_results(pair.path), None, seeds)})[0] for seeds in (3, 5))
    assert before == after
    assert "pairs" not in before[0].lines[1][1]
    (pair.folder("OrderDP 50 %", 2).path / "result.json").unlink()
    ((table,), _) = against_short({"digits": Task(read_results(pair.path), None, 3)})
    assert "(2 of 3 pairs)" in table.lines[1][1]

"""`orderdp report` on the command line."""

from pathlib import Path

import pytest

from reference.command_line import TINY


def test_report_writes_a_page_and_prints_where_it_is(call, small):
    assert call("report", "run") == (0, "run/report/report.html\n", "")
    assert Path("run/report/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert call("report", "run", "--accuracy", "5", "100") == (0, "run/report/report.html\n", "")
    header, first = Path("run/report/tables/time_to_accuracy.csv").read_text().splitlines()[:2]
    assert header == "run,5 %,100 %"
    assert first.endswith(",never")


def test_an_archive_may_leave_the_epochs_out(call, small):
    assert call("report", "run", "--archive", "thin.xz", "--without-epochs") == (0, "thin.xz\n", "")
    assert call("report", "thin.xz") == (0, "report/report.html\n", "")
    message = "orderdp: --without-epochs is for an archive, got none; write --archive FILE\n"
    assert call("report", "run", "--without-epochs") == (2, "", message)


def test_report_on_the_folder_of_train_is_the_same_page(call):
    assert call("train", *TINY, "--run", "run", "--against")[0] == 0
    assert call("report", "run") == (0, "run/report/report.html\n", "")
    assert call("train", *TINY, "--strategy", "full", "--run", "full")[0] == 0
    assert call("report", "full") == (0, "full/report/report.html\n", "")


def test_a_report_names_damaged_runs_on_the_terminal_and_what_to_do(call, small):
    damaged = small / "full-data-seed0"
    whole = (damaged / "metrics.jsonl").read_text()
    (damaged / "metrics.jsonl").write_text("")
    (small / "dynamic-random-50-seed0" / "result.json").unlink()
    why = f"metrics.jsonl lacks epochs: 0 of 1; delete {damaged / 'result.json'} and resume with --resume"
    line = f"orderdp: some runs are missing, damaged: full data, seed 0 ({why}); "
    line += "not finished: dynamic random 50 %, seed 0\n"
    assert call("report", "run") == (1, "run/report/report.html\n", line)
    assert call("report", "run", "--archive", "a.xz") == (1, "a.xz\n", line)
    assert call("report", "a.xz", "--tables", "tables.md") == (1, "tables.md\n", line)
    (damaged / "metrics.jsonl").write_text(whole)
    line = "orderdp: some runs are missing, not finished: dynamic random 50 %, seed 0\n"
    assert call("report", "run") == (0, "run/report/report.html\n", line)


def test_a_report_names_damaged_runs_also_if_none_is_left(call, small):
    for result in small.glob("*/result.json"):
        result.write_text("{}")
    status, out, err = call("report", "run")
    assert (status, out, err.count("must hold the result of a run")) == (2, "", 4)
    assert err.splitlines()[-1].startswith("orderdp: a report needs a finished run, got none in run; resume with")


def test_a_report_names_a_few_of_many_open_runs(call, made):
    pair = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=tuple(range(20)), against=())
    pair.finish("OrderDP 50 %", (90.0,), seeds=(0,))
    named = "; ".join(f"OrderDP 50 %, seed {seed}" for seed in range(1, 11))
    status, _, err = call("report", str(pair.path))
    assert (status, err) == (0, f"orderdp: some runs are missing, not finished: {named}; and 9 more\n")


REFUSED_REPORTS = {
    "no folder": (
        "nothing",
        "a folder of runs must hold comparison.toml or study.toml, got nothing, which does not exist; "
        "write the folder of an earlier 'orderdp compare', 'orderdp train' or 'orderdp study'",
    ),
    "a folder of something else": (
        ".",
        "a folder of runs must hold comparison.toml or study.toml, got .; "
        "write the folder of an earlier 'orderdp compare', 'orderdp train' or 'orderdp study'",
    ),
}


@pytest.mark.parametrize(("folder", "line"), list(REFUSED_REPORTS.values()), ids=list(REFUSED_REPORTS))
def test_a_report_on_nothing_gets_one_line(call, here, folder, line):
    assert call("report", folder) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


def test_a_report_without_a_folder_is_a_mistaken_call(call):
    status, _, err = call("report")
    assert (status, err.startswith("orderdp report: the following arguments are required: DIR; ")) == (2, True)
    status, _, err = call("report", "run", "--accuracy", "high")
    assert (status, "argument --accuracy: an accuracy is a percentage in (1, 100], got high; write 90" in err) == (
        2,
        True,
    )
    status, _, err = call("report", "run", "--accuracy", "0.8")
    assert (status, "got 0.8; for 80 % write 80" in err) == (2, True)
    status, _, err = call("report", "run", "--accuracy", "101")
    assert (status, "got 101; write 90" in err) == (2, True)


def test_several_folders_and_archives_are_joined(call, made):
    for seed in (0, 1):
        made(f"seed{seed}", seeds=(seed,), against=("full",)).finish("full data", (90.0 + seed,)).finish(
            "OrderDP", (80.0,)
        )
    assert call("report", "seed0", "--archive", "seed0.xz") == (0, "seed0.xz\n", "")
    assert call("report", "seed0.xz", "seed1", "--archive", "all.xz", "--tables", "all.md") == (
        0,
        "all.xz\nall.md\n",
        "",
    )
    assert "90.50" in Path("all.md").read_text(encoding="utf-8")
    assert call("report", "all.xz") == (0, "report/report.html\n", "")
    line = "the page of a report lies beside one folder or archive, got 2; "
    line += "join them with --archive FILE, and report that file"
    assert call("report", "seed0", "seed1") == (2, "", f"orderdp: {line}\n")

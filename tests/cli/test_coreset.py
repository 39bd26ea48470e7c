"""`orderdp coreset` from a recipe to files, plots and tables, and training on one of its subsets."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from orderdp.comparison.archive import read_archive
from orderdp.data.registry import load_dataset
from orderdp.report import coreset_plots
from orderdp.training import coreset_run
from reference.command_line import TINY

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SCORE = ["coreset", *TINY, "--methods", "random", "el2n,epoch=1", "ccs,scores=el2n-1", "--prune-ratio", "0.3", "0.5"]
SCORE += ["--output", "out"]


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(coreset_plots, "draw_coreset_plots", lambda *_: [])


@pytest.fixture
def out(call, no_plots):
    """A folder of scores and subsets."""
    status, _, err = call(*SCORE)
    assert status == 0, err
    return Path("out")


def test_a_call_writes_scores_subsets_plots_and_tables(call):
    status, text, err = call(*SCORE)
    assert status == 0, err
    told = re.sub(r"[\d.]+ s", "# s", err).splitlines()
    assert told == ["[1/3] random: # s", "proxy: # s", "[2/3] EL2N-1: # s", "[3/3] CCS of EL2N-1: # s"]
    names = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    plots = {"scores.png", "correlations.png", "images-random.png", "images-el2n-1.png"}
    files = {"coreset.toml", "recipe.toml", "scores.parquet", "subsets.parquet", "agreement.md", "lock"}
    assert names == files | {f"plots/{name}" for name in plots}
    scores = parquet.read_table("out/scores.parquet")
    assert scores.column_names == ["seed", "sample_id", "row", "label", "random", "el2n-1"]
    assert scores["sample_id"].to_pylist() == list(range(200))
    assert json.loads(scores.schema.metadata[b"orderdp"])["methods"]["el2n-1"]["proxies"] == 1
    subsets = (
        parquet.read_table("out/subsets.parquet").group_by(["method", "prune_ratio"]).aggregate([([], "count_all")])
    )
    counts = {(row["method"], row["prune_ratio"]): row["count_all"] for row in subsets.to_pylist()}
    assert counts == {
        (key, ratio): size for key in ("random", "el2n-1", "ccs-el2n-1") for ratio, size in ((0.3, 140), (0.5, 100))
    }
    assert text.splitlines()[2:5][1].startswith("1 random  1.00")
    markdown = Path("out/agreement.md").read_text()
    assert "| 2 EL2N-1 |" in markdown
    assert "| 3 CCS of EL2N-1 |" in markdown
    assert text.rstrip().endswith(
        "orderdp compare --methods orderdp fixed:out/subsets.parquet,method=ccs-el2n-1 --prune-ratio 0.3 0.5 "
        "--train-size 200"
    )
    assert "(random, el2n-1, ccs-el2n-1 are in the file)" in text


def test_the_rows_are_positions_in_the_whole_data_set(out):
    whole, part = load_dataset("digits"), load_dataset("digits", train_size=200)
    for name in ("scores", "subsets"):
        table = parquet.read_table(out / f"{name}.parquet")
        rows, ids = (torch.tensor(table[column].to_pylist()) for column in ("row", "sample_id"))
        assert torch.equal(whole.train.images[rows], part.train.images[ids])
    assert len(set(rows.tolist())) > 100
    held = part.holding_out(0.1)
    assert torch.equal(whole.train.images[held.rows], held.train.images)


def test_a_subset_is_refused_for_other_data(call, out):
    typed = [*COMPARE, "--label-noise", "0.1"]
    status, text, err = call(*typed)
    line = "the data must be that of out/subsets.parquet, got other samples or labels; write the dataset, --train-size "
    assert (status, text, err) == (2, "", f"orderdp: {line}and --label-noise that it was made for\n")
    assert not Path("run").exists()


def test_a_second_call_trains_no_proxy_and_writes_the_same_files(call, out, monkeypatch):
    monkeypatch.setattr("orderdp.training.proxy_training._Training", lambda *_: pytest.fail("trained again"))
    assert call(*SCORE[:-1], "again")[0] == 0
    for name in ("scores.parquet", "subsets.parquet", "agreement.md"):
        assert Path("again", name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.usefixtures("no_plots")
def test_a_killed_call_is_finished_by_resume(call, in_child, kill_at):
    def work():
        kill_at(coreset_run, "_write_part", 2)
        call(*SCORE)

    assert in_child(work) == -signal.SIGKILL
    assert not Path("out/scores.parquet").exists()
    status, text, err = call("coreset", "--resume", "out")
    assert (status, err.count("random:")) == (0, 0)
    assert "2 EL2N-1" in text
    assert parquet.read_table("out/subsets.parquet").num_rows == 3 * 240


def test_ctrl_c_says_how_to_resume(call, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(coreset_run, "_carried_out", stop)
    assert call(*SCORE)[::2] == (130, "orderdp: stopped; resume with orderdp coreset --resume out\n")


COMPARE = ["compare", *TINY, "--methods", "orderdp", "fixed:out/subsets.parquet,method=el2n-1"]
COMPARE += ["fixed:out/subsets.parquet,method=ccs-el2n-1", "--prune-ratio", "0.5", "--seed", "0", "--run", "run"]


def test_a_subset_is_compared_beside_dynamic_methods_and_read_without_its_file(call, out):
    status, text, err = call(*COMPARE)
    assert status == 0, err
    rows = [line.split("  ")[0] for line in text.splitlines()]
    assert rows[1:5] == ["OrderDP 50 %", "EL2N-1 50 %", "CCS of EL2N-1 50 %", "dynamic random 50 %"]
    run = Path("run/EL2N-1-50-seed0")
    result = json.loads((run / "result.json").read_text())
    assert result["samples_backward"] == 100
    assert result["samples_before"] == 200  # one epoch of one proxy
    ccs = json.loads(Path("run/CCS-of-EL2N-1-50-seed0/result.json").read_text())
    assert ccs["samples_before"] == 200  # that of its scores
    dynamic = json.loads(Path("run/OrderDP-50-seed0/result.json").read_text())
    assert dynamic["samples_before"] == 0
    assert call("report", "run", "--tables", "tables.md")[0] == 0
    assert re.search(r"^\| EL2N-1 50 % \|.*100 \| −50.0 % \|", Path("tables.md").read_text(), flags=re.MULTILINE)
    assert "in full for each method" in Path("tables.md").read_text()
    recipe = (run / "recipe.toml").read_text()
    assert len(recipe) < 1_500
    assert 'title = "EL2N-1"' in recipe
    shutil.rmtree(out)
    assert call("report", "run", "--archive", "runs.xz")[0] == 0
    assert Path("runs.xz").stat().st_size < 10_000
    assert call("report", "runs.xz", "--tables", "tables.md")[0] == 0
    assert "| CCS of EL2N-1 50 % |" in Path("tables.md").read_text()
    (planned,) = [run for run in read_archive(Path("runs.xz")).parts[""].planned.runs if run.method == "EL2N-1"]
    assert (planned.ratio, planned.strategy["file"]) == (0.5, "out/subsets.parquet")


def test_a_run_trains_exactly_the_samples_of_the_file(call, out):
    assert (
        call(
            "train",
            *TINY,
            "--strategy",
            "fixed:out/subsets.parquet,method=el2n-1",
            "--prune-ratio",
            "0.3",
            "0.5",
            "--against",
            "--run",
            "run",
        )[0]
        == 0
    )
    from orderdp.report.plots import _table
    from orderdp.training.run_folder import RunFolder

    table = parquet.read_table(out / "subsets.parquet").to_pylist()
    for ratio, name in ((0.3, "EL2N-1-30-seed0"), (0.5, "EL2N-1-50-seed0")):
        kept = sorted(row["sample_id"] for row in table if (row["method"], row["prune_ratio"]) == ("el2n-1", ratio))
        assert np.flatnonzero(_table(RunFolder(Path("run", name)))["visits"]).tolist() == kept


def test_a_run_is_not_resumed_with_another_file_and_a_rerun_is_refused(call, out):
    assert call(*COMPARE)[0] == 0
    run = Path("run/EL2N-1-50-seed0")
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoint")
    shutil.rmtree(out)
    assert call(*SCORE, "--seed", "1")[0] == 0
    refused = r"file must hold the subsets that the recipe names, sha256 \w{12}, got out/subsets.parquet with \w{12}; "
    status, _, err = call("compare", "--resume", "run")
    assert status == 1
    assert re.search(f"EL2N-1 50 %, seed 0 failed: {refused}put the first file back, or start a new run\n", err)
    status, _, err = call("train", "--recipe", str(run / "recipe.toml"), "--run", "again")
    assert (status, err.count("\n")) == (2, 1)
    assert re.match(f"orderdp: {refused}", err)
    assert not Path("again").exists()


def test_a_resumed_comparison_takes_other_ratios_of_the_file(call, out):
    assert call(*COMPARE)[0] == 0
    assert call("compare", "--resume", "run", "--prune-ratio", "0.3")[0] == 0
    assert Path("run/EL2N-1-30-seed0/result.json").exists()
    status, _, err = call("compare", "--resume", "run", "--prune-ratio", "0.4")
    line = "prune_ratio must be one that out/subsets.parquet holds for el2n-1, got 0.4; write one of 0.3, 0.5"
    assert (status, err) == (2, f"orderdp: {line}\n")


BAD = {
    "coreset --methods el3n": "argument --methods: no static method named 'el3n'; did you mean 'el2n'? (",
    "coreset --methods random,el2n": (
        "argument --methods: several methods are separated by spaces, got random,el2n; write random el2n; "
    ),
    "coreset --methods ccs": "argument --methods: static method 'ccs' needs the scores of another method, got None; ",
    "coreset --methods el2n,epoch=20": "epoch must lie in 0 .. 10, the epochs of the proxy, got 20; write more epochs",
    "coreset --methods random tdds --epochs 3": "tdds needs at least 10 epochs of the proxy, got 3; write more",
    "coreset --methods dynamic_uncertainty,epoch=4": "dynamic_uncertainty needs at least 10 epochs of the proxy, got 4",
    "coreset --prune-ratio 0.3,0.5": "argument --prune-ratio: several values are separated by spaces, got 0.3,0.5; ",
    "coreset --prune-ratio 0": "--prune-ratio is a fraction and must lie in (0, 1), got 0; ",
    "coreset --quotas equl": "no quotas named 'equl'; did you mean 'equal'?",
    "coreset --quotas equal --prune-ratio 0.01": "a quota must not exceed the samples of its class, got 143 for",
    "coreset --proxies 0": "--proxies must be at least 1, got 0; write a positive whole number",
    "coreset --validation 20": "--validation is a fraction and must lie in [0, 1), got 20; for 20 % write 0.2",
    "coreset --seed x": "--seed must be a whole number, got 'x'; write --seed 0",
    "coreset --epochs 0": "--epochs must lie in [1, inf), got 0; write --epochs 30",
    "coreset --run out": "no option --run; did you mean '--output'? (",
    "coreset --resume no": "the folder must be one of 'orderdp coreset', with recipe.toml and coreset.toml, got no; ",
    "coreset --resume no --seed 1": "--resume takes its settings from the run folder, all but --data-root",
    "coreset --output .": "the output folder must be new, got ., which exists; write another --output, or --resume .",
    "train --strategy fixed:no.parquet": "file must be the subsets.parquet of 'orderdp coreset', got no",
    "compare --methods fixed:no.parquet": "file must be the subsets.parquet of 'orderdp coreset', got no",
    "compare --methods herding": (
        "argument --methods: herding is a static method, got it as a strategy; choose its subset with 'orderdp coreset "
        "--methods herding', and write fixed:FILE,method=herding; "
    ),
    "train --strategy craig": "argument --strategy: craig is a static method, got it as a strategy; choose its subset",
    "compare --methods fixed": "file is needed by strategy 'fixed', got None; write fixed:FILE",
}


@pytest.mark.parametrize(("typed", "line"), list(BAD.items()), ids=list(BAD))
def test_a_wrong_call_gets_one_line_and_writes_nothing(call, here, typed, line):
    status, out, err = call(*typed.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.sub(r"^orderdp[ \w]*: ", "", err).startswith(line)
    assert not list(here.iterdir())

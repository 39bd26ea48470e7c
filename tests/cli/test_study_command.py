"""`orderdp study` on the command line."""

import re
import shutil
from pathlib import Path

import pytest

from orderdp.comparison.grid import load_comparison
from orderdp.paper import study
from orderdp.paper.studies import catalogue
from reference.command_line import labels
from reference.log_lines import begun_or_failed


def test_an_interrupted_study_says_how_to_go_on(call, monkeypatch):
    def interrupt(*arguments, **named):
        Path("runs/table8-smoke").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "start_study", interrupt)
    line = "orderdp: stopped; resume with orderdp study --resume runs/table8-smoke\n"
    assert call("study", "table8") == (130, "", line)


def test_study_writes_and_names_its_files(call, here):
    status, out, err = call("study", "figure8")
    assert (status, err) == (0, "")
    names = ["figure8.csv", "figure8.png", "figure8.svg"]
    assert sorted(path.name for path in Path("runs/figure8").iterdir()) == names
    assert sorted(out.split()) == [f"runs/figure8/{name}" for name in names]
    assert call("study", "figure8", "--run", "elsewhere")[0] == 0
    assert Path("elsewhere/figure8.csv").read_bytes() == Path("runs/figure8/figure8.csv").read_bytes()


def test_an_unknown_study_gets_one_line(call, here):
    line = "orderdp: no study named 'figur5'; did you mean 'figure5'?\n"
    assert call("study", "figur5") == (2, "", line)
    status, _, err = call("study", "nothing")
    assert (status, err.partition("; ")[2]) == (2, f"choose from {', '.join(catalogue())}\n")
    assert not list(here.iterdir())


def test_help_lists_the_studies(call):
    out = call("study", "--help")[1]
    assert all(f"  {name} " in out for name in catalogue())
    assert all(row.takes in out for row in catalogue().values())
    numbered = re.findall(r"^  (figure|table|theorem)(\d+) ", out, flags=re.MULTILINE)
    assert numbered == sorted(numbered, key=lambda name: (name[0], int(name[1])))


@pytest.fixture
def short_studies(monkeypatch):
    """Shrinks every study to two epochs of 200 digits."""
    recipes_of = study._recipes

    def shrunk(*arguments):
        small = {"train_size": 200, "epochs": 2, "num_threads": 1}
        return [recipe.model_copy(update=small) for recipe in recipes_of(*arguments)]

    monkeypatch.setattr(study, "_recipes", shrunk)


@pytest.mark.usefixtures("short_studies")
def test_a_study_trains_and_writes_its_report_and_goes_on(call):
    status, out, err = call("study", "table11", "--seed", "0", "--device", "cpu")
    assert status == 0
    part, *_, last = out.splitlines()
    assert part == "digits"
    assert last == "report: runs/table11-smoke/report/report.html"
    plan, _ = load_comparison(Path("runs/table11-smoke/digits"))
    assert (plan.seeds, plan.recipe.device, plan.recipe.alignment) == ((0,), "cpu", 2)
    release = ["OrderDP 70 % unseen at 3", "OrderDP explore 0.8 exploit 0.375 unseen at 3"]
    assert labels(plan) == ["OrderDP 70 %", *release, "InfoBatch 70 %", "dynamic random 70 %"]
    count = len(plan.members(200))
    assert len(begun_or_failed(err)) == count
    page = Path("runs/table11-smoke/report/report.html").read_text(encoding="utf-8")
    for text in ("Table 11: where the gradient points", "Direction of the gradient", "0.915 ± 0.044"):
        assert text in page
    Path("runs/table11-smoke/digits/OrderDP-70-seed0/result.json").unlink()
    Path("runs/table11-smoke/report/report.html").unlink()
    status, again, err = call("study", "--resume", "runs/table11-smoke")
    assert (status, begun_or_failed(err)) == (0, [f"[1/{count}] OrderDP 70 %, seed 0"])
    assert again.splitlines()[-1] == last
    assert Path("runs/table11-smoke/report/report.html").exists()
    status, _, err = call("study", "table11")
    assert (status, err) == (
        2,
        "orderdp: the run folder must be new, got runs/table11-smoke, which exists; "
        "write another --run, or --resume runs/table11-smoke\n",
    )


def test_a_custom_study_trains_and_writes_its_report(call):
    Path("mine.toml").write_text(
        'title = "Mine"\nmethods = ["orderdp"]\nprune_ratios = [0.5]\nshow = ["accuracy", "differences"]\n'
        '[[smoke]]\nrecipe = "digits"\nseeds = [0]\n'
        'changes = { model = "small_cnn", train_size = 200, epochs = 1, device = "cpu", num_threads = 1 }\n'
    )
    status, out, err = call("study", "mine.toml")
    assert (status, out.splitlines()[-1]) == (0, "report: runs/mine-smoke/report/report.html"), err
    assert labels(load_comparison(Path("runs/mine-smoke/digits"))[0]) == ["OrderDP 50 %", "dynamic random 50 %"]
    assert "<h1>Mine</h1>" in Path("runs/mine-smoke/report/report.html").read_text(encoding="utf-8")
    line = "orderdp: no size named 'gpu'; choose from smoke\n"
    assert call("study", "mine.toml", "--size", "gpu") == (2, "", line)


REFUSED_STUDIES = {
    "unknown study": ("tabel2", "no study named 'tabel2'; did you mean 'table2'?"),
    "unknown size": ("table2 --size smok", "no size named 'smok'; did you mean 'smoke'?"),
    "a size of a loop": (
        "open_stream --size paper",
        "no size named 'paper'; choose from smoke, cpu",
    ),
    "seeds of a loop": (
        "open_stream --size cpu --seed 1 --device cpu --data-root D",
        "study open_stream has a loop of its own, got --device --seed; leave them out",
    ),
    "data of a loop on digits": (
        "open_stream --size smoke --data-root D",
        "study open_stream has a loop of its own, got --data-root; leave it out",
    ),
    "sizes for theory": ("figure5 --size cpu", "study figure5 trains nothing, got size cpu; leave it out"),
    "a size of theorems that is none": (
        "theorem1 --size cpu",
        "study theorem1 trains nothing, got size cpu; write smoke, or leave it out",
    ),
    "settings for theory": (
        "theorem1 --processes 2 --seed 1 --data-root data --device cpu --download",
        "study theorem1 trains nothing, got --data-root --device --download --processes --seed; leave them out",
    ),
    "a seed twice": (
        "table2 --seed 1 1",
        "--seed must be given once each, got [1, 1]; leave the repeats out",
    ),
    "no process": (
        "table8 --processes 0",
        "--processes must be a whole number from 1, and 1 under several ranks, got 0; write --processes 1",
    ),
    "a data set that is not there": (
        "figure9 --size paper --data-root data",
        "--data-root must be a folder that exists, got data; create it or correct it",
    ),
    "other options beside --resume": (
        "table8 --resume runs --size cpu --seed 1 --run here --data-root data",
        "--resume takes its settings from the run folder, all but --seed and --data-root, got --name --run --size; "
        "leave them out",
    ),
    "no folder to go on with": (
        "--resume runs",
        "a folder of runs must hold comparison.toml or study.toml, got runs, which does not exist; "
        "write the folder of an earlier 'orderdp compare', 'orderdp train' or 'orderdp study'",
    ),
}


@pytest.mark.parametrize(("options", "line"), list(REFUSED_STUDIES.values()), ids=list(REFUSED_STUDIES))
def test_a_study_that_cannot_be_gets_one_line_and_leaves_no_trace(call, here, options, line):
    assert call("study", *options.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


def test_a_study_without_a_name_is_a_mistaken_call(call):
    status, _, err = call("study", "--size", "smoke")
    assert (status, err.startswith("orderdp study: the following arguments are required: NAME; ")) == (2, True)


@pytest.mark.usefixtures("short_studies")
def test_a_study_gives_status_1_where_any_part_lacks_a_run(call):
    assert call("study", "figure10", "--seed", "0", "--device", "cpu", "--run", "run")[0] == 0
    shutil.copytree("run/digits", "run/second")
    head = Path("run/study.toml")
    head.write_text(head.read_text().replace('"digits",', '"digits", "second",'))
    for part in ("second", "digits"):
        file = Path(f"run/{part}/full-data-seed0/result.json")
        whole = file.read_text()
        file.write_text(whole.replace('"steps"', '"stops"'))
        status, _, err = call("study", "--resume", "run")
        assert (status, "damaged: full data, seed 0" in err) == (1, True), part
        file.write_text(whole)
    assert call("study", "--resume", "run")[0] == 0

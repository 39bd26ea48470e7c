import json
import re
from pathlib import Path

import pytest

from orderdp import OrderDP, Pruner
from orderdp.output.text_table import as_markdown
from orderdp.training import comparison
from orderdp.training.comparison import Plan, load_plan, resume, start
from orderdp.training.loop import total_steps
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.table import Row, lines

N = 200


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# Plan, then label, folder and exact steps of each run in order. Batches of 32 of 200 samples, 3 epochs.
MEMBERS = {
    "a recipe's own sizes": (
        {"explore": 0.5, "exploit": 0.6},
        {},
        [
            ("OrderDP explore 0.5 exploit 0.6", "OrderDP-explore-0.5-exploit-0.6-seed0", 6),
            ("full data", "full-data-seed0", 21),
            (
                "full data, steps of OrderDP explore 0.5 exploit 0.6",
                "full-data-steps-of-OrderDP-explore-0.5-exploit-0.6-seed0",
                6,
            ),
        ],
    ),
    "the default sizes": ({}, {"against": ()}, [("OrderDP", "OrderDP-seed0", 6)]),
    "one size of two": (
        {"exploit": 0.6, "per": "iteration", "fresh": True},
        {"against": ("short",)},
        [
            ("OrderDP exploit 0.6 per iteration, fresh", "OrderDP-exploit-0.6-per-iteration-fresh-seed0", 12),
            (
                "full data, steps of OrderDP exploit 0.6 per iteration, fresh",
                "full-data-steps-of-OrderDP-exploit-0.6-per-iteration-fresh-seed0",
                12,
            ),
        ],
    ),
    "ratios and seeds": (
        {"prune_ratio": 0.9},
        {"prune_ratios": (0.3, 0.075), "seeds": (4, 1)},
        [
            ("OrderDP 30 %", "OrderDP-30-seed4", 15),
            ("OrderDP 7.5 %", "OrderDP-7.5-seed4", 18),
            ("full data", "full-data-seed4", 21),
            ("full data, steps of OrderDP 30 %", "full-data-steps-of-OrderDP-30-seed4", 15),
            ("full data, steps of OrderDP 7.5 %", "full-data-steps-of-OrderDP-7.5-seed4", 18),
            ("OrderDP 30 %", "OrderDP-30-seed1", 15),
            ("OrderDP 7.5 %", "OrderDP-7.5-seed1", 18),
            ("full data", "full-data-seed1", 21),
            ("full data, steps of OrderDP 30 %", "full-data-steps-of-OrderDP-30-seed1", 15),
            ("full data, steps of OrderDP 7.5 %", "full-data-steps-of-OrderDP-7.5-seed1", 18),
        ],
    ),
    "ratios that differ in the eighth digit": (
        {},
        {"prune_ratios": (0.30000001, 0.30000002), "against": ()},
        [
            ("OrderDP 30.000001 %", "OrderDP-30.000001-seed0", 15),
            ("OrderDP 30.000002 %", "OrderDP-30.000002-seed0", 15),
        ],
    ),
    "dynamic random": (
        {"strategy": "dynamic_random", "prune_ratio": 0.5, "drop_last": True},
        {},
        [
            ("dynamic random 50 %", "dynamic-random-50-seed0", 9),
            ("full data", "full-data-seed0", 18),
            ("full data, steps of dynamic random 50 %", "full-data-steps-of-dynamic-random-50-seed0", 9),
        ],
    ),
    "max_steps": (
        {"prune_ratio": 0.5, "max_steps": 8},
        {"against": ()},
        [("OrderDP 50 %", "OrderDP-50-seed0", 8)],
    ),
    "full data": ({"strategy": "full"}, {"seeds": (0, 1)}, [("full data", f"full-data-seed{i}", 21) for i in (0, 1)]),
}


@pytest.mark.parametrize(("settings", "plan", "expected"), list(MEMBERS.values()), ids=list(MEMBERS))
def test_a_plan_lists_its_runs_with_exact_steps(tiny, settings, plan, expected):
    members = Plan(tiny(**settings), **plan).members(N)
    assert [(member.label, member.name, total_steps(member.recipe, N)) for member in members] == expected
    names = [member.name for member in members]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", name) for name in names)


@pytest.mark.parametrize("epochs", [7, 11])  # 2 steps each, where full data has 7: 2 whole epochs, and 4 cut short
def test_a_short_schedule_has_the_pruned_runs_steps_and_no_method(tiny, epochs):
    common = {"epochs": epochs, "augment": "crop", "seed": 2}
    recipe = tiny(explore=0.7, exploit=0.4, uniform_share=0.1, initial_score=3.0, **common)
    pruned, full, short = Plan(recipe, seeds=(2,)).members(N)
    assert pruned.recipe == recipe
    assert Pruner(OrderDP(explore=0.7, exploit=0.4), N).total_steps(epochs, 32) == 2 * epochs
    assert full.recipe == tiny(strategy="full", **common)
    cut = {"epochs": {7: 2, 11: 4}[epochs], "max_steps": 2 * epochs}
    assert short.recipe == tiny(strategy="full", **{**common, **cut})


def test_a_limit_of_steps_is_refused_where_it_would_make_all_runs_alike():
    with raises(
        ValueError,
        "max_steps cuts the pruned run and its references alike, got 8; leave it out, or compare against nothing",
    ):
        Plan(Recipe(max_steps=8))


REFUSED = {
    "mistyped reference": ({"against": ("ful",)}, "no reference named 'ful'; did you mean 'full'?"),
    "unknown reference": ({"against": ("xyz",)}, "no reference named 'xyz'; choose from full, short"),
    "ratio twice": (
        {"prune_ratios": (0.5, 0.5)},
        "prune_ratio must be given once each, got [0.5, 0.5]; leave the repeats out",
    ),
    "seed twice": ({"seeds": (1, 2, 1)}, "seed must be given once each, got [1, 2, 1]; leave the repeats out"),
    "reference twice": (
        {"against": ("full", "full")},
        "against must be given once each, got ['full', 'full']; leave the repeats out",
    ),
}


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_plan_that_cannot_be_is_refused(settings, message):
    with raises(ValueError, message):
        Plan(Recipe(), **settings)


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(comparison, "draw_plots", lambda groups, folder: None)


@pytest.mark.usefixtures("no_plots")
def test_a_comparison_writes_everything_that_it_returns(tmp_path, tiny):
    path, told = tmp_path / "run", []
    plan = Plan(tiny(epochs=1), prune_ratios=(0.5, 0.25), seeds=(0, 1), against=("full",))
    table = start(plan, path, show=False, tell=told.append)
    assert load_plan(path) == plan
    assert [row.label for row in table] == ["OrderDP 50 %", "OrderDP 25 %", "full data"]
    assert [row.seeds for row in table] == [2, 2, 2]
    assert [(row.samples, row.samples_saved) for row in table] == [(100, 0.5), (150, 0.25), (200, 0.0)]
    assert told == [
        "[1/6] OrderDP 50 %, seed 0",
        "[2/6] OrderDP 25 %, seed 0",
        "[3/6] full data, seed 0",
        "[4/6] OrderDP 50 %, seed 1",
        "[5/6] OrderDP 25 %, seed 1",
        "[6/6] full data, seed 1",
    ]
    summary = json.loads((path / "result.json").read_text())
    assert [
        Row(**{**row, **{key: tuple(row[key]) for key in ("accuracy_last", "accuracy_best")}})
        for row in summary["rows"]
    ] == table
    in_rows = sorted(plan.members(N), key=lambda member: [row.label for row in table].index(member.label))
    assert summary["runs"] == [RunFolder(path / member.name).result() for member in in_rows]
    assert (path / "table.md").read_text() == as_markdown(lines(table))


@pytest.mark.usefixtures("no_plots")
def test_resuming_keeps_finished_runs_and_makes_the_others(tmp_path, tiny):
    path, told = tmp_path / "run", []
    plan = Plan(tiny(epochs=1, prune_ratio=0.5))
    table = start(plan, path, show=False)
    kept, lost = path / "OrderDP-50-seed0", path / "full-data-seed0"
    before = content(kept)
    (lost / "result.json").unlink()
    again = resume(path, show=False, tell=told.append)
    assert told == ["[2/3] full data, seed 0"]
    assert content(kept) == before
    assert [row.accuracy_last for row in again] == [row.accuracy_last for row in table]


@pytest.mark.usefixtures("no_plots")
def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path, tiny):
    (tmp_path / "mine").write_text("mine")
    message = f"the run folder must be new, got {tmp_path}, which exists; write another --run, or --resume {tmp_path}"
    with raises(FileExistsError, message):
        start(Plan(tiny()), tmp_path, show=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


UNFIT = {
    "no sample is left": (
        {"prune_ratio": 0.999},
        {"against": ("full",)},
        "the sizes must keep at least one of the 200 samples, got q = 0 from prune_ratio=0.999; "
        "write larger fractions to keep, or a smaller prune ratio",
    ),
    "no batch is left of one of the ratios": (
        {"drop_last": True},
        {"prune_ratios": (0.5, 0.9), "against": ()},
        "drop_last leaves no batch, got 20 selected samples for 1 x 32 a step; "
        "write a smaller batch_size or drop_last=False",
    ),
    "too many steps": (
        {"max_steps": 99},
        {"against": ()},
        "max_steps must be within the 6 steps of 3 epochs, got 99; write more epochs",
    ),
    "unknown model": (
        {"model": "small_cn"},
        {"against": ()},
        "no model named 'small_cn'; did you mean 'small_cnn'? (model_names() and timm.list_models() list them)",
    ),
}


@pytest.mark.parametrize(("settings", "plan", "message"), list(UNFIT.values()), ids=list(UNFIT))
def test_settings_that_do_not_fit_the_data_fail_before_anything_is_written(tmp_path, tiny, settings, plan, message):
    with raises(ValueError, message):
        start(Plan(tiny(**settings), **plan), tmp_path / "run", show=False)
    assert not list(tmp_path.iterdir())


def test_every_setting_of_the_data_arrives(tmp_path, monkeypatch):
    given = {}

    def load(name, **settings):
        given.update(settings, name=name)
        raise OSError("enough")

    monkeypatch.setattr(comparison, "load_dataset", load)
    settings = {"train_size": 50, "image_size": 32, "download": True}
    with raises(OSError, "enough"):
        start(Plan(Recipe(dataset="folder", data_root="here", **settings)), tmp_path / "run", show=False)
    assert given == {"name": "folder", "data_root": Path("here"), **settings}


PLANS = {
    "no folder": (None, "[Errno 2] No such file or directory: '{path}/plan.json'"),
    "not JSON": ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    "without a key": ('{"prune_ratios": [], "seeds": [0]}', "'against'"),
    "of another form": ("[]", "list indices must be integers or slices, not str"),
    "not a list": ('{"prune_ratios": 1, "seeds": [0], "against": []}', "'int' object is not iterable"),
}


@pytest.mark.parametrize(("text", "reason"), list(PLANS.values()), ids=list(PLANS))
def test_a_folder_without_a_plan_is_refused(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    message = (
        f"a run folder must hold recipe.toml and plan.json, got {tmp_path} ({reason.format(path=tmp_path)}); "
        "write the folder of an earlier 'orderdp train'"
    )
    with raises(ValueError, message):
        resume(tmp_path, show=False)
    assert len(list(tmp_path.iterdir())) == (text is not None)

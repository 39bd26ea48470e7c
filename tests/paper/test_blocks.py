"""Which block comes next, and running blocks: in order, within the time, after a stop, once."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli_w

from orderdp.comparison import workers
from orderdp.comparison.checks import LoadedData
from orderdp.comparison.grid import load_comparison
from orderdp.comparison.records import read_folder
from orderdp.data.registry import DATASETS
from orderdp.paper import blocks as module
from orderdp.paper import page as page_module
from orderdp.paper import study as study_module
from orderdp.paper.blocks import Block, State, blocks_of, next_block, run, state_of
from orderdp.paper.contents import Kind, Place, places
from orderdp.paper.failures import Failure, read_failures, write_failures
from orderdp.paper.page import page_of
from orderdp.paper.page_text import as_markdown
from orderdp.paper.sources import Found, Source, find
from orderdp.paper.studies import find_study
from orderdp.paper.study import load_study
from orderdp.training import provenance
from orderdp.training.run_folder import CORESET_PLAN, claimed
from reference.made_runs import SIZES, Made

HOUR = 3600.0


def silent(line):
    pass


def block(name, round_=0, *, study=True):
    return Block(find_study(name), Path(name), round_, study=object() if study else None, part="digits")


@pytest.fixture
def plain(monkeypatch):
    """Blocks need no proxies."""
    monkeypatch.setattr(module, "_needs_proxies", lambda block: False)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("states", "left_s", "expected"),
    [
        # first seeds before second ones, cheap before dear, unknown last
        ([(1, 1.0, False), (0, 9.0, False), (0, 5.0, False)], HOUR, (2, True)),
        ([(0, None, False), (0, 9.0, False)], HOUR, (1, True)),
        # what was begun first, even if it does not fit
        ([(0, 1.0, False), (1, 9.0, True)], HOUR, (1, True)),
        ([(0, 1.0, False), (1, 9.0, True)], 5.0, (1, False)),
        # what does not fit waits for the next call; but if nothing fits, a part of the first is made
        ([(0, 10.0, False), (1, 4.0, False)], 5.0, (1, True)),
        ([(0, 10.0, False), (1, 14.0, False)], 5.0, (0, False)),
        ([], HOUR, None),
    ],
)
def test_the_next_block(states, left_s, expected):
    there = [(block("table8", round_), State(False, begun, seconds)) for round_, seconds, begun in states]
    done = [(block("table9"), State(True, begun=True, expected_s=0.0))]
    found = next_block([*done, *there], left_s)
    assert (found and ([each for each, _ in there].index(found[0]), found[1])) == expected


@pytest.mark.usefixtures("plain")
def test_several_processes_take_a_part_of_the_time():
    there = [(block("table8"), State(False, begun=False, expected_s=10.0))]
    assert next_block(there, 6.0, processes=2) == (there[0][0], True)


def test_what_is_said_of_a_block_is_the_time_that_its_processes_take_together():
    state = State(False, begun=False, expected_s=600.0, runs=4)
    assert [module._said(state, processes) for processes in (1, 2)] == [
        "4 runs, about 10.0 minutes",
        "4 runs, about 5.0 minutes",
    ]
    assert module._said(State(False, begun=False, expected_s=None), 2) == "nobody knows how long"


def test_no_part_of_a_block_with_proxies_is_made(tmp_path):
    blocks = [each for each in blocks_of("smoke", tmp_path) if each.row.name == "table1"]
    dear = [(each, State(False, begun=False, expected_s=100.0)) for each in blocks]
    assert next_block(dear, 5.0) is None
    assert next_block(dear, 200.0) == (blocks[0], True)


@pytest.mark.parametrize("size", ["smoke", "cpu", "paper"])
def test_every_study_gets_its_first_seeds_first(size, tmp_path):
    blocks = blocks_of(size, tmp_path)
    trained = [each for each in blocks if each.study is not None]
    there = [place for place in places() if place.row and place.kind is not Kind.OWN]
    left_out = {place.name for place in there if place.kind is Kind.OPEN and size == "paper"}
    assert {each.row.name for each in blocks} == {place.name for place in there} - left_out
    for each in trained:
        part = each.study.parts[each.part]
        if part.lossless is None:
            assert part.seeds[each.round] == each.seed
        else:
            assert (each.round, each.seed) == (2, None)  # as the third seeds of others
    assert len({each.name for each in blocks}) == len(blocks)
    stated = {each.row.name for each in trained if each.stated_s}
    assert stated == {each.row.name for each in trained if f"{size} " in each.row.takes}
    assert len(stated) > 10


@pytest.fixture
def small(monkeypatch):
    """Two studies, one of them shrunk to two epochs of 200 digits."""
    there = [place for place in places() if place.name in ("figure8", "figure9", "table11")]
    monkeypatch.setattr(module, "places", lambda: [place for place in there if place.name != "table11"])
    recipes_of = study_module._recipes
    tiny = {"train_size": 200, "epochs": 2, "num_threads": 1, "device": "cpu"}
    monkeypatch.setattr(
        study_module, "_recipes", lambda *given: [each.model_copy(update=tiny) for each in recipes_of(*given)]
    )


@pytest.mark.usefixtures("small")
def test_a_study_that_lost_its_head_or_its_tables_is_not_finished(tmp_path):
    blocks = blocks_of("smoke", tmp_path, ["figure8", "figure9"])
    assert run(blocks, tmp_path, hours=1, log=silent) == {}
    (tmp_path / "figure9" / "study.toml").unlink()
    for file in (tmp_path / "figure8").iterdir():
        file.unlink()
    assert [state_of(each).done for each in blocks] == [False, False, False]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("figure9/*/*/result.json")}
    assert run(blocks, tmp_path, hours=1, log=silent) == {}
    assert [state_of(each).done for each in blocks] == [True, True, True]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("figure9/*/*/result.json")} == before
    assert set(find("smoke", tmp_path).tasks) == {"figure9"}


@pytest.mark.parametrize("head", [None, "", "study =", 'study = "table6"\ntitle = "cut"\nparts = []'])
def test_a_search_that_lost_its_head_is_not_finished_and_does_not_stop_the_page(tmp_path, monkeypatch, head):
    monkeypatch.setattr(module, "trails_of", lambda results: {})  # nothing is left to ask
    folder = tmp_path / "table6"
    row = find_study("table6")
    study = load_study(row.file, "smoke", device="cpu")
    (block,) = (each for each in module._of_study(row, study, folder, None) if each.part == "digits")
    plan = study.parts["digits"]
    made = Made(folder / "digits", plan)
    for member in plan.members(SIZES.num_samples):
        made.finish(member.label, (50.0,), seeds=(member.recipe.seed,))
    study_module._write_head(study, folder)
    assert state_of(block).done
    with monkeypatch.context() as patched:
        patched.setattr(module, "trails_of", lambda results: {"OrderDP": SimpleNamespace(asks=0.5)})
        assert not state_of(block).done
    assert set(find("smoke", tmp_path).tasks["table6"]) == {"digits"}
    (folder / "study.toml").unlink() if head is None else (folder / "study.toml").write_text(head)
    assert not state_of(block).done
    found = find("smoke", tmp_path)
    assert not found.tasks.get("table6")
    assert [each.study for each in found.failed] == (["table6"] if head == "study =" else [])


@pytest.mark.usefixtures("small")
def test_a_damaged_study_is_named_and_the_others_go_on(tmp_path):
    blocks = blocks_of("smoke", tmp_path, ["figure8", "figure9"])
    assert run(blocks[1:], tmp_path, hours=1, log=silent) == {}
    (tmp_path / "figure9" / "digits" / "comparison.toml").unlink()
    assert find("smoke", tmp_path).failed[0].why.startswith("the folder of a comparison must hold recipe.toml and")
    wrong = run(blocks, tmp_path, hours=1, log=silent)
    assert set(wrong) == {"figure9, digits, seed 0", "figure9, digits, seed 1"}
    assert [state_of(each).done for each in blocks] == [True, False, False]
    found = find("smoke", tmp_path)
    assert [(each.study, each.what) for each in found.failed] == [("figure9", what) for what in wrong]
    assert set(found.computed) == {"figure8"}


@pytest.mark.usefixtures("small")
def test_studies_share_their_runs_and_may_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "0123456789ab")
    both = [place for place in places() if place.name in ("figure9", "figure10", "figure8")]
    monkeypatch.setattr(module, "places", lambda: both)
    blocks = blocks_of("smoke", tmp_path, ["figure10", "figure9"])
    assert {each.row.name for each in blocks} == {"figure9", "figure10"}
    lines, trained, train = [], [], workers._train
    monkeypatch.setattr(
        workers, "_train", lambda recipe, *given, **named: trained.append(recipe) or train(recipe, *given, **named)
    )
    assert run(blocks, tmp_path, hours=1, log=lines.append) == {}
    assert [state_of(each).done for each in blocks] == [True] * 4
    shared = [line for line in lines if "taken over" in line]
    assert [line.partition(": ")[0] for line in shared] == ["full data, seed 0", "full data, seed 1"]
    assert shared[0].endswith("taken over from figure9/digits")  # the study that came first
    assert len(trained) == 14  # of two studies with two seeds of four runs


@pytest.mark.usefixtures("small")
def test_a_stopped_call_continues_and_a_finished_one_does_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "paper"
    blocks = blocks_of("smoke", folder)
    assert [each.name for each in blocks] == ["figure8", "figure9, digits, seed 0", "figure9, digits, seed 1"]
    train, made = workers._train, []

    def stopping(recipe, *given, **named):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(recipe.seed)
        train(recipe, *given, **named)

    monkeypatch.setattr(workers, "_train", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(blocks, folder, hours=1, log=silent)
    assert made == [0, 0, 0, 0, 1]
    assert load_comparison(folder / "figure9" / "digits")[0].seeds == (0, 1)
    assert [state_of(each).done for each in blocks] == [True, True, False]
    assert state_of(blocks[2]).begun
    monkeypatch.setattr(workers, "_train", train)
    lines = []
    assert run(blocks, folder, hours=1, log=lines.append) == {}
    assert [line.partition(":")[0] for line in lines if line.startswith("figure")] == [blocks[2].name]
    assert all(state_of(each).done for each in blocks)
    assert (folder / "figure8" / "figure8.csv").exists()
    lines.clear()
    write_failures(folder, [Failure("figure8", "", "figure8", "figure8", "a failure of before")])
    assert run(blocks, folder, hours=1, log=lines.append) == {}
    assert (lines, read_failures(folder)) == ([], [])

    found = find("smoke", folder)
    page = {each.name: each for each in page_of("smoke", found, charts=False).exhibits}
    assert (page["figure9"].state, page["figure8"].state) == ("run, on digits", "exact")
    assert page["table2"].state == "not run at this size"
    assert "| digits | 0, 1 | 8 |" in as_markdown(page_of("smoke", found, charts=False), folder)

    lines.clear()  # elsewhere, the same runs are not made again
    other = blocks_of("smoke", tmp_path / "other")
    assert run(other, tmp_path / "other", hours=1, archived=found, log=lines.append) == {}
    assert lines == []


@pytest.mark.usefixtures("small")
def test_data_that_was_moved_is_found_by_the_next_call(tmp_path, monkeypatch):
    monkeypatch.setattr(LoadedData, "checked", lambda *given: None)  # digits lie in no folder
    there = blocks_of("smoke", tmp_path)[1]
    study_module.create_study(there.study, there.folder, processes=1, data=LoadedData())
    plan = there.study.parts["digits"]
    for root, expected in (("elsewhere", "elsewhere"), (None, "elsewhere")):
        part = replace(plan, recipe=plan.recipe.model_copy(update={"data_root": root}))
        module._move_data(replace(there, study=replace(there.study, parts={"digits": part})), LoadedData())
        assert load_comparison(there.path)[0].recipe.data_root == expected


@pytest.mark.usefixtures("small")
def test_a_block_that_cannot_be_made_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    def missing(*given, **named):
        raise FileNotFoundError("no data")

    monkeypatch.setattr(module, "create_part", missing)
    blocks = blocks_of("smoke", tmp_path)
    lines = []
    wrong = run(blocks, tmp_path, hours=1, log=lines.append)
    assert wrong == dict.fromkeys(("figure9, digits, seed 0", "figure9, digits, seed 1"), "no data")
    assert state_of(blocks[0]).done


@pytest.mark.usefixtures("small")
def test_a_second_call_in_the_same_folder_is_refused(tmp_path):
    with claimed(tmp_path / "lock") as mine:
        assert mine
        with pytest.raises(ValueError, match=r"^only one call may work in a folder, got .*; wait for it, or write"):
            run([], tmp_path, hours=1, log=silent)


ONE_RUN = {"methods": ["orderdp"], "beside": [], "against": [], "prune_ratios": [0.5], "seeds": [0]}
TINY = {"train_size": 200, "epochs": 1, "num_threads": 1, "device": "cpu", "model": "small_cnn"}


@pytest.fixture
def blocks_in(tmp_path):
    """Makes the blocks of a study in a file, whose parts are `digits` and others."""

    def make(**parts):
        file = tmp_path / "figure9.toml"
        tables = [{"name": name, "recipe": "digits", "changes": {**TINY, **changes}} for name, changes in parts.items()]
        file.write_text(tomli_w.dumps({"title": "Figure 9: mine", **ONE_RUN, **wanted, "smoke": tables}))
        row = find_study(str(file))
        return list(module._of_study(row, load_study(file, "smoke"), tmp_path / "paper" / "figure9", None))

    wanted = {}
    make.wanted = wanted
    return make


@pytest.mark.parametrize("name", ["table8", "table6"])
def test_the_blocks_of_a_study_share_its_stated_time(name, tmp_path):
    row = find_study(name)
    blocks = list(module._of_study(row, load_study(row.file, "cpu"), tmp_path, 120.0))
    assert len(blocks) > 1
    assert [block.stated_s for block in blocks] == [pytest.approx(120 / len(blocks))] * len(blocks)


def test_runs_begin_within_the_time_of_the_call_and_those_that_fail_are_named(blocks_in, tmp_path, monkeypatch):
    given = []

    def resume(paths, *, budget, **named):
        given.append(budget)
        return [SimpleNamespace(failed={"OrderDP 50 %, seed 0": "the loss is nan"}, damaged={"full data": "cut"})]

    monkeypatch.setattr(module.workers, "resume", resume)
    blocks_in.wanted["against"] = ["full"]
    block = replace(blocks_in(digits={})[0], stated_s=60.0)
    expected = {"figure9, digits, OrderDP 50 %, seed 0": "the loss is nan", "figure9, digits, full data": "cut"}
    assert run([block], tmp_path / "paper", hours=2, log=silent) == expected
    assert {each.what: each.why for each in read_failures(tmp_path / "paper")} == expected
    (budget,) = given
    assert budget.ends == pytest.approx(time.time() + 7200, abs=300)
    assert budget.stated_s == 30  # of two runs


def test_after_a_block_that_does_not_fit_no_other_one_begins(tmp_path, monkeypatch):
    """Its runs that fit are made; the time that is left is too short for any other."""
    made = []
    monkeypatch.setattr(module, "state_of", lambda *given: State(False, begun=False, expected_s=1e9))
    monkeypatch.setattr(module, "_needs_proxies", lambda block: False)
    monkeypatch.setattr(module, "_make", lambda block, *given: made.append(block.name) or {})
    blocks = [block("table8"), block("table9")]
    assert run(blocks, tmp_path, hours=1, log=silent) == {}
    assert made == [blocks[0].name]


@pytest.fixture
def half(blocks_in):
    """Two blocks of two runs each, of which the first run of the first seed is finished, and the folder of the task."""
    blocks_in.wanted.update(against=["full"], seeds=[0, 1])
    blocks = blocks_in(digits={})
    folder = Made(blocks[0].path, blocks[0].study.parts["digits"])
    return blocks, folder.finish("OrderDP 50 %", (90.0,), seeds=(0,))


def test_what_is_left_of_a_block_takes_as_long_as_the_runs_so_far(half):
    blocks, _ = half
    run_s = 2.125  # of an epoch, with its evaluation
    assert [state_of(block) for block in blocks] == [
        State(False, begun=True, expected_s=run_s, runs=2),
        State(False, begun=False, expected_s=2 * run_s, runs=2),
    ]
    # With proxies, of which no run tells: as stated, until they are trained.
    studies = [replace(block.study, subsets={"digits": None}) for block in blocks]
    with_proxies = [replace(block, study=study, stated_s=50.0) for block, study in zip(blocks, studies, strict=True)]
    assert [state_of(block).expected_s for block in with_proxies] == [run_s, 50.0]


def test_a_block_is_done_with_the_runs_of_its_seed_and_its_static_methods(half):
    blocks, folder = half
    folder.finish("full data", (92.0,), seeds=(0,))
    study_module._write_head(blocks[0].study, blocks[0].folder)
    archived = Found(tasks={"figure9": {"digits": [Source(folder.path, read_folder(folder.path))]}})
    for found in (None, archived):
        assert [state_of(block, found).done for block in blocks] == [True, False]
    (folder.path / "coresets").mkdir()
    (folder.path / "coresets" / CORESET_PLAN).touch()  # whose subsets are not in the comparison yet
    assert not state_of(blocks[0]).done


def test_the_tasks_whose_data_are_there_are_trained_and_the_page_says_why_others_are_not(
    blocks_in, tmp_path, monkeypatch
):
    folder, nowhere = tmp_path / "paper", tmp_path / "nowhere"
    blocks = blocks_in(away={"dataset": "cifar10", "data_root": str(nowhere)}, digits={})
    why = f"data_root must be a folder that exists, got {nowhere}; create it or correct it"
    assert run(blocks, folder, hours=1, log=silent) == {"figure9, away, seed 0": why}
    assert [state_of(each).done for each in blocks] == [False, True]
    place = Place("figure9", "Figure 9: mine", blocks[0].row, Kind.PRINTED)
    monkeypatch.setattr(page_module, "places", lambda: [place])
    (shown,) = page_of("smoke", find("smoke", folder), charts=False).exhibits
    assert shown.state == "partly run, on digits: 1 of 2 tasks whole"
    said = f"Could not be run: away: {why.replace(str(nowhere), '.../nowhere')}."  # the page may leave the machine
    assert said in shown.seen
    assert f"- {said}" in as_markdown(page_of("smoke", find("smoke", folder)), folder)

    nowhere.mkdir()  # another reason replaces the one before, and what is done has none
    failures = read_failures(folder)
    write_failures(folder, [*failures, failures[0]._replace(task="digits", block="figure9, digits, seed 0")])
    (again,) = run(blocks, folder, hours=1, log=silent).values()
    assert again.startswith("data_root must hold cifar10")
    assert [each.why for each in read_failures(folder)] == [again]


def test_a_study_whose_first_task_fails_has_no_folder_yet(blocks_in, tmp_path):
    (block,) = blocks_in(away={"dataset": "cifar10", "data_root": str(tmp_path / "nowhere")})
    assert run([block], tmp_path / "paper", hours=1, log=silent)
    assert not block.folder.exists()
    assert find("smoke", tmp_path / "paper").tasks == {}


def test_a_folder_of_an_older_study_is_not_done_and_refused_unless_methods_can_be_added(blocks_in, tmp_path):
    folder = tmp_path / "paper"
    (block,) = blocks_in(digits={})
    assert run([block], folder, hours=1, log=silent) == {}
    assert state_of(block).done
    (longer,) = blocks_in(digits={"epochs": 2})
    assert not state_of(longer).done
    assert run([longer], folder, hours=1, log=silent) == {
        longer.name: f"the runs in a folder must be those of the study as it is now, got {block.path} with epochs 1 "
        "instead of 2; move it elsewhere, or write another --run"
    }
    blocks_in.wanted["against"] = ["full"]
    (against,) = blocks_in(digits={})
    assert not state_of(against).done
    assert "with against [] instead of ['full']; move" in run([against], folder, hours=1, log=silent)[against.name]
    blocks_in.wanted.update(against=[], methods=["orderdp", "dynamic_random"])
    (more,) = blocks_in(digits={})
    assert not state_of(more).done
    lines = []
    assert run([more], folder, hours=1, log=lines.append) == {}
    assert state_of(more).done
    assert [line for line in lines if line.startswith("[")][0::2] == ["[2/2] dynamic random 50 %, seed 0"]


def test_a_study_with_a_loop_of_its_own_is_small_at_size_smoke_and_else_reads_the_data_where_they_are(
    tmp_path, monkeypatch
):
    def options(size, **changes):
        return {each.row.name: (each.options, each.stated_s) for each in blocks_of(size, tmp_path, **changes)}

    away = {"data_root": "D", "device": "cpu"}
    for is_installed, expected in ((True, {"size": "cpu"}), (False, {"size": "cpu", "data_root": "D"})):
        row = replace(DATASETS["fashion_mnist"], is_installed=lambda there=is_installed: there)
        monkeypatch.setitem(DATASETS, "fashion_mnist", row)
        there = [place for place in places() if place.name in ("open_stream", "theorem1", "figure8")]
        monkeypatch.setattr(module, "places", lambda there=there: there)
        assert options("smoke", **away) == {
            "theorem1": ({"size": "smoke"}, 5),
            "figure8": ({}, 2),
            "open_stream": ({"size": "smoke"}, 5),
        }
        found = options("cpu", **away)
        assert {name: given for name, (given, _) in found.items()} == {
            "theorem1": {},
            "figure8": {},
            "open_stream": expected,
        }
        assert found["open_stream"][1] > 600
        assert options("gpu").keys() == {"theorem1", "figure8"}

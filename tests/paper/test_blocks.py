"""Which block comes next, and running blocks: in order, within the time, after a stop, once."""

from dataclasses import replace
from pathlib import Path

import pytest

from orderdp.comparison import workers
from orderdp.comparison.checks import LoadedData
from orderdp.comparison.grid import load_comparison
from orderdp.paper import blocks as module
from orderdp.paper import study as study_module
from orderdp.paper.blocks import Block, State, blocks_of, next_block, run, state_of
from orderdp.paper.contents import Kind, places
from orderdp.paper.page import page_of
from orderdp.paper.page_text import as_markdown
from orderdp.paper.sources import find
from orderdp.paper.studies import find_study
from orderdp.training.run_folder import claimed

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


def test_no_part_of_a_block_with_proxies_is_made(tmp_path):
    blocks = [each for each in blocks_of("smoke", tmp_path) if each.row.name == "table1"]
    dear = [(each, State(False, begun=False, expected_s=100.0)) for each in blocks]
    assert next_block(dear, 5.0) is None
    assert next_block(dear, 200.0) == (blocks[0], True)


@pytest.mark.parametrize("size", ["smoke", "cpu", "paper"])
def test_every_study_gets_its_first_seeds_first(size, tmp_path):
    blocks = blocks_of(size, tmp_path)
    trained = [each for each in blocks if each.study is not None]
    there = {place.name for place in places() if place.row and place.kind is not Kind.OWN}
    lacking = {name for name in there if name.startswith("open_") and size == "paper"}  # too large for no one
    assert {each.row.name for each in blocks} == there - lacking
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
    assert run(blocks, folder, hours=1, log=lines.append) == {}
    assert lines == []

    found = find("smoke", folder)
    page = {each.name: each for each in page_of("smoke", found, charts=False).exhibits}
    assert (page["figure9"].state, page["figure8"].state) == ("run", "exact")
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

    monkeypatch.setattr(module, "create_study", missing)
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

"""A subset in a file trains like a fixed subset, is refused where it does not fit, and is read only to train."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from orderdp import FixedSubset, Memory, Pruner, StoredSubset
from orderdp.data.registry import load_dataset
from orderdp.output.subset_file import Kept, read_method, write_scores, write_subsets
from orderdp.output.toml import parse_toml
from orderdp.strategies import Scheduled
from orderdp.strategies.registry import from_table, parse, to_table
from orderdp.testing import check_strategy
from orderdp.training.check import check_recipe
from orderdp.training.recipe import Recipe

N = 40


def kept(seed, *, weighted=False):
    rng = np.random.default_rng(seed)
    subsets = {}
    for ratio in (0.7, 0.3):
        ids = rng.permutation(N)[: round((1 - ratio) * N)]
        subsets[ratio] = Kept(ids, rng.gamma(2.0, size=len(ids)).astype(np.float32) if weighted else None)
    return subsets


def write(path, *, about=None, rows=None, **methods):
    labels = {"num_samples": N, "methods": {key: {"label": key.replace("_", "-").title()} for key in methods}}
    seeded = {key: {0: given} if 0.3 in given else given for key, given in methods.items()}
    write_subsets(path, seeded, labels | (about or {}), rows)
    return path


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(Path("subsets.parquet"), k_center=kept(0), craig=kept(1, weighted=True))


def stored(file, **settings):
    return from_table({"name": "fixed", "file": str(file), "method": "k_center", "prune_ratio": 0.3, **settings})


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("method", ["k_center", "craig"])
def test_it_keeps_every_law_and_selects_what_the_file_holds(file, method):
    strategy = stored(file, method=method)
    check_strategy(strategy, num_samples=N)
    ids, weights = (kept(0) if method == "k_center" else kept(1, weighted=True))[0.3]
    memory = Memory(N, 0, {})
    expected = FixedSubset(ids, weights=weights).select(memory, np.random.default_rng(5))
    selection = strategy.select(memory, np.random.default_rng(5))
    assert selection.indices.tolist() == expected.indices.tolist()
    assert (selection.weights is None) == (method == "k_center")
    if weights is not None:
        assert selection.weights.tolist() == expected.weights.tolist()


def test_its_table_is_short_and_makes_it_again_without_the_file(file):
    strategy = stored(file)
    table = to_table(strategy)
    assert table == {
        "name": "fixed",
        "file": "subsets.parquet",
        "method": "k_center",
        "prune_ratio": 0.3,
        "title": "K-Center",
        "num_samples": N,
        "ratios": (0.3, 0.7),
        "sha256": (read_method(file, "k_center").sha256(0),),
    }
    file.unlink()
    again = from_table({**table, "ratios": [0.3, 0.7], "sha256": list(table["sha256"])})
    assert again == strategy == pickle.loads(pickle.dumps(strategy))
    assert again.describe() == "K-Center 30 %"
    assert Pruner(again, N).total_steps(2, 7) == 2 * 4


def test_a_table_at_another_ratio_needs_no_file(file):
    table = to_table(stored(file))
    file.unlink()
    assert from_table({**table, "prune_ratio": 0.7}).num_selected(N, 0) == 12
    with raises("prune_ratio must be one that subsets.parquet holds for k_center, got 0.5; write one of 0.3, 0.7"):
        from_table({**table, "prune_ratio": 0.5})


def test_the_file_is_named_after_a_colon():
    table = {"name": "fixed", "file": "runs/a:b/subsets.parquet", "method": "craig"}
    assert parse("fixed:runs/a:b/subsets.parquet,method=craig") == table


def test_the_only_method_of_a_file_needs_no_name(file):
    write(file, herding=kept(2))
    assert StoredSubset.from_file("subsets.parquet", prune_ratio=0.7).method == "herding"


def test_a_title_tells_two_files_apart(file):
    assert stored(file, title="K-Center, second proxy").describe() == "K-Center, second proxy 30 %"


def test_a_changed_file_is_refused_and_the_same_subsets_in_another_file_are_not(file):
    table = to_table(stored(file))
    write(file, k_center=kept(0), craig=kept(7), herding=kept(8))
    from_table(table).check_files()
    write(file, k_center=kept(3))
    changed = read_method(file, "k_center").sha256(0)
    message = (
        f"file must hold the subsets that the recipe names, sha256 {table['sha256'][0][:12]}, got subsets.parquet with "
        f"{changed[:12]}; put the first file back, or start a new run"
    )
    for call in (from_table(table).check_files, lambda: Pruner(from_table(table), N).begin_epoch()):
        with raises(message):
            call()


def test_other_weights_of_the_same_samples_are_refused(file):
    strategy = stored(file, method="craig")
    subsets = kept(1, weighted=True)
    write(file, craig=subsets)
    strategy.check_files()
    ids, weights = subsets[0.3]
    write(file, craig={**subsets, 0.3: Kept(ids, 2 * weights)})
    with pytest.raises(ValueError, match=r"^file must hold the subsets that the recipe names, sha256 \w{12}, got"):
        from_table(to_table(strategy)).check_files()


NO_FILE = "file must be the subsets.parquet of 'orderdp coreset', got {} ({}); "
CORRECT = "correct the path, or start orderdp in the folder that it leads from"
AGAIN = "write it again with 'orderdp coreset'"


def test_what_does_not_fit_gets_one_line(file):
    with raises("file is needed by strategy 'fixed', got None; write fixed:FILE"):
        from_table({"name": "fixed", "prune_ratio": 0.3})
    with raises("prune_ratio is needed by strategy 'fixed', got None; write prune_ratio = 0.5"):
        from_table({"name": "fixed", "file": str(file), "method": "craig"})
    with raises(
        "method must say which subset of subsets.parquet to train on, got none; write method=k_center, or another of "
        "craig"
    ):
        stored(file, method=None)
    with raises("no method 'kcenter' in subsets.parquet; did you mean 'k_center'?"):
        stored(file, method="kcenter")
    with raises(NO_FILE.format("no.parquet", "No such file or directory") + CORRECT):
        stored("no.parquet")
    with raises(
        "size does not apply to strategy 'fixed', got 3; it takes file, method, prune_ratio, title, "
        "num_samples, ratios, sha256, seeds, proxy_samples"
    ):
        stored(file, size=3)
    with raises(
        "the data must have the 40 samples of subsets.parquet, got 41; write the dataset and train_size that it was "
        "made for"
    ):
        Pruner(stored(file), 41)


def test_another_file_is_refused(file):
    Path("text").write_text("no Parquet")
    with pytest.raises(ValueError, match=r"^file must be the subsets\.parquet of 'orderdp coreset', got text \("):
        stored("text")
    Path("run").mkdir()
    with raises(NO_FILE.format("run", "a folder") + "write run/subsets.parquet"):
        stored("run")
    write_scores(Path("scores.parquet"), [{"sample_id": np.arange(3), "a": np.array([1, np.nan, 2])}], {})
    with raises(NO_FILE.format("scores.parquet", "orderdp scores, version 1") + AGAIN):
        stored("scores.parquet")
    table = parquet.read_table("scores.parquet")
    assert table["a"].to_pylist() == [1, None, 2]
    parquet.write_table(table.replace_schema_metadata(None), "plain.parquet")
    with raises(NO_FILE.format("plain.parquet", "no metadata of orderdp") + AGAIN):
        stored("plain.parquet")


def test_a_byte_that_changes_anywhere_in_the_pages_is_noticed(file):
    content = file.read_bytes()
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # where the footer begins
    right = {ratio: set(kept(0)[ratio].ids.tolist()) for ratio in (0.3, 0.7)}
    noticed = 0
    for at in range(4, end, 5):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            found = read_method(file, "k_center").kept[0]
        except ValueError as error:
            assert str(file) in str(error)  # noqa: PT017
            assert str(error).endswith(AGAIN)  # noqa: PT017
            noticed += 1
        else:  # of another method, or of a column that is not read
            assert {ratio: set(each.ids.tolist()) for ratio, each in found.items()} == right
    assert noticed > 20


def test_data_other_than_that_of_the_file_are_refused(file):
    write(file, about={"data_sha256": "abc"}, k_center=kept(0))
    mine = stored(file)
    mine.check_files()
    mine.check_files(lambda: "abc")
    message = (
        "the data must be that of subsets.parquet, got other samples or labels; write the dataset, train_size and "
        "label_noise that it was made for"
    )
    for strategy in (mine, Scheduled(strategy=mine, epochs=10, interval=2)):
        with raises(message):
            strategy.check_files(lambda: "abd")
    recipe = Recipe(strategy=mine, train_size=N)
    data = load_dataset("digits", train_size=N)
    with raises(message):
        check_recipe(recipe, N, data=data)
    check_recipe(recipe, N)


def test_the_rows_say_where_the_samples_lie_in_the_whole_data(file):
    rows = np.arange(N) * 3 + 1
    write(file, rows=rows, k_center=kept(0))
    table = parquet.read_table(file)
    assert table["row"].to_pylist() == rows[table["sample_id"].to_numpy()].tolist()


def test_the_file_has_a_row_for_each_kept_sample_in_the_order_of_choice(file):
    table = parquet.read_table(file)
    assert table.column_names == ["seed", "method", "prune_ratio", "sample_id", "row", "order", "weight"]
    rows = [row for row in table.to_pylist() if (row["method"], row["prune_ratio"]) == ("craig", 0.7)]
    ids, weights = kept(1, weighted=True)[0.7]
    assert [row["sample_id"] for row in rows] == ids.tolist()
    assert [row["order"] for row in rows] == list(range(12))
    assert [row["weight"] for row in rows] == weights.tolist()
    assert json.loads(table.schema.metadata[b"orderdp"])["num_samples"] == N


@pytest.fixture
def seeded(file):
    """A file of subsets for three seeds."""
    write(file, k_center={seed: kept(seed) for seed in (0, 1, 5)}, craig=kept(1, weighted=True))
    return stored(file)


def indices(strategy):
    return sorted(strategy.select(Memory(N, 0, {}), np.random.default_rng(0)).indices.tolist())


def test_a_run_trains_on_the_subset_of_its_own_seed(seeded):
    assert seeded.seeds == (0, 1, 5)
    assert len(set(seeded.sha256)) == 3
    for seed in (0, 1, 5):
        recipe = Recipe(strategy=to_table(seeded), seed=seed)
        assert indices(recipe.strategy) == sorted(kept(seed)[0.3].ids.tolist())
        assert recipe.label == seeded.describe()
        assert recipe.strategy.settings()["seeds"] == (seed,)
        assert recipe.model_copy(update={"seed": 1}).strategy == seeded.for_seed(1)
    assert Recipe(strategy=seeded, seed=5).strategy == seeded.for_seed(5)
    assert seeded.for_seed(5).for_seed(None) == seeded
    check_strategy(seeded.for_seed(5), num_samples=N)


def test_a_run_of_one_seed_is_read_without_the_file(file, seeded):
    text = Recipe(strategy=seeded, seed=5).to_toml()
    file.unlink()
    again = Recipe(**parse_toml(text))
    assert again.strategy == seeded.for_seed(5)
    assert again.label == "K-Center 30 %"


def test_a_seed_that_the_file_lacks_is_refused(file, seeded):
    line = "seed must be one that subsets.parquet holds subsets for, got 2; write one of 0, 1, 5, or choose subsets "
    line += "with seed 2 too"
    with raises(line):
        Recipe(strategy=to_table(seeded), seed=2)
    write(file, k_center={seed: kept(seed) for seed in (0, 1, 2, 5)})
    assert indices(Recipe(strategy=to_table(seeded), seed=2).strategy) == sorted(kept(2)[0.3].ids.tolist())


def test_a_subset_of_one_seed_serves_all_runs(file):
    write(file, k_center={7: kept(7)})
    strategies = {Recipe(strategy=to_table(stored(file)), seed=seed).strategy for seed in (0, 7)}
    assert [indices(strategy) for strategy in strategies] == [sorted(kept(7)[0.3].ids.tolist())]


def test_another_subset_of_a_seed_is_refused_and_more_seeds_are_not(file, seeded):
    write(file, k_center={seed: kept(seed) for seed in (1, 2)})
    seeded.for_seed(1).check_files()
    write(file, k_center={1: kept(2), 5: kept(5)})
    with pytest.raises(ValueError, match=r"^file must hold the subsets that the recipe names, sha256 \w{12}, got"):
        seeded.for_seed(1).check_files()


def test_a_loop_of_ones_own_must_name_the_seed(file, seeded):
    line = "seed must say which subset of subsets.parquet to train on, got none; write seed=0, or another of 1, 5"
    with raises(line):
        Pruner(seeded, N).begin_epoch()
    mine = StoredSubset.from_file("subsets.parquet", prune_ratio=0.3, method="k_center", seed=5)
    assert mine == seeded.for_seed(5)
    for held in ((0, 1, 5), (0,)):
        write(file, about={"seeds": list(held)}, k_center={seed: kept(seed) for seed in held})
        with pytest.raises(ValueError, match=r"^seed must be one that subsets.parquet holds subsets for, got 4; "):
            StoredSubset.from_file("subsets.parquet", prune_ratio=0.3, method="k_center", seed=4)


def test_digests_without_their_seeds_are_refused(seeded):
    with raises("sha256 must have one digest a seed, got 3 for 2; leave both out: they are in the file"):
        from_table({**to_table(seeded), "seeds": [0, 1]})

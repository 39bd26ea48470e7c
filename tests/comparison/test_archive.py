"""One compressed file holds what a report needs, without loss."""

import json
import lzma
import math
import random
import re
import sys

import pytest

from orderdp.comparison.archive import Archive, read_archive, without_folders, write_archive
from orderdp.comparison.records import Missing, Record, read_folder
from orderdp.comparison.results import results_of
from orderdp.report.page import read_report, write_report
from reference.made_runs import line, result


@pytest.fixture
def rich(pair):
    """Runs with numbers of all digits, one that failed and one that is not planned."""
    rng = random.Random(0)
    pair.finish(
        "OrderDP 50 %",
        (90.0, 91.0, 92.0),
        loss=lambda seed, epoch: rng.random(),
        training_s=lambda seed, epoch: rng.random() / 3e5,
        alignment=lambda seed, epoch: {"full": {"cosine": rng.random(), "norm_ratio": 0.1 + 0.2}},
    )
    (pair.folder("full data", 1).path / "result.json").unlink()
    pair.folder("full data", 1).write_failure("out of memory")
    (pair.path / "another").mkdir()
    pair.folder("full data", 0).recipe().write(pair.path / "another" / "recipe.toml")
    return pair


def test_an_archive_gives_back_every_value(rich, tmp_path):
    records = read_folder(rich.path)
    archive = Archive("mine", None, {"": records})
    write_archive(tmp_path / "runs.jsonl.xz", archive)
    assert read_archive(tmp_path / "runs.jsonl.xz") == archive
    found = records.runs["OrderDP-50-seed0"]
    assert isinstance(found, Record)
    assert found.result["versions"]["torch"] == "2.6.0"
    assert records.runs["full-data-seed1"] == Missing("failed", "out of memory")
    assert records.unplanned == ("another",)


@pytest.mark.parametrize("line", ['data_root = "/home/someone/data"', "data_root='/home/someone/data'"])
def test_an_archive_does_not_say_where_the_data_were(pair, tmp_path, line):
    recipe = pair.path / "recipe.toml"
    there = f'{recipe.read_text()}data_root = "of the strategy"\n'
    assert "\n[strategy]\n" in there
    recipe.write_text(f"{line}\n{there}")
    write_archive(tmp_path / "runs.jsonl.xz", Archive("mine", None, {"": read_folder(pair.path)}))
    assert b"someone" not in lzma.decompress((tmp_path / "runs.jsonl.xz").read_bytes())
    assert read_archive(tmp_path / "runs.jsonl.xz").parts[""].planned.recipe_text == there


def test_an_archive_says_why_runs_failed_without_the_folders_of_a_machine(pair, tmp_path):
    for seed, reason in ((1, "/home/someone/runs/x/model.pt: no space left"), (2, "out of memory")):
        (pair.folder("full data", seed).path / "result.json").unlink()
        pair.folder("full data", seed).write_failure(reason)
    damaged = pair.folder("OrderDP 50 %", 0).path / "result.json"
    damaged.write_text("{")
    records = read_folder(pair.path)
    assert str(damaged) in records.runs["OrderDP-50-seed0"].reason
    write_archive(tmp_path / "runs.jsonl.xz", Archive("mine", None, {"": records}))
    runs = read_archive(tmp_path / "runs.jsonl.xz").parts[""].runs
    assert runs["full-data-seed1"] == Missing("failed", ".../model.pt: no space left")
    assert runs["full-data-seed2"] == Missing("failed", "out of memory")
    assert runs["OrderDP-50-seed0"].reason.startswith(".../result.json must hold JSON, got ")
    assert str(tmp_path) not in lzma.decompress((tmp_path / "runs.jsonl.xz").read_bytes()).decode()


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("got '/home/me/my data/x.bin' and \"/home/me/y\"", "got '.../x.bin' and \".../y\""),
        ("got /home/me, /Users/me and C:\\Users\\me; correct it", "got ..., ... and ...; correct it"),
        (r"no C:\Users\me\data\x.bin", "no .../x.bin"),
        ("path=/home/me/a, file:///home/me/b, path:~/runs/c/d", "path=.../a, .../b, path:.../d"),
        ("(see https://pytorch.org/docs/stable)", "(see https://pytorch.org/docs/stable)"),
        ("1/2 of it at 3 MB/s, and/or 4 / 5", "1/2 of it at 3 MB/s, and/or 4 / 5"),
        ("train/0/x.jpg cannot be decoded", "train/0/x.jpg cannot be decoded"),
    ],
)
def test_of_a_path_the_last_name_is_kept(reason, shown):
    assert without_folders(reason) == shown


def test_results_from_an_archive_are_those_from_the_folder(rich, tmp_path):
    write_archive(tmp_path / "runs.jsonl.xz", Archive("mine", None, {"": read_folder(rich.path)}))
    (records,) = read_archive(tmp_path / "runs.jsonl.xz").parts.values()
    for together in (None, 0.5, 0.7):
        assert results_of(records, together=together) == results_of(read_folder(rich.path), together=together)


def test_equal_runs_give_equal_bytes_and_a_small_file(rich, tmp_path):
    archive = Archive("mine", {"title": "study", "parts": ["a", "b"]}, dict.fromkeys("ab", read_folder(rich.path)))
    for name in ("one", "two"):
        write_archive(tmp_path / name, archive)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    size = sum(file.stat().st_size for file in rich.path.rglob("*.json*"))
    assert (tmp_path / "one").stat().st_size < size / 2  # of two parts


def test_an_archive_without_epochs_gives_the_tables_that_need_none(rich, tmp_path):
    whole, thin = tmp_path / "whole.xz", tmp_path / "thin.xz"
    write_archive(whole, Archive("mine", None, {"": read_folder(rich.path)}))
    write_archive(thin, Archive("mine", None, {"": read_folder(rich.path)}), epochs=False)
    assert thin.stat().st_size < whole.stat().st_size
    parts = [read_report(path).parts[0] for path in (thin, whole)]
    found, expected = ({table.name: table for table in part.tables()} for part in parts)
    gone = set(expected) - set(found)
    assert {"accuracy", "differences", "against_short", "worth", "cost", "overview", "usage"} <= set(found)
    assert {"time_to_accuracy", "samples_to_accuracy", "progress_accuracy", "correlation", "jaccard"} <= gone
    assert set(found) <= set(expected)
    for name in found:
        assert found[name] == expected[name]
    assert write_report(thin).exists()


def test_the_lines_are_plain_json(rich, tmp_path):
    write_archive(tmp_path / "runs.jsonl.xz", Archive("mine", None, {"": read_folder(rich.path)}))
    text = lzma.decompress((tmp_path / "runs.jsonl.xz").read_bytes()).decode()
    header, first, *_ = map(json.loads, text.splitlines())
    assert header["parts"][""]["recipe"] == rich.plan.recipe.to_toml()
    assert header["parts"][""]["comparison"]["seeds"] == [0, 1, 2]
    assert (first["run"], first["epochs"]["accuracy"]) == ("OrderDP-50-seed0", [88.0, 89.0, 90.0])


def test_an_epoch_without_a_column_has_none_there(pair, tmp_path):
    folder = pair.folder("full data", 0)
    epochs = [line(epoch, 3, 9, 384, 90.0) for epoch in (1, 2, 3)]
    del epochs[0]["jaccard_checkpoint"]
    folder.write_metrics(epochs)
    write_archive(tmp_path / "file", Archive("mine", None, {"": read_folder(pair.path)}))
    again = read_archive(tmp_path / "file").parts[""].runs["full-data-seed0"].epochs
    assert again == [{**epochs[0], "jaccard_checkpoint": None}, *epochs[1:]]


def test_values_that_are_not_finite_are_kept(pair, tmp_path):
    folder = pair.folder("full data", 0)
    made = [line(epoch, 3, 9, 384, 90.0) for epoch in (1, 2, 3)]
    made[0]["gradient_norm"] = math.inf
    folder.write_metrics(made)
    folder.write_result(result(folder.name, 0, made))
    write_archive(tmp_path / "file", Archive("mine", None, {"": read_folder(pair.path)}))
    assert read_archive(tmp_path / "file").parts[""].runs["full-data-seed0"].epochs[0]["gradient_norm"] == math.inf


def test_reading_imports_no_module_of_a_custom_strategy(made, tmp_path, monkeypatch):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=("full",))
    folder.finish("OrderDP 50 %", (90.0,)).finish("full data", (91.0,))
    for file in (folder.path / "comparison.toml", folder.folder("OrderDP 50 %").path / "recipe.toml"):
        file.write_text(file.read_text().replace('"orderdp"', '"nowhere:Mine"'))
    monkeypatch.setattr(sys, "path", [])
    records = read_folder(folder.path)
    assert results_of(records).entries["OrderDP 50 %"].strategy["name"] == "nowhere:Mine"
    write_archive(tmp_path / "file", Archive("mine", None, {"": records}))
    assert read_archive(tmp_path / "file").parts[""] == records


BROKEN = {
    "no xz": lambda data: b"{}\n",
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: lzma.compress(b""),
    "something else": lambda data: lzma.compress(b'{"format": "x", "version": 1}\n'),
    "of a later version": lambda data: lzma.compress(lzma.decompress(data).replace(b'"version":1', b'"version":2', 1)),
    "a run missing": lambda data: lzma.compress(b"\n".join(lzma.decompress(data).splitlines()[:-1])),
    "no JSON": lambda data: lzma.compress(lzma.decompress(data) + b"{"),
}


@pytest.mark.parametrize("broken", list(BROKEN.values()), ids=list(BROKEN))
def test_a_file_that_is_no_archive_is_refused_in_one_line(pair, tmp_path, broken):
    path = tmp_path / "runs.jsonl.xz"
    write_archive(path, Archive("mine", None, {"": read_folder(pair.path)}))
    path.write_bytes(broken(path.read_bytes()))
    message = (
        rf"^an archive must be a complete file that 'orderdp report --archive' wrote, got {re.escape(str(path))} \(.*"
    )
    with pytest.raises(ValueError, match=message) as caught:
        read_archive(path)
    assert "\n" not in str(caught.value)

"""A folder of data that is ignored or mistyped is refused."""

import re
from pathlib import Path

import pytest

from orderdp.data import fashion_mnist
from orderdp.data.base import DataSetRow
from orderdp.data.registry import DATASETS, load_dataset

each_row = pytest.mark.parametrize("row", DATASETS.values(), ids=list(DATASETS))
OPTIONS = {"data_root": Path(), "download": True, "image_size": 8}


@each_row
@pytest.mark.parametrize("option", list(OPTIONS))
def test_an_option_that_the_set_would_ignore_is_refused(row, option, monkeypatch):
    given = {}
    loading = DataSetRow(row.name, row.summary, lambda **options: given.update(options), row.takes)
    monkeypatch.setitem(DATASETS, row.name, loading)
    if option in row.takes:
        load_dataset(row.name, **{option: OPTIONS[option]})
        assert given[option] == OPTIONS[option]
        return
    message = rf"^{option} applies to data sets? '.*' only, got {OPTIONS[option]} for '{row.name}'; leave it out$"
    with pytest.raises(ValueError, match=message):
        load_dataset(row.name, **{option: OPTIONS[option]})
    assert given == {}


def test_the_sets_that_use_a_data_root_are_named():
    message = (
        "^data_root applies to data sets 'fashion_mnist', 'rotated_fashion_mnist', 'cifar10', 'cifar100', 'sst2', "
        "'letters', 'shuttle', 'wikipedia', 'solubility', 'freesolv' and 'folder' only, got x for 'digits'"
    )
    with pytest.raises(ValueError, match=message):
        load_dataset("digits", data_root=Path("x"))


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if "data_root" in row.takes])
def test_a_folder_that_does_not_exist_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "no", tmp_path / "file"):
        message = f"data_root must be a folder that exists, got {path}; create it or correct it"
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            load_dataset(name, data_root=path)


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if "download" in row.takes])
def test_a_download_makes_a_new_folder_only_in_one_that_exists(name, tmp_path, monkeypatch):
    row, made = DATASETS[name], []
    load = lambda **options: made.append(options["data_root"])  # noqa: E731
    monkeypatch.setitem(DATASETS, name, DataSetRow(name, row.summary, load, row.takes))
    load_dataset(name, data_root=tmp_path / "new", download=True)
    assert made == [tmp_path / "new"]
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "mistyped" / "new", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=r"^data_root must be a folder that exists, got "):
            load_dataset(name, data_root=path, download=True)
    assert len(made) == 1


def test_a_folder_without_the_files_is_not_replaced_by_what_is_installed(tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    installed.mkdir()
    for name in fashion_mnist.MD5:
        (installed / name).write_bytes(b"")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", installed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"^data_root must hold fashion_mnist, got .*empty without train-images"
    ):
        load_dataset("fashion_mnist", data_root=tmp_path / "empty")

"""Windows of Wikipedia, of a small dump with another remover of markup, and of the real one if gensim is installed."""

import bz2
import hashlib
import re
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch

from orderdp.data import wikipedia
from orderdp.data.base import DataSets, Windows, inputs_of
from orderdp.data.registry import load_dataset
from orderdp.data.rows import ResidentRows

PAGES = [f"**{name}**\n\n  {name * 100}  " for name in "abcdefghijkl"]
PAGES.insert(3, "#REDIRECT [[c]]")


@pytest.fixture
def dump(monkeypatch, tmp_path):
    """A folder with a small file in the place of the dump; what reads it is in the place of gensim."""
    content = bz2.compress("\0".join(PAGES).encode())
    (tmp_path / wikipedia.FILE).write_bytes(content)
    monkeypatch.setattr(wikipedia, "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest())
    reader = ModuleType("gensim.corpora.wikicorpus")
    reader.extract_pages = lambda file: [("title", page, 0) for page in file.read().decode().split("\0")]
    reader.filter_wiki = lambda text: text.replace("**", "")
    for name in ("gensim", "gensim.corpora"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, reader.__name__, reader)
    monkeypatch.setattr(wikipedia, "shipped_by", lambda *_: None)
    return tmp_path


def text_of(part):
    """The text that the windows of a part cover."""
    return bytes([*inputs_of(part).flatten().tolist(), int(part.tokens[-1, -1])]).decode(errors="replace")


def test_each_tenth_article_is_for_tests_and_none_is_in_both_parts(dump):
    data = load_dataset("wikipedia", data_root=dump)
    assert text_of(data.test) == ("j\n" + 100 * "j")[: 64 + 1]
    train = "\n\n".join(f"{name}\n{name * 100}" for name in "abcdefghikl")  # and no redirect
    assert text_of(data.train) == train[: len(data.train) * 64 + 1]
    assert len(train) - 64 <= len(data.train) * 64 + 1 <= len(train)
    assert (data.kind, data.predicted, data.num_classes, data.vocabulary) == ("windows of tokens", "tokens", 0, 256)


def test_a_label_is_the_byte_that_follows(dump):
    windows = load_dataset("wikipedia", data_root=dump).train
    assert torch.equal(windows.labels[:, :-1], inputs_of(windows)[:, 1:])
    assert torch.equal(windows.labels[:-1, -1], inputs_of(windows)[1:, 0])
    tokens, labels = ResidentRows(windows).__getitems__([3, 1])
    assert torch.equal(tokens, inputs_of(windows)[[3, 1]])
    assert torch.equal(labels, windows.labels[[3, 1]])
    assert torch.equal(ResidentRows(windows)[1][1], labels[1])


def test_a_subset_of_windows_is_a_uniform_one():
    windows = Windows(torch.arange(65).repeat(1000, 1) + torch.arange(1000)[:, None])
    whole = DataSets(windows, windows, num_classes=0, vocabulary=1100)
    small, large = (whole.with_train_size(size) for size in (100, 200))
    assert set(small.rows) < set(large.rows)
    assert 400 < np.mean(small.rows) < 600
    assert torch.equal(small.train.tokens[:, 0], torch.from_numpy(small.rows))
    assert small.sha256 != large.sha256
    with pytest.raises(ValueError, match=r"^label_noise needs labels of several classes, got 0.2 for tokens; leave it"):
        whole.with_label_noise(0.2)


def test_a_missing_or_changed_dump_is_refused(dump, monkeypatch):
    path = dump / wikipedia.FILE
    path.write_bytes(bz2.compress(b"other"))
    with pytest.raises(ValueError, match=f"^wikipedia: the file {re.escape(str(path))} must have md5 .*; delete it"):
        load_dataset("wikipedia", data_root=dump)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^data_root must hold wikipedia, got .* without enwiki.*; install gen"
    ):
        load_dataset("wikipedia", data_root=dump)
    assert not wikipedia.is_installed()
    with pytest.raises(FileNotFoundError, match=r"^data_root must hold wikipedia, got None without enwiki"):
        load_dataset("wikipedia")


def test_what_a_package_ships_is_found_where_data_root_lacks_it(dump, monkeypatch, tmp_path):
    monkeypatch.setattr(wikipedia, "shipped_by", lambda *_: dump)
    (tmp_path / "other").mkdir()
    assert wikipedia.is_installed()
    for place in (None, tmp_path / "other"):
        assert len(load_dataset("wikipedia", data_root=place).test) == 1


def test_without_gensim_one_line_names_it(dump, monkeypatch):
    monkeypatch.delitem(sys.modules, "gensim.corpora.wikicorpus")
    monkeypatch.delitem(sys.modules, "gensim.corpora")
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(ImportError, match=r"^the data set wikipedia needs gensim(\.\w+)*: pip install gensim$"):
        load_dataset("wikipedia", data_root=dump)


@pytest.mark.skipif(find_spec("gensim") is None, reason="gensim, which ships the articles, is not installed")
def test_the_articles_are_those_that_gensim_ships():
    data = load_dataset("wikipedia")
    assert (len(data.train), len(data.test)) == (43_766, 4_370)
    assert text_of(data.train).startswith("'''Anarchism''' is a political philosophy that advocates")
    assert "Aldous Huxley" in text_of(data.test)
    train = bytes(inputs_of(data.train).flatten().tolist())
    assert sum(bytes(row) in train for row in inputs_of(data.test).tolist()) == 14

"""Data sets of rows of numbers: R's files, letters and Shuttle, and how a run reads them."""

import hashlib
import lzma
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from orderdp.data import mlbench
from orderdp.data.base import Features
from orderdp.data.r_files import data_frame
from orderdp.data.registry import DATASETS, load_dataset
from orderdp.data.rows import ResidentRows

REAL_ROOT = Path(os.environ["ORDERDP_DATA_ROOT"]) if "ORDERDP_DATA_ROOT" in os.environ else None


class Written:
    """Writes data frames as R's `save` does, after "R Internals": each symbol in full once, then by its number."""

    def __init__(self, version=2):
        self.symbols = []
        self.begin = b"RDX%d\nX\n" % version + struct.pack(">iii", version, 0x40001, 0x20300)
        if version == 3:
            self.begin += struct.pack(">i", 5) + b"UTF-8"

    def text(self, value):
        return struct.pack(">ii", 9 | 64 << 12, len(value.encode())) + value.encode()

    def symbol(self, name):
        if name in self.symbols:
            return struct.pack(">i", 255 | self.symbols.index(name) + 1 << 8)
        self.symbols.append(name)
        return struct.pack(">i", 1) + self.text(name)

    def texts(self, values):
        return struct.pack(">ii", 16, len(values)) + b"".join(map(self.text, values))

    def attributes(self, **values):
        found = b"".join(struct.pack(">i", 2 | 0x400) + self.symbol(name) + value() for name, value in values.items())
        return found + struct.pack(">i", 254)

    def numbers(self, values):
        return struct.pack(">ii", 14, len(values)) + np.asarray(values, ">f8").tobytes()

    def factor(self, codes, levels):
        flags = 13 | 0x100 | 0x200
        content = struct.pack(">ii", flags, len(codes)) + np.asarray(codes, ">i4").tobytes()
        return content + self.attributes(
            **{"levels": lambda: self.texts(levels), "class": lambda: self.texts(["factor"])}
        )

    def frame(self, name, **columns):
        """A file with one data frame, whose columns are functions that write them in turn."""
        head = struct.pack(">i", 2 | 0x400) + self.symbol(name) + struct.pack(">ii", 19 | 0x100 | 0x200, len(columns))
        body = b"".join(column() for column in columns.values())
        rows = lambda: struct.pack(">iiii", 13, 2, -(2**31), -3)  # noqa: E731  # as R keeps row names that only count
        about = {"names": lambda: self.texts(list(columns)), "row.names": rows}
        end = self.attributes(**about, **{"class": lambda: self.texts(["data.frame"])})
        return self.begin + head + body + end + struct.pack(">i", 254)


@pytest.mark.parametrize("version", [2, 3])
def test_a_data_frame_of_r_is_read_with_its_numbers_and_factors(version):
    to = Written(version)
    content = to.frame(
        "Mine",
        size=lambda: to.numbers([1.5, -2.0, 1e300]),
        kind=lambda: to.factor([2, 1, 2], ["Rad.Flow", "Über"]),
        other=lambda: to.factor([1, 1, 1], ["only"]),  # by the symbols of the first factor
    )
    found = data_frame(content, "Mine")
    assert list(found) == ["size", "kind", "other"]
    assert found["size"].values.tolist() == [1.5, -2.0, 1e300]
    assert [column.values.dtype for column in found.values()] == [np.float64, np.int64, np.int64]
    assert (found["kind"].values.tolist(), found["kind"].levels) == ([1, 0, 1], ("Rad.Flow", "Über"))
    assert (found["other"].values.tolist(), found["other"].levels) == ([0, 0, 0], ("only",))


def test_a_file_that_is_no_data_frame_of_numbers_is_refused():
    to = Written()
    good = to.frame("Mine", size=lambda: to.numbers([1.0]))
    complex_numbers = good.replace(struct.pack(">ii", 14, 1), struct.pack(">ii", 15, 1))
    for content, name, message in (
        (b"PK\x03\x04", "Mine", r"a file of R must begin with RDX2 or RDX3 and X, got b'PK"),
        (good, "Yours", "a file of R must hold Yours, got Mine; write another file"),
        (good[:-40], "Mine", rf"a file of R must be complete, got {len(good) - 40} bytes; fetch it again"),
        (complex_numbers, "Mine", "a file of R must hold numbers, factors and texts, got an item of type 15; "),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            data_frame(content, name)


@pytest.fixture
def letters(tmp_path, monkeypatch):
    """A folder of a small LetterRecognition, taken for mlbench's: two training rows more than the test begins at."""
    rng = np.random.default_rng(0)
    numbers, labels = rng.integers(0, 16, (16_003, 2)).astype(float), 1 + rng.integers(0, 3, 16_003)
    to = Written()
    content = to.frame(
        "LetterRecognition",
        lettr=lambda: to.factor(labels, ["A", "B", "C"]),
        x=lambda: to.numbers(numbers[:, 0]),
        y=lambda: to.numbers(numbers[:, 1]),
    )
    monkeypatch.setitem(mlbench.MD5, "LetterRecognition", hashlib.md5(content, usedforsecurity=False).hexdigest())
    (tmp_path / "mlbench").mkdir()
    (tmp_path / "mlbench" / "LetterRecognition.rda").write_bytes(lzma.compress(content, preset=0))
    return tmp_path, numbers, labels - 1


def test_a_table_is_split_by_its_order_and_standardised_by_its_training_rows(letters):
    home, numbers, labels = letters
    data = load_dataset("letters", data_root=home)
    assert (len(data.train), len(data.test), data.num_classes, data.kind) == (16_000, 3, 3, "rows of numbers")
    assert data.train.labels.tolist() + data.test.labels.tolist() == labels.tolist()
    train = numbers[:16_000]
    expected = (numbers - train.mean(0)) / train.std(0)
    assert data.train.values.dtype == torch.float32
    assert np.allclose(torch.cat([data.train.values, data.test.values]).numpy(), expected, atol=1e-6)
    assert len(load_dataset("letters", data_root=home / "mlbench", train_size=90).train) == 90


def test_a_table_that_is_missing_or_changed_is_refused_with_what_to_do(letters, monkeypatch):
    home, _, _ = letters
    path = home / "mlbench" / "LetterRecognition.rda"
    whole = path.read_bytes()
    for content, why in ((whole[:-30], "cannot be decompressed"), (lzma.compress(b"RDX2"), "must have content of md5")):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"^letters: the file {re.escape(str(path))} {why} .*; delete it and fetch"
        ):
            load_dataset("letters", data_root=home)
    path.unlink()
    monkeypatch.setattr(mlbench, "DEBIAN", home)
    for root in (home, None):
        message = (
            rf"^data_root must hold letters, got {root} without LetterRecognition.rda; install Debian's r-cran-mlb"
        )
        with pytest.raises(FileNotFoundError, match=message):
            load_dataset("letters", data_root=root)
    assert not DATASETS["letters"].is_installed()


def test_a_batch_of_rows_is_gathered_in_one_call():
    rows = Features(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0]))
    samples = ResidentRows(rows)
    values, labels = samples.__getitems__([2, 0])
    assert (values.tolist(), labels.tolist()) == ([[4, 5], [0, 1]], [0, 0])
    assert samples[1][0].tolist() == [2, 3]
    assert rows.subset(np.array([1])).values.tolist() == [[2, 3]]


def real(name):
    if DATASETS[name].is_installed():
        return load_dataset(name)
    if REAL_ROOT is None or not (REAL_ROOT / "mlbench").is_dir():
        pytest.skip("R's package mlbench is neither installed nor in ORDERDP_DATA_ROOT")
    return load_dataset(name, data_root=REAL_ROOT)


def test_the_letters_are_ucis():
    data = real("letters")
    assert (len(data.train), len(data.test), data.num_classes) == (16_000, 4_000, 26)
    assert data.rare_classes == ()
    rows = [
        [(*x, int(y)) for x, y in zip(part.values.tolist(), part.labels, strict=True)]
        for part in (data.train, data.test)
    ]
    seen = set(rows[0])
    assert len([row for row in rows[1] if row in seen]) == 380


def test_shuttle_is_statlogs():
    data = real("shuttle")
    counts = [torch.bincount(part.labels, minlength=7).tolist() for part in (data.train, data.test)]
    assert counts == [[34_108, 37, 132, 6_748, 2_458, 6, 11], [11_478, 13, 39, 2_155, 809, 4, 2]]
    assert data.rare_classes == (1, 2, 4, 5, 6)
    assert float(data.train.values.double().std(0, correction=0).sub(1).abs().max()) < 1e-5

"""Windows of a stream of tokens, in memory and in files."""

import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import orderdp
from orderdp.data import TokenWindows

STREAM = np.random.default_rng(0).integers(0, 50_000, 1000)


def raw(folder, dtype="uint16"):
    path = folder / "train.bin"
    STREAM.astype(dtype).tofile(path)
    return path


def npy(folder):
    path = folder / "train.npy"
    np.save(path, STREAM.astype(np.int32))
    return path


@pytest.mark.parametrize("stride", [None, 1, 5, 16, 40])
@pytest.mark.parametrize("kind", ["array", "tensor", "raw", "npy"])
def test_each_window_is_its_part_of_the_stream_with_the_token_that_follows(tmp_path, kind, stride):
    tokens = {
        "array": lambda: STREAM,
        "tensor": lambda: torch.from_numpy(STREAM),
        "raw": lambda: raw(tmp_path),
        "npy": lambda: npy(tmp_path),
    }[kind]()
    windows = TokenWindows(tokens, 16, stride=stride, dtype="uint16" if kind == "raw" else None)
    starts = range(0, len(STREAM) - 16, stride or 16)
    assert len(windows) == len(starts)
    for i, start in enumerate(starts):
        x, y = windows[i]
        assert x.dtype == y.dtype == torch.int64
        assert x.tolist() == STREAM[start : start + 16].tolist()
        assert y.tolist() == STREAM[start + 1 : start + 17].tolist()


def test_the_last_window_needs_one_token_more_than_its_length():
    assert len(TokenWindows(STREAM[:17], 16)) == 1
    assert len(TokenWindows(STREAM[:32], 16)) == 1
    assert len(TokenWindows(STREAM[:33], 16)) == 2


def test_an_index_of_32_bits_reaches_tokens_beyond_that():
    tokens = np.broadcast_to(np.uint8(7), (3_000_000_000,))  # one byte in memory
    windows = TokenWindows(tokens, 4, stride=1_400_000_000)
    assert windows[np.int32(2)][0].tolist() == [7] * 4


def test_a_change_of_a_window_does_not_reach_the_stream():
    stream = STREAM.copy()
    windows = TokenWindows(stream, 16)
    windows[0][0].zero_()
    assert (stream == STREAM).all()


def test_what_workers_receive_is_the_path_and_not_the_tokens(tmp_path):
    path = tmp_path / "long.bin"
    np.zeros(1_000_000, dtype=np.uint16).tofile(path)
    windows = TokenWindows(path, 100, dtype="uint16")
    packed = pickle.dumps(windows)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert isinstance(again._tokens, np.memmap)
    assert len(again) == len(windows)
    assert again[9][1].tolist() == windows[9][1].tolist()


def test_the_file_is_mapped_from_a_relative_path_after_the_folder_changed(tmp_path, monkeypatch):
    raw(tmp_path)
    monkeypatch.chdir(tmp_path)
    packed = pickle.dumps(TokenWindows("train.bin", 16, dtype="uint16"))
    monkeypatch.chdir("/")
    assert pickle.loads(packed)[2][0].tolist() == STREAM[32:48].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pruner_reads_the_windows_that_it_chose(tmp_path, workers):
    windows = TokenWindows(raw(tmp_path), 16, dtype="uint16")
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(windows), seed=0)
    context = "spawn" if workers else None
    loader = pruner.loader(windows, batch_size=8, num_workers=workers, multiprocessing_context=context)
    for index, (x, y) in loader:
        assert x.tolist() == [STREAM[16 * i : 16 * i + 16].tolist() for i in index]
        pruner.update(index, y.double().mean(1).requires_grad_())
    assert pruner.report().visits == 31


def test_a_plain_loader_reads_all_windows():
    assert sum(len(x) for x, _ in DataLoader(TokenWindows(STREAM, 16), batch_size=10)) == 62


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: TokenWindows(STREAM, 0), ValueError, "length must be an integer of at least 1"),
        (lambda _: TokenWindows(STREAM, 2.5), TypeError, "length must be an integer"),
        (lambda _: TokenWindows(STREAM, 16, stride=0), ValueError, "stride must be an integer of at least 1"),
        (
            lambda _: TokenWindows(STREAM[:16], 16),
            ValueError,
            "must hold at least length + 1 = 17 tokens, got 16",
        ),
        (
            lambda _: TokenWindows(STREAM.reshape(2, -1), 16),
            ValueError,
            "one dimension, got int64 of shape (2, 500)",
        ),
        (lambda _: TokenWindows(STREAM / 2, 16), TypeError, "must hold integers in one dimension, got float64"),
        (lambda _: TokenWindows(torch.ones(99), 16), TypeError, "must hold integers in one dimension, got float32"),
        (lambda _: TokenWindows(STREAM, 16, dtype="uint16"), ValueError, "dtype is for a file of bare numbers"),
        (lambda at: TokenWindows(npy(at), 16, dtype="uint16"), ValueError, "dtype is for a file of bare numbers"),
        (lambda at: TokenWindows(raw(at), 16), ValueError, 'which is no .npy file, got None; write dtype="uint16"'),
        (lambda at: TokenWindows(at / "none.bin", 16, dtype="uint16"), FileNotFoundError, "none.bin"),
        (lambda at: TokenWindows(raw(at, "uint8"), 16, dtype="S3"), ValueError, "tokens of 3 bytes, got 1000 bytes"),
        (lambda at: TokenWindows(raw(at, "uint8"), 16, dtype="f4"), TypeError, "must hold integers"),
        (lambda _: TokenWindows(STREAM, 16)[62], IndexError, "index must lie in 0 .. 61, got 62"),
        (lambda _: TokenWindows(STREAM, 16)[-1], IndexError, "index must lie in 0 .. 61, got -1"),
    ],
)
def test_bad_input_gets_one_clear_line(tmp_path, make, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ValueError, match="got 0 bytes; it is cut"):
        TokenWindows(tmp_path / "empty.bin", 16, dtype="uint16")

"""SST-2, phrases and sentences from film reviews, from GLUE's files."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from orderdp.data.archives import md5_of, wrong_file
from orderdp.data.base import DataSets, Texts

MD5 = {"train.tsv": "da409a0a939379ed32a470bc0f7fe99a", "dev.tsv": "268856b487b2a31a28c0a93daaff7288"}
_UNKNOWN = 1


def load_sst2(*, data_root: Path | None) -> DataSets:
    """Returns 67,349 training texts, most of them phrases, and 872 test sentences, GLUE's development set.

    A token is a word of the training texts: 2 for the most frequent one, and so on, equally frequent ones in
    alphabetical order; 1 is any other word. Labels are 0, negative, and 1, positive. Looks in the folder SST-2 below
    data_root, and in data_root itself.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file differs from GLUE's.
    """
    texts = {name: _rows(_find(data_root, name), name) for name in MD5}
    counts = Counter(word for text, _ in texts["train.tsv"] for word in text.split())
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    tokens = {word: number for number, word in enumerate(frequent, _UNKNOWN + 1)}
    train, test = (_part(texts[name], tokens) for name in MD5)
    return DataSets(train, test, num_classes=2, vocabulary=len(tokens) + _UNKNOWN + 1)


def _find(data_root: Path | None, name: str) -> Path:
    homes = [] if data_root is None else [data_root / "SST-2", data_root]
    for home in homes:
        if (home / name).is_file():
            return home / name
    raise FileNotFoundError(f"data_root must hold sst2, got {data_root} without {name}; unpack GLUE's SST-2.zip there")


def _rows(path: Path, name: str) -> list[tuple[str, int]]:
    """Returns the texts and labels of a file of tab-separated lines without quoting."""
    content = path.read_bytes()
    if (got := md5_of(content)) != MD5[name]:
        raise ValueError(wrong_file("sst2", path, f"must have md5 {MD5[name]}, got {got}"))
    lines = content.decode().removesuffix("\n").split("\n")[1:]
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines)]


def _part(rows: list[tuple[str, int]], tokens: dict[str, int]) -> Texts:
    found = [torch.tensor([tokens.get(word, _UNKNOWN) for word in text.split()]) for text, _ in rows]
    padded: Tensor = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
    return Texts(padded, torch.tensor([label for _, label in rows]))

"""English Wikipedia, 106 articles from a dump that gensim ships among its test data, as windows of bytes."""

import bz2
from pathlib import Path

import numpy as np
import torch

from orderdp.data.archives import md5_of, shipped_by, wrong_file
from orderdp.data.base import DataSets, Windows

FILE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
MD5 = "55899abfb7caa0e50d2665787fa4afca"
LENGTH = 64  # bytes of a window
_EVERY = 10  # one article in so many is for tests


def load_wikipedia(*, data_root: Path | None) -> DataSets:
    """Returns 43,766 training and 4,370 test windows of 64 bytes, which do not overlap.

    The dump has 206 pages: 100 redirects, and 106 articles of 3.1 MB without markup. A token is a byte of their UTF-8,
    so no vocabulary is learnt and no word is unknown. Every tenth article is for tests, so no article is in both
    parts. Some articles quote each other: 14 of the test windows stand in the training text, byte by byte.

    Markup is removed by gensim, which ships the file too; other libraries leave footnotes amid sentences. Lines without
    text are left out. Looks in data_root, then among the test data of the gensim that is installed.

    Raises:
        ImportError: gensim is not installed.
        FileNotFoundError: the file is missing.
        ValueError: it differs from the one that gensim 4.4.0 ships.
    """
    homes = [home for home in (data_root, shipped_by("gensim", "test/test_data")) if home is not None]
    path = next((home / FILE for home in homes if (home / FILE).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"data_root must hold wikipedia, got {data_root} without {FILE}; install gensim 4.4.0, which ships it"
        )
    if (got := md5_of(path.read_bytes())) != MD5:
        raise ValueError(wrong_file("wikipedia", path, f"must have md5 {MD5}, got {got}"))
    articles = _articles(path)
    train = [article for number, article in enumerate(articles, 1) if number % _EVERY]
    return DataSets(_windows(train), _windows(articles[_EVERY - 1 :: _EVERY]), num_classes=0, vocabulary=256)


def is_installed() -> bool:
    """Returns whether the gensim that is installed has the file."""
    home = shipped_by("gensim", "test/test_data")
    return home is not None and (home / FILE).is_file()


def _articles(path: Path) -> list[str]:
    """Returns the text of each article, a paragraph or a heading a line, in the order of the file."""
    try:
        from gensim.corpora.wikicorpus import extract_pages, filter_wiki
    except ModuleNotFoundError as error:
        raise ImportError(f"the data set wikipedia needs {error.name}: pip install gensim") from error
    with bz2.open(path) as file:
        pages = [text for _, text, _ in extract_pages(file)]
    articles = [filter_wiki(text) for text in pages if not text.lower().startswith("#redirect")]
    return ["\n".join(line.strip() for line in article.splitlines() if line.strip()) for article in articles]


def _windows(articles: list[str]) -> Windows:
    """Returns windows of the articles, one after another; the rest at the end is left out."""
    content = np.frombuffer("\n\n".join(articles).encode(), dtype=np.uint8)
    return Windows(torch.from_numpy(content.astype(np.int64)).unfold(0, LENGTH + 1, LENGTH))

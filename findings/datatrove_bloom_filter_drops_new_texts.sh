#!/usr/bin/env bash
# datatrove 0.10.1: deduplication by a Bloom filter of 1 MiB, or any power of two, drops all texts but the first.
#
# `SingleBloomFilter` marks the n-grams of each document in a table of bits, and drops documents whose n-grams are
# mostly marked. To find the place of an n-gram, it joins its hash and `m_bytes` by a bitwise "and". So only those
# places are used whose binary digits are among those of `m_bytes`. A power of two has one such digit, which leaves two
# places in the whole table, and the first document marks both. A million bytes have 128 places, and end after two
# documents. The log states how likely a new n-gram is taken for a known one, computed for the whole table: two in a
# billion. No warning comes, and the run ends well. Sizes just below a power of two, as 2**20 - 1, have all digits, and
# keep the texts. With `k` left out, the number of hashes is eight times the optimal one, which makes the run slow.
#
# Output seen (Python 3.11, Linux), 500 texts of 60 random words, no two of which share a word:
#     1048576 bytes: stated probability of a false duplicate 2e-09, kept 1 of 500 different texts
#     1000000 bytes: stated probability of a false duplicate 2e-09, kept 2 of 500 different texts
#     1048575 bytes: stated probability of a false duplicate 2e-09, kept 500 of 500 different texts
#
# orderdp prunes while it trains, and leaves duplicates to such tools. Count what they leave.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 regex==2026.11.19 tokenizers==0.23.3 xxhash==3.6.0 spacy==3.8.18 datatrove==0.10.1
cat > "$folder/texts.py" <<'PYTHON'
import sys

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.bloom_filter import BloomFilterConfig, SingleBloomFilter, get_false_positive_prob

NUM_TEXTS, NUM_WORDS, NUM_HASHES = 500, 60, 5

rng = np.random.default_rng(0)
letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=(NUM_TEXTS, NUM_WORDS, 8))
texts = [Document(text=" ".join("".join(word) for word in words), id=str(row)) for row, words in enumerate(letters)]
for size, kept_all in ((2**20, False), (10**6, False), (2**20 - 1, True)):
    config = BloomFilterConfig(m_bytes=size, k=NUM_HASHES, expected_elements=NUM_TEXTS * NUM_WORDS)
    kept = len(list(SingleBloomFilter(sys.argv[1], config).run(texts)))
    stated = get_false_positive_prob(size, n=NUM_TEXTS * NUM_WORDS, k=NUM_HASHES)
    print(f"{size} bytes: stated probability of a false duplicate {stated:.0e}", end=", ")
    print(f"kept {kept} of {NUM_TEXTS} different texts")
    assert (kept == NUM_TEXTS) if kept_all else (kept < NUM_TEXTS / 10), "datatrove behaves otherwise now"
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/texts.py" "$folder" 2>/dev/null

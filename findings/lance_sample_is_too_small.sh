#!/usr/bin/env bash
# pylance 14.0.2: `LanceDataset(samples=n)` for PyTorch gives fewer rows than n, and never gives some of the rows.
#
# Up to 2,048 samples are a uniform draw. For more, the table is cut into pieces, a 2,048th of its length each, and every
# piece gives a run of neighbouring rows, a 2,048th of n. Both are rounded down. So of 60,000 rows, as many as MNIST has,
# 4,000 asked for are 2,069 given. The place of a run is drawn so that it never reaches the last row of its piece. So one
# row in 29 of these 60,000 comes in no epoch, one in four of 10,000, and of 6,000 the same even rows come in each epoch,
# which may be all of one class or view. An experiment with a share of the data has another share, and a draw anew in
# each epoch leaves samples out for good. None of this is documented, and nothing warns. `maybe_sample` of
# `lance.sampler` does the same, and draws uniformly with `max_takes=n`, as does `dataset.sample(n)`.
#
# Output seen (Python 3.11, Linux), tables in one file, batches of 256:
#     of 60000 rows, 2000 asked: 2000 given
#     of 60000 rows, 4000 asked: 2069 given
#     of 60000 rows, 6000 asked: 4138 given
#     of 60000 rows, 30000 asked: 28966 given
#     of 10000 rows, 2000 asked in 3 epochs: 6000 given, some of them fourth rows: True
#     of 10000 rows, 5000 asked in 3 epochs: 15000 given, some of them fourth rows: False
#     of 6000 rows, 3000 asked: the even rows, in each epoch: True
#     of 60000 rows, 4000 asked with max_takes=4000: 4000 given
#
# orderdp's methods choose exactly as many samples as they say, and any sample may come.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 pyarrow==26.0.1 pylance==14.0.2
cat > "$folder/samples.py" <<'PYTHON'
import sys

import lance
import pyarrow
from lance.sampler import maybe_sample
from lance.torch.data import LanceDataset


def table(num_rows):
    rows = pyarrow.table({"row": range(num_rows)})
    return lance.write_dataset(rows, f"{sys.argv[1]}/{num_rows}.lance")


def epoch(dataset, num_samples):
    """Returns the rows of an epoch of so many samples."""
    batches = LanceDataset(dataset, batch_size=256, columns=["row"], samples=num_samples)
    return [row for batch in batches for row in batch.tolist()]


large = table(60_000)
for asked, expected in ((2_000, 2_000), (4_000, 2_069), (6_000, 4_138), (30_000, 28_966)):
    given = epoch(large, asked)
    print(f"of 60000 rows, {asked} asked: {len(given)} given")
    assert len(set(given)) == len(given) == expected, "lance behaves otherwise now"
small = table(10_000)
for asked in (2_000, 5_000):
    given = [row for _ in range(3) for row in epoch(small, asked)]
    fourth = any(row % 4 == 3 for row in given)
    print(f"of 10000 rows, {asked} asked in 3 epochs: {len(given)} given, some of them fourth rows: {fourth}")
    assert len(given) == 3 * asked and fourth == (asked == 2_000), "lance behaves otherwise now"
halves = table(6_000)
first, second = (epoch(halves, 3_000) for _ in range(2))
even = first == second == list(range(0, 6_000, 2))
print("of 6000 rows, 3000 asked: the even rows, in each epoch:", even)
assert even, "lance behaves otherwise now"
batches = maybe_sample(large, 4_000, "row", max_takes=4_000)
given = sum(batch.num_rows for batch in batches)
print(f"of 60000 rows, 4000 asked with max_takes=4000: {given} given")
assert given == 4_000, "lance behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/samples.py" "$folder" 2>/dev/null

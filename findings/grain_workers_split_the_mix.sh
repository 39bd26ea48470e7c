#!/usr/bin/env bash
# grain 0.2.18: batches of a mixed data set come from one part alone, once worker processes read it.
#
# `MapDataset.mix` puts the samples of its parts in a fixed order, at 1:1 in turn. With `mp_prefetch`, worker k of n
# reads each n-th sample of that order, and makes batches of them. So does a host that takes `mixed[k::n]`, as the
# tutorial advises. At 1:1 and an even number of workers, each of them reads one part only, and each batch is of one
# part: one language, label or difficulty. Batch normalisation and contrastive losses see other batches, and such a
# host never trains the other part. The documentation says that the number of workers may change the order after a
# filter or a packing, and names no mix. The proportions of the whole epoch are right, and nothing warns.
# `IterDataset.mix` avoids it, and so does a slice of each part before the mix. At 1:1, an odd number of workers does
# too.
#
# Output seen (Python 3.11, Linux), 400 samples in each part, batches of 8: how many batches have so many of part B
#     MapDataset.mix 1:1, 0 workers: 100 have 4
#     MapDataset.mix 1:1, 2 workers: 50 have 0, 50 have 8
#     MapDataset.mix 1:1, 3 workers: 99 have 4
#     MapDataset.mix 3:1, 0 workers: 66 have 2
#     MapDataset.mix 3:1, 4 workers: 48 have 0, 16 have 8
#     IterDataset.mix 1:1, 2 workers: 100 have 4
#     IterDataset.mix 3:1, 4 workers: 64 have 2
#     share of part B on two hosts, sliced after the mix: 0.0 1.0
#     share of part B on two hosts, sliced before the mix: 0.5 0.5
#
# A Pruner draws from the whole data set, whatever its order. StreamPruner makes its batches from a window of several, so
# it mixes those of the workers again, but not the slices of the hosts. The page on streams says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q grain==0.2.18 numpy==2.4.6
cat > "$folder/mix.py" <<'PYTHON'
from collections import Counter

import grain


def parts(kind):
    """Returns part A, the numbers below 1,000, and part B, those from 1,000 on, both shuffled."""
    both = [grain.MapDataset.range(first, first + 400).shuffle(seed=first) for first in (0, 1_000)]
    return both if kind is grain.MapDataset else [part.to_iter_dataset() for part in both]


def of_part_b(kind, weights, num_workers):
    """Returns for each batch of an epoch how many of its 8 samples are of part B."""
    mixed = kind.mix(parts(kind), weights)
    samples = mixed.to_iter_dataset() if kind is grain.MapDataset else mixed
    batches = samples.batch(8, drop_remainder=True)
    if num_workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return Counter(int((batch >= 1_000).sum()) for batch in batches)


def main():
    for kind, weights, num_workers, mixed in (
        (grain.MapDataset, [1, 1], 0, True),
        (grain.MapDataset, [1, 1], 2, False),
        (grain.MapDataset, [1, 1], 3, True),
        (grain.MapDataset, [3, 1], 0, True),
        (grain.MapDataset, [3, 1], 4, False),
        (grain.IterDataset, [1, 1], 2, True),
        (grain.IterDataset, [3, 1], 4, True),
    ):
        counts = of_part_b(kind, weights, num_workers)
        shown = ", ".join(f"{batches} have {number}" for number, batches in sorted(counts.items()))
        print(f"{kind.__name__}.mix {weights[0]}:{weights[1]}, {num_workers} workers: {shown}")
        assert set(counts).isdisjoint({0, 8}) if mixed else set(counts) == {0, 8}, "grain behaves otherwise now"
    first, second = parts(grain.MapDataset)
    hosts = [grain.MapDataset.mix([first, second])[host::2] for host in range(2)]
    shares = [sum(sample >= 1_000 for sample in host) / len(host) for host in hosts]
    print("share of part B on two hosts, sliced after the mix:", *shares)
    hosts = [grain.MapDataset.mix([first[host::2], second[host::2]]) for host in range(2)]
    right = [sum(sample >= 1_000 for sample in host) / len(host) for host in hosts]
    print("share of part B on two hosts, sliced before the mix:", *right)
    assert (shares, right) == ([0, 1], [0.5, 0.5]), "grain behaves otherwise now"


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" "$folder/mix.py" 2>/dev/null

#!/usr/bin/env bash
# torch_geometric 2.8.1: leaving out graphs that are too big makes DynamicBatchSampler train others twice.
#
# The sampler fills batches up to a number of nodes. `skip_too_big=True` leaves out a graph that alone is larger, as its
# documentation says. Where the next batch begins is counted in graphs that were taken, so each graph left out moves it
# back by one, and graphs of the last batch come again. An epoch ends when as many were taken as the data set has. So for
# each graph left out, another one comes twice, and some come four times. In a fixed order these are the same in each
# epoch. A big graph also ends the batch that is being filled, so there are many more steps. No graph is missing, the
# number of graphs is that of the data set, and nothing warns. Without skipping, each graph comes once.
#
# Output seen (Python 3.11, Linux), 1,000 graphs in random order, 1 to 30 nodes, batches of up to 100 nodes:
#     no graph of 200 nodes: 164 batches, 1000 graphs, 1000 different, at most 1 time
#     5 % have 200 nodes: 198 batches, 1000 graphs, 950 different, at most 2 times
#     20 % have 200 nodes: 356 batches, 1000 graphs, 800 different, at most 4 times
#
# orderdp's loader batches its own choice of graphs, which holds each once, and never takes this sampler.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 torch_geometric==2.8.1
cat > "$folder/batches.py" <<'PYTHON'
from collections import Counter

import torch
from torch_geometric.data import Data
from torch_geometric.loader import DynamicBatchSampler

rng = torch.Generator().manual_seed(0)
small = torch.randint(1, 31, (1_000,), generator=rng).tolist()
order = torch.randperm(1_000, generator=rng).tolist()


def batches(num_big):
    """Returns the batches of one epoch, in which some graphs are too big for any batch."""
    big = set(order[:num_big])
    sizes = [200 if number in big else size for number, size in enumerate(small)]
    graphs = [Data(num_nodes=size) for size in sizes]
    torch.manual_seed(0)
    sampler = DynamicBatchSampler(graphs, max_num=100, shuffle=True, skip_too_big=True)
    epoch = [batch for batch in sampler]  # `list` would ask for a length, which the sampler does not have
    assert all(sum(sizes[graph] for graph in batch) <= 100 for batch in epoch)
    return epoch


for share, num_big in (("no graph of 200 nodes", 0), ("5 % have 200 nodes", 50), ("20 % have 200 nodes", 200)):
    epoch = batches(num_big)
    counts = Counter(graph for batch in epoch for graph in batch)
    times = max(counts.values())
    print(
        f"{share}: {len(epoch)} batches, {counts.total()} graphs, {len(counts)} different, "
        f"at most {times} time{'s' * (times > 1)}"
    )
    assert counts.total() == 1_000 and len(counts) == 1_000 - num_big, "torch_geometric behaves otherwise now"
    assert (times > 1) == (num_big > 0), "torch_geometric behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/batches.py" 2>/dev/null

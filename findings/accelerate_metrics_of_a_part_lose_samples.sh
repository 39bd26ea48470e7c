#!/usr/bin/env bash
# accelerate 1.15.0: with a sampler over a part of the data, gather_for_metrics loses samples or counts some twice.
#
# A prepared loader fills up its last batch so that all processes have equally many samples. `gather_for_metrics` is to
# take these copies out again. It computes the size of the last batch from the length of the data set, and does not ask
# the sampler. With `sampler=SubsetRandomSampler(held_out)`, the usual way to evaluate on a part, the last batch is cut
# to a size that belongs to the whole data set. So a single process, which has no copies at all, loses samples. Two
# processes lose samples, or keep the copies, by batch size. The metric is of other samples than it says, and nothing
# warns. Losses that are gathered while training on a part are cut as well. `Subset(dataset, held_out)` in place of the
# sampler is counted right.
#
# Output seen (Python 3.11, Linux), 1,000 samples, of which 250 are asked for:
#     1 process, SubsetRandomSampler, batches of 32: 232 samples, 232 distinct
#     1 process, SubsetRandomSampler, batches of 100: 250 samples, 250 distinct
#     1 process, Subset, batches of 32: 250 samples, 250 distinct
#     1 process, Subset, batches of 100: 250 samples, 250 distinct
#     2 processes, SubsetRandomSampler, batches of 32: 232 samples, 232 distinct
#     2 processes, SubsetRandomSampler, batches of 100: 400 samples, 250 distinct
#     2 processes, Subset, batches of 32: 250 samples, 250 distinct
#     2 processes, Subset, batches of 100: 250 samples, 250 distinct
#
# The batches of `pruner.loader` are gathered whole. The page on frameworks warns of a DataLoader over `pruner.sampler`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
cat > "$folder/metrics.py" <<'PYTHON'
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler

NUM_SAMPLES, ASKED = 1_000, 250

accelerator = Accelerator(cpu=True)
processes = "1 process" if accelerator.num_processes == 1 else f"{accelerator.num_processes} processes"
dataset = list(range(NUM_SAMPLES))
held_out = torch.randperm(NUM_SAMPLES, generator=torch.Generator().manual_seed(0))[:ASKED].tolist()


def gathered(loader):
    """Returns the samples that a metric would see."""
    batches = [accelerator.gather_for_metrics(batch) for batch in accelerator.prepare(loader)]
    return torch.cat(batches).tolist()


def show(name, batch_size, loader, right):
    samples = gathered(loader)
    distinct = len(set(samples))
    if accelerator.is_main_process:
        print(f"{processes}, {name}, batches of {batch_size}: {len(samples)} samples, {distinct} distinct")
    assert (len(samples) == ASKED) == right, "accelerate behaves otherwise now"


one = accelerator.num_processes == 1
show("SubsetRandomSampler", 32, DataLoader(dataset, 32, sampler=SubsetRandomSampler(held_out)), right=False)
show("SubsetRandomSampler", 100, DataLoader(dataset, 100, sampler=SubsetRandomSampler(held_out)), right=one)
for batch_size in (32, 100):
    show("Subset", batch_size, DataLoader(Subset(dataset, held_out), batch_size), right=True)
PYTHON
export OMP_NUM_THREADS=1
"$folder/venv/bin/python" "$folder/metrics.py" 2>/dev/null
"$folder/venv/bin/torchrun" --standalone --nproc-per-node=2 "$folder/metrics.py" 2>/dev/null

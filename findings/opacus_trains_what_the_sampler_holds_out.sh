#!/usr/bin/env bash
# opacus 1.6.0: make_private trains on the samples that the loader's sampler holds out, in batches five times as large.
#
# `make_private` returns the loader with Poisson sampling, since the account of privacy needs it. The documentation of
# that loader says that else it keeps the behaviour of the given one, and that the average batch size stays the same.
# The new loader draws from the whole data set, and keeps of the sampler only the number of its batches. With
# `sampler=SubsetRandomSampler(train_part)`, the validation samples are trained, and the score on them is worth nothing.
# The batches are as many times too large as the part is smaller than the data set, so the learning rate does not fit. A
# sampler with weights loses them in the same way, which an issue of 2023 reports. Nothing warns. `Subset(dataset,
# train_part)` in place of the sampler gives the right samples and batches.
#
# Output seen (Python 3.11, Linux), 1,000 samples, 200 of them to be trained, in batches of 20; numbers may vary:
#     SubsetRandomSampler: batches of 97 on average, 758 held-out samples trained in 3 epochs
#     Subset: batches of 21 on average, 0 held-out samples trained in 3 epochs
#
# A Pruner whose sampler was dropped in this way refuses the first update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 opacus==1.6.0
cat > "$folder/private.py" <<'PYTHON'
import torch
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset

NUM_SAMPLES, NUM_TRAINED, BATCH_SIZE = 1_000, 200, 20

torch.manual_seed(0)
dataset = TensorDataset(torch.arange(NUM_SAMPLES), torch.randn(NUM_SAMPLES, 4))
train_part = torch.randperm(NUM_SAMPLES)[:NUM_TRAINED].tolist()


def train(loader):
    """Returns the batches that three epochs train."""
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
    )
    batches = []
    for _ in range(3):
        for ids, inputs in loader:
            batches.append(ids.tolist())
            optimizer.zero_grad()
            model(inputs).mean().backward()
            optimizer.step()
    return batches


def show(name, loader):
    batches = train(loader)
    size = sum(map(len, batches)) / len(batches)
    held_out = len({sample for batch in batches for sample in batch} - set(train_part))
    print(f"{name}: batches of {size:.0f} on average, {held_out} held-out samples trained in 3 epochs")
    return size, held_out


size, held_out = show("SubsetRandomSampler", DataLoader(dataset, BATCH_SIZE, sampler=SubsetRandomSampler(train_part)))
assert size > 4 * BATCH_SIZE and held_out > 600, "opacus behaves otherwise now"
size, held_out = show("Subset", DataLoader(Subset(dataset, train_part), BATCH_SIZE, shuffle=True))
assert size < 1.3 * BATCH_SIZE and held_out == 0, "opacus behaves otherwise now"
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/private.py" 2>/dev/null

#!/usr/bin/env bash
# lightning 2.6.6: on two processes, an epoch over a random sampler leaves out a quarter of its samples.
#
# On several processes the Trainer wraps the sampler of a training loader so that each process gets its part. Its
# wrapper is said to allow any sampler. Each process draws the sampler for itself and takes its part of its own draw.
# Without `seed_everything` the draws differ. So a SubsetRandomSampler gives a quarter of its samples to no process in
# an epoch, and as many to both. On more processes more are left out. The number of steps is right, and nothing warns.
# For `shuffle=True` the same overlap was corrected as an error in 2023. With `seed_everything` the parts fit. Then a
# sampler of fixed order, as for a curriculum, still comes shuffled, although the wrapper says that its `shuffle` has no
# effect. With `use_distributed_sampler=False` and a sampler that splits itself by rank, neither happens.
#
# Output seen (Python 3.11, Linux), 800 samples, two processes, three epochs; the second line varies:
#     shuffle=True: 800 800 800 distinct samples
#     SubsetRandomSampler: 607 598 600 distinct samples
#     SubsetRandomSampler, seed_everything: 800 800 800 distinct samples
#     a list from 0 to 799: 800 800 800 distinct samples; in this order: False
#     a list from 0 to 799, one process: 800 800 800 distinct samples; in this order: True
#
# The ranks of a Pruner all compute the same choice and order, and share it without overlap.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 lightning==2.6.6
cat > "$folder/ranks.py" <<'PYTHON'
import sys

import lightning
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler

NUM_SAMPLES = 800


class Model(lightning.LightningModule):
    """Notes the samples that each process trains, epoch by epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.batches, self.epochs = [], []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.layer(batch[:, None].float()).mean()

    def on_train_epoch_end(self):
        parts = self.all_gather(torch.cat(self.batches))  # (processes, samples), or (samples,) of one process
        self.epochs.append(parts.reshape(-1, len(parts[0]) if parts.ndim == 2 else len(parts)))
        self.batches = []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def show(name, loader, devices=2):
    """Trains three epochs, and returns the numbers of distinct samples and whether they came in order."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Model()
    trainer.fit(model, loader)
    assert all(epoch.numel() == NUM_SAMPLES for epoch in model.epochs)
    distinct = [len(epoch.unique()) for epoch in model.epochs]
    in_order = all(bool((epoch.diff() > 0).all()) for epoch in model.epochs)
    if trainer.is_global_zero:
        print(f"{name}:", *distinct, "distinct samples" + (f"; in this order: {in_order}" if "list" in name else ""))
    return distinct, in_order


dataset = range(NUM_SAMPLES)
whole = [NUM_SAMPLES] * 3
if sys.argv[1] == "two":
    assert show("shuffle=True", DataLoader(dataset, 20, shuffle=True))[0] == whole
    subset = DataLoader(dataset, 20, sampler=SubsetRandomSampler(dataset))
    left_out = show("SubsetRandomSampler", subset)[0]
    assert max(left_out) < 0.85 * NUM_SAMPLES, "lightning behaves otherwise now"
    lightning.seed_everything(0)
    assert show("SubsetRandomSampler, seed_everything", subset)[0] == whole
    listed = show("a list from 0 to 799", DataLoader(dataset, 20, sampler=list(dataset)))
    assert listed == (whole, False), "lightning behaves otherwise now"
else:
    listed = show("a list from 0 to 799, one process", DataLoader(dataset, 20, sampler=list(dataset)), devices=1)
    assert listed == (whole, True), "lightning behaves otherwise now"
PYTHON
export OMP_NUM_THREADS=1
"$folder/venv/bin/python" "$folder/ranks.py" two 2>/dev/null
"$folder/venv/bin/python" "$folder/ranks.py" one 2>/dev/null

#!/usr/bin/env bash
# lightning 2.6.6: some checkpoints resume with a batch counter of another epoch, and train too few or too many batches.
#
# A plain DataLoader has four batches an epoch. In a run of `max_steps=8`, a checkpoint saved after `fit` keeps the
# counter of the last epoch, which is full. The resumed run begins epoch 2 with batch 4, and ends it there: an epoch of
# one batch. And where `on_train_batch_start` has returned -1 once, to leave an epoch early, a later checkpoint inside an
# epoch resumes one batch too early, so that batch is trained twice. There is no warning.
#
# Output seen (Python 3.11, Linux), as (epoch, batch):
#     resumed after 8 steps: (2, 4) (3, 0) (3, 1) (3, 2) (3, 3)
#     saved after (1, 0), resumed: (1, 0) (1, 1) (1, 2) (2, 0) (2, 1) (2, 2)
#
# orderdp's callback for Lightning counts what `update` saw, so its runs resume with the batch that comes next.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 lightning==2.6.6
cat > "$folder/resume.py" <<'PYTHON'
import logging
import sys
import warnings

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
FOLDER = sys.argv[1]


class Model(pl.LightningModule):
    def __init__(self, leave):
        super().__init__()
        self.layer, self.leave, self.seen = torch.nn.Linear(1, 1), leave, []

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == self.leave else None

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch_idx))
        return self.layer(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(leave=None, checkpoint=None, saver=None, **length):
    model = Model(leave)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    callbacks = [] if saver is None else [saver]
    trainer = pl.Trainer(**quiet, **length, callbacks=callbacks, enable_checkpointing=bool(callbacks))
    trainer.fit(model, DataLoader(torch.rand(8, 1), batch_size=2), ckpt_path=checkpoint)
    return model.seen, trainer


_, trainer = run(max_epochs=-1, max_steps=8)
trainer.save_checkpoint(f"{FOLDER}/steps.ckpt")
after_steps, _ = run(max_epochs=-1, max_steps=13, checkpoint=f"{FOLDER}/steps.ckpt")
print("resumed after 8 steps:", *after_steps)

saver = pl.callbacks.ModelCheckpoint(FOLDER, "{step}", every_n_train_steps=1, save_top_k=-1)
whole, _ = run(leave=3, max_epochs=3, saver=saver)
assert whole[3] == (1, 0)  # the fourth step
twice, _ = run(leave=3, max_epochs=3, checkpoint=f"{FOLDER}/step=4.ckpt")
print("saved after (1, 0), resumed:", *twice)
expected = [(2, 4), (3, 0), (3, 1), (3, 2), (3, 3)], [(1, 0), *whole[4:]]
assert (after_steps, twice) == expected, "Lightning behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/resume.py" "$folder" 2>/dev/null

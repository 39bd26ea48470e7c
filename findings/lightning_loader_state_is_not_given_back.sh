#!/usr/bin/env bash
# lightning 2.6.6: a Trainer saves the state of a loader with `state_dict`, and seldom gives it back.
#
# A loader with `state_dict` and `load_state_dict` is saved in every checkpoint, under loops/fit_loop/combined_loader. On
# resume it gets its state back from a checkpoint inside an epoch only. From one at the end of an epoch, which is the
# default of ModelCheckpoint, it does not. Nor does it from any checkpoint if `configure_optimizers` reads
# `trainer.estimated_stepping_batches`, as a schedule of the learning rate does. There is no warning.
#
# Output seen (Python 3.11, Linux):
#     plain, inside an epoch: saved 1 state, given back: True
#     plain, at the end of an epoch: saved 1 state, given back: False
#     with estimated_stepping_batches, inside an epoch: saved 1 state, given back: False
#     with estimated_stepping_batches, at the end of an epoch: saved 1 state, given back: False
#
# orderdp's callback for Lightning keeps the pruner's state in its own part of the checkpoint.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 lightning==2.6.6
cat > "$folder/state.py" <<'PYTHON'
import logging
import tempfile
import warnings

import lightning.pytorch as pl
import torch

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Source:
    """Ten batches. Its state says how many passes were begun."""

    passes, given_back = 0, False

    def __len__(self):
        return 10

    def __iter__(self):
        self.passes += 1
        return iter(torch.ones(10, 4, 2))

    def state_dict(self):
        return {"passes": self.passes}

    def load_state_dict(self, state):
        self.given_back = True


class Model(pl.LightningModule):
    def __init__(self, estimates):
        super().__init__()
        self.layer, self.estimates = torch.nn.Linear(2, 1), estimates

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def configure_optimizers(self):
        if self.estimates:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(epochs, **more):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(max_epochs=epochs, **quiet, **more)


seen = []
for estimates in (False, True):
    for place, when in (("inside an epoch", {"every_n_train_steps": 15}), ("at the end of an epoch", {})):
        with tempfile.TemporaryDirectory() as checkpoints:
            saver = pl.callbacks.ModelCheckpoint(checkpoints, **when)
            trainer(2, callbacks=[saver]).fit(Model(estimates), Source())
            file = torch.load(saver.best_model_path, weights_only=True)
            saved = len(file["loops"]["fit_loop"]["state_dict"]["combined_loader"])
            source = Source()
            trainer(3, enable_checkpointing=False).fit(Model(estimates), source, ckpt_path=saver.best_model_path)
        name = "with estimated_stepping_batches" if estimates else "plain"
        print(f"{name}, {place}: saved {saved} state, given back: {source.given_back}")
        seen.append((saved, source.given_back))
assert seen == [(1, True), (1, False), (1, False), (1, False)], "Lightning behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/state.py" 2>/dev/null

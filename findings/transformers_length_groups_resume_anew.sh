#!/usr/bin/env bash
# transformers 5.24.0: a Trainer that groups by length resumes inside an epoch with another order, and repeats samples.
#
# On resume the Trainer skips the batches that were trained, "to get the data loading at the same stage as in the
# previous training". For its random order that holds, because accelerate seeds it from the number of the epoch. The
# sampler of `train_sampling_strategy="group_by_length"` draws from torch's global generator. A resumed run begins its
# first epoch with a freshly seeded one, whichever epoch that is, and restores the saved state after the skip. So it
# skips batches of another order: some samples of the epoch come twice, and as many never. Steps, epochs and learning
# rates are right, and nothing warns. In the first epoch the seed is the same, so there a resume is right, and a test
# of it passes.
#
# Output seen (Python 3.11, Linux), 24 samples in batches of 4, resumed from a checkpoint after 3 batches of an epoch:
#     random, epoch 1: 24 trained, 24 different
#     random, epoch 2: 24 trained, 24 different
#     group_by_length, epoch 1: 24 trained, 24 different
#     group_by_length, epoch 2: 24 trained, 16 different
#
# orderdp's PrunedTrainer keeps the order in its own state, and refuses other strategies than "random".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0 accelerate==1.15.0
cat > "$folder/resume.py" <<'PYTHON'
import sys

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

SAMPLES, BATCH = 24, 4
DATA = [{"input_ids": [0] * (1 + number % 7), "labels": number} for number in range(SAMPLES)]


def collate(rows):
    return {"labels": torch.tensor([row["labels"] for row in rows])}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, labels):
        self.seen.append(labels.tolist())
        return {"loss": self.weight * 1.0}


class StopAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def run(strategy, folder, save_steps, stop_after=None, checkpoint=None):
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=2,
        train_sampling_strategy=strategy,
        save_steps=save_steps,
        seed=3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    callbacks = [] if stop_after is None else [StopAfter(stop_after)]
    model = Model()
    trainer = Trainer(model, arguments, train_dataset=DATA, data_collator=collate, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=checkpoint)
    return model.seen


different = {}
for strategy in ("random", "group_by_length"):
    for epoch, stop in ((1, 3), (2, 9)):
        folder = f"{sys.argv[1]}/{strategy}{epoch}"
        before = run(strategy, folder, stop, stop_after=stop)
        after = run(strategy, folder, stop, checkpoint=f"{folder}/checkpoint-{stop}")
        samples = sum(before[-3:] + after[:3], [])
        different[strategy, epoch] = len(set(samples))
        print(f"{strategy}, epoch {epoch}: {len(samples)} trained, {len(set(samples))} different")
        assert (len(before), len(after), len(samples)) == (stop, 12 - stop, SAMPLES)
assert different.pop(("group_by_length", 2)) < SAMPLES, "transformers behaves otherwise now"
assert set(different.values()) == {SAMPLES}
PYTHON
"$folder/venv/bin/python" "$folder/resume.py" "$folder/run" 2>/dev/null | grep -v train_runtime

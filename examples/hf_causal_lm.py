"""The Trainer of transformers trains a language model with accumulated gradients, is stopped, and goes on.

Claim: with `PrunedTrainer` in the place of `Trainer`, each epoch trains on half of the sentences of the Python manual.
A sentence is ranked by the mean loss of its characters, and what is trained is the mean over all characters of a step.
`train(resume_from_checkpoint=True)` alone goes on inside an epoch and ends with the weights of a run that was never
stopped. Each line that orderdp adds ends in a comment that says so, and the plain line that it replaces stands above.

    python examples/hf_causal_lm.py        (needs transformers and accelerate; 15 s on one CPU core)

Prints, with torch 2.13 and transformers 5.24 on a CPU and Python 3.11:

    stopped after 40 of 80 steps
    80 steps, learning rate 0.0 after the last one
    500 of 1000 sentences in each epoch, 2500 in all
    bits per character on the test sentences: 7.00 before, 3.55 after
    all weights equal, bit for bit: True
"""

import math
import re
import shutil
from pydoc_data.topics import topics

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# plain: from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback
# plain: from transformers import TrainingArguments
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback, TrainingArguments  # orderdp
from transformers.utils import logging

import orderdp  # orderdp
from orderdp.integrations.transformers import PrunedTrainer  # orderdp

EPOCHS = 5
NUM_TRAIN, NUM_TEST = 1000, 100
FOLDER = "runs/hf_causal_lm"
Row = dict[str, Tensor]


class Stop(TrainerCallback):
    """Stops a run after some steps, as the end of a job would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        """Asks the Trainer to stop."""
        control.should_training_stop = state.global_step == self.step


# plain: def trainer_of(folder: str) -> Trainer:
def trainer_of(folder: str) -> PrunedTrainer:  # orderdp
    """Returns a trainer of a small model with its first weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128, max_position_embeddings=100, **sizes))
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        use_cpu=True,
        save_steps=15,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    data = sentences()
    # plain: trainer = Trainer(
    trainer = PrunedTrainer(  # orderdp
        model,
        arguments,
        train_dataset=data[:NUM_TRAIN],
        eval_dataset=data[NUM_TRAIN:],
        data_collator=padded,
        strategy=orderdp.OrderDP(prune_ratio=0.5),  # orderdp
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def main() -> None:
    """Trains without a stop, then with one, and compares the weights."""
    logging.disable_progress_bar()
    shutil.rmtree(FOLDER, ignore_errors=True)
    whole = trainer_of(f"{FOLDER}/whole")
    before = whole.evaluate()["eval_loss"] / math.log(2)
    whole.train()

    first = trainer_of(f"{FOLDER}/stopped")
    first.add_callback(Stop(40))
    first.train()
    print(f"stopped after {first.state.global_step} of {first.state.max_steps} steps")
    second = trainer_of(f"{FOLDER}/stopped")
    second.train(resume_from_checkpoint=True)

    rate = second.lr_scheduler.get_last_lr()[0]
    print(f"{second.state.global_step} steps, learning rate {rate:.1f} after the last one")
    report = second.pruner.report()  # orderdp
    print(f"{report.num_selected} of {NUM_TRAIN} sentences in each epoch, {report.visits} in all")  # orderdp
    after = second.evaluate()["eval_loss"] / math.log(2)
    print(f"bits per character on the test sentences: {before:.2f} before, {after:.2f} after")
    pairs = zip(whole.model.parameters(), second.model.parameters(), strict=True)
    print(f"all weights equal, bit for bit: {all(torch.equal(one, other) for one, other in pairs)}")


def sentences() -> list[Row]:
    """Returns sentences of the manual that comes with Python, in ASCII and in random order."""
    text = " ".join(" ".join(topics.values()).split()).encode("ascii", "ignore").decode()
    found = list(dict.fromkeys(match for match in re.findall(r"[A-Z][^.]*\.", text) if 10 <= len(match) <= 100))
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: NUM_TRAIN + NUM_TEST].tolist()
    return [{"input_ids": torch.tensor(list(found[i].encode()))} for i in order]


def padded(rows: list[Row]) -> Row:
    """Returns a batch of (b, length) characters; padding has the label -100, which does not count."""
    tokens = pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": tokens, "attention_mask": tokens > 0, "labels": tokens.masked_fill(tokens == 0, -100)}


if __name__ == "__main__":
    main()

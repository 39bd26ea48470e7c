"""Tiny models and data for the Trainer of transformers, and the same runs as plain loops."""

import itertools
import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import Dataset

from orderdp import Pruner

pytest.importorskip("transformers", minversion="5.24")
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from orderdp.integrations.transformers import PrunedTrainer

BATCH, LR = 4, 0.5


class Rows(Dataset):
    """A map-style data set over a list."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def rows_of(size, labels_of):
    """Sequences of 2 to 9 tokens with labels."""
    rng = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 10, (size,), generator=rng).tolist()
    tokens = [torch.randint(1, 20, (length,), generator=rng) for length in lengths]
    return Rows([{"input_ids": each, "labels": labels_of(each)} for each in tokens])


def padded(rows):
    """A batch as a data collator makes it; padding has no label."""
    tokens, labels = ([row[name] for row in rows] for name in ("input_ids", "labels"))
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(each) for each in tokens], batch_first=True)
    stacked = pad(labels, batch_first=True, padding_value=-100) if labels[0].dim() else torch.stack(labels)
    return {"input_ids": pad(tokens, batch_first=True), "attention_mask": mask, "labels": stacked}


class Text:
    """Classification of sequences with BERT, which takes `num_items_in_batch` and ignores it."""

    samples_alike = True

    def __init__(self, labels_of=lambda tokens: tokens.sum() % 2, **config):
        self.data, self.config = rows_of(26, labels_of), config

    def model(self, dropout=0.0):
        torch.manual_seed(0)
        sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0, "intermediate_size": 16}
        return BertForSequenceClassification(BertConfig(**sizes, **rates, **self.config))

    @staticmethod
    def items_of(batch):
        """What the Trainer counts in a batch."""
        return len(batch["labels"])

    @staticmethod
    def losses(model, batch):
        """(b,) losses and (b,) numbers of items."""
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"]
        if not labels.is_floating_point():
            each = -logits.log_softmax(1)[torch.arange(len(labels)), labels]
        elif logits.shape[1] == 1:
            each = (logits[:, 0] - labels) ** 2
        else:
            each = -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)).mean(1)
        return each, torch.ones_like(each)


class Language:
    """A causal language model; the number of tokens differs from batch to batch."""

    samples_alike = False

    def __init__(self, items=True, size=26):
        self.data, self.items = rows_of(size, lambda tokens: tokens.clone()), items

    def model(self, dropout=0.0):
        torch.manual_seed(0)
        sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, attention_dropout=dropout))
        if not self.items:
            model.accepts_loss_kwargs = False  # the Trainer then counts no items
        return model

    @staticmethod
    def items_of(batch):
        return (batch["labels"][:, 1:] != -100).sum()

    @staticmethod
    def losses(model, batch):
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        losses, counts = [], []
        for row, labels in zip(logits, batch["labels"][:, 1:], strict=True):
            real = labels != -100
            losses.append(-row.log_softmax(1)[real].gather(1, labels[real][:, None]).mean())
            counts.append(real.sum())
        return torch.stack(losses), torch.stack(counts).float()


class Recorded(Pruner):
    """Keeps what it was told: (epoch, ids, losses) of each batch."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.told = []

    def update(self, index, losses, **keywords):
        self.told.append((self.epoch, index.tolist(), losses.tolist()))
        return super().update(index, losses, **keywords)


class Rates(TrainerCallback):
    """The learning rate of each step, and the fraction of epochs done after it."""

    def __init__(self):
        self.rates, self.epochs = [], []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **kwargs):
        self.epochs.append(state.epoch)


def trainer_of(
    case,
    pruner,
    folder,
    *,
    k=1,
    epochs=3,
    dropout=0.0,
    kind=PrunedTrainer,
    callbacks=(),
    of=TrainingArguments,
    **arguments,
):
    """A trainer of a case; `pruner` is one or a dictionary of arguments."""
    settings = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": k,
        "num_train_epochs": epochs,
        "optim": "sgd",
        "learning_rate": LR,
        "max_grad_norm": 0.0,
        "seed": 5,
        "save_strategy": "no",
        "logging_steps": 1000,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **arguments,
    }
    return kind(
        case.model(dropout),
        of(str(folder), **settings),
        train_dataset=case.data,
        eval_dataset=Rows(case.data.rows[:6]),
        data_collator=padded,
        callbacks=list(callbacks),
        **(pruner if isinstance(pruner, dict) else {"pruner": pruner}),
    )


def sum_over_ranks(values):
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def bare(case, pruner, *, k=1, epochs=3, items=True, **how):
    """The same run as a plain loop; returns the model, the learning rates, and the sizes of the steps."""
    model, loader = case.model(), pruner.loader(case.data, batch_size=BATCH, collate_fn=padded, **how)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    sizes = [math.ceil(pruner.steps_per_epoch(BATCH, epoch=epoch, **how) / k) for epoch in range(epochs)]
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, sum(sizes))
    rates, steps = [], []
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(itertools.islice(batches, k)):
            total = sum_over_ranks(torch.as_tensor(sum(case.items_of(batch) for _, batch in window)))
            for index, batch in window:
                losses, counts = case.losses(model, batch)
                if items:  # the mean over all items of the step
                    loss = pruner.update(index, losses, weights=counts, reduction="none").sum() / total
                    loss = loss * pruner.ranks()[1]
                elif case.samples_alike:  # the mean over its batches
                    loss = pruner.update(index, losses) / len(window)
                else:
                    loss = pruner.update(index, losses, weights=counts) / len(window)
                loss.backward()
            rates.append(scheduler.get_last_lr()[0])
            steps.append(len(window))
            for parameter in model.parameters():
                parameter.grad = sum_over_ranks(parameter.grad) / pruner.ranks()[1]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model, rates, steps

"""What pruning half of SST-2 is worth under the Trainer of transformers, beside full data and the shorter schedule.

    python benchmarks/hf_sst2.py --data-root DIR [--seeds 3] [--json results/benchmarks/hf_sst2.json]
    python benchmarks/hf_sst2.py --data-root DIR --smoke        (a minute on one core)

The data are GLUE's SST-2: 67,349 texts to train, most of them phrases, and the 872 sentences of its development set.
The files `train.tsv` and `dev.tsv` are in the folder SST-2 below `--data-root`. A token is a word of the training
texts. The network is a BERT with two layers of width 128, from a configuration and with random first weights. Three
arms train it on one thread, with the same batch size and highest learning rate:

- pruned: OrderDP with half of the texts in each of four epochs;
- shorter schedule: full data for two epochs, which are as many samples;
- full data: four epochs.

It prints the accuracy, the loss and the seconds of each run, and the differences with 95 % intervals over the seeds. It
fails if a run does not make exactly the steps that its schedule was sized for.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timing import parser, write
from torch import Tensor
from torch.utils.data import Dataset

from orderdp import FullData, OrderDP, Strategy
from orderdp.comparison.verdicts import paired_difference
from orderdp.data.base import Texts
from orderdp.data.imports import import_image_library
from orderdp.data.sst2 import load_sst2

import_image_library("torchvision")  # transformers imports it too, and cannot use one built for another torch

from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from orderdp.integrations.transformers import PrunedTrainer  # noqa: E402

EPOCHS = 4
BATCH_SIZE = 64
MAX_LR = 5e-4
SMOKE_TEXTS = 3_000
ARMS: dict[str, tuple[Strategy, int]] = {
    "pruned": (OrderDP(prune_ratio=0.5), EPOCHS),
    "shorter schedule": (FullData(), EPOCHS // 2),
    "full data": (FullData(), EPOCHS),
}


class Rows(Dataset[dict[str, Tensor]]):
    """Texts as the Trainer reads them."""

    def __init__(self, texts: Texts, number: int | None = None) -> None:
        self.tokens, self.labels = texts.tokens[:number], texts.labels[:number]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--data-root", type=Path, metavar="DIR", required=True, help="where the folder SST-2 is")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    options.add_argument("--smoke", action="store_true", help=f"one seed and {SMOKE_TEXTS} texts, to try the script")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = load_sst2(data_root=given.data_root)
    assert isinstance(data.train, Texts)
    assert isinstance(data.test, Texts)
    train_set, test_set = Rows(data.train, SMOKE_TEXTS if given.smoke else None), Rows(data.test)
    seeds = range(1 if given.smoke else given.seeds)
    print(f"{'seed':>4} {'arm':>16} {'accuracy':>8} {'loss':>6} {'steps':>6} {'samples':>8} {'seconds':>8}")
    rows: list[dict[str, Any]] = []
    for seed in seeds:  # the arms take turns, so that a busy hour slows all of them
        for arm in ARMS:
            row = {"seed": seed, "arm": arm, **measure(arm, seed, train_set, test_set, data.vocabulary)}
            rows.append(row)
            print(
                f"{seed:>4} {arm:>16} {row['accuracy']:>8.1f} {row['loss']:>6.3f} {row['steps']:>6} "
                f"{row['samples']:>8} {row['seconds']:>8.1f}",
                flush=True,
            )
    numbers = {"benchmark": "hf_sst2", "smoke": given.smoke, "unit": "percent", "rows": rows}
    numbers |= {"transformers": version("transformers"), "texts": len(train_set)}
    if len(seeds) > 1:
        numbers["differences"] = differences(rows, len(test_set))
    write(given.json, torch.device("cpu"), numbers)


def measure(arm: str, seed: int, train_set: Rows, test_set: Rows, vocabulary: int) -> dict[str, Any]:
    """Trains once; returns accuracy in percent, loss in nats, steps, samples, seconds and the pruner's report."""
    strategy, epochs = ARMS[arm]
    set_seed(seed)  # of the first weights
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=vocabulary, max_position_embeddings=64, **sizes))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH_SIZE,
            per_device_eval_batch_size=BATCH_SIZE,
            learning_rate=MAX_LR,
            warmup_steps=0.1,  # share of the steps
            weight_decay=0.01,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = PrunedTrainer(
            model,
            arguments,
            train_dataset=train_set,
            eval_dataset=test_set,
            data_collator=cut,
            compute_metrics=lambda found: {"accuracy": 100 * float((found[0].argmax(1) == found[1]).mean())},
            strategy=strategy,
        )
        trainer.remove_callback(PrinterCallback)
        trained = trainer.train().metrics
        found = trainer.evaluate()
    steps = trainer.state.global_step
    assert steps == trainer.state.max_steps == trainer.lr_scheduler.last_epoch
    assert trainer.lr_scheduler.get_last_lr()[0] == 0
    report = trainer.pruner.report()
    return {
        "accuracy": found["eval_accuracy"],
        "loss": found["eval_loss"],
        "steps": steps,
        "samples": report.visits,
        "seconds": trained["train_runtime"],
        "samples_per_second": trained["train_samples_per_second"],
        "report": {name: None if value != value else value for name, value in asdict(report).items()},  # no NaN in JSON
    }


def cut(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Returns a batch: (b, length of the longest) words, which of them are no padding, and (b,) labels."""
    tokens = torch.stack([row["input_ids"] for row in rows])
    tokens = tokens[:, : max(1, int((tokens != 0).sum(1).max()))]
    labels = torch.stack([row["labels"] for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long(), "labels": labels}


def differences(rows: list[dict[str, Any]], num_test: int) -> dict[str, Any]:
    """Prints and returns pruned minus each other arm, in points of accuracy, over the seeds."""
    scores = {arm: {row["seed"]: row["accuracy"] for row in rows if row["arm"] == arm} for arm in ARMS}
    found = {}
    for arm in list(ARMS)[1:]:
        difference = paired_difference(scores["pruned"], scores[arm], test_size=num_test)
        print(f"pruned minus {arm}: {difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}] points")
        found[arm] = difference._asdict()
    return found


if __name__ == "__main__":
    main()

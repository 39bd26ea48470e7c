"""The Trainer of transformers classifies texts, and the lines that prune it.

Claim: with `PrunedTrainer` in the place of `Trainer`, each epoch trains on half of the texts. The run has half of the
steps, and the learning rate ends with them. Each line that orderdp adds ends in a comment that says so, and the plain
line that it replaces stands above it.

    python examples/hf_text_classification.py        (needs transformers and accelerate; 10 s on one CPU core)

Prints, with torch 2.13 and transformers 5.24 on a CPU:

    384 steps, learning rate 0.0 after the last one
    1000 of 2000 texts in each epoch, 12000 in all
    test accuracy 97.5 %
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# plain: from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, TrainingArguments  # orderdp

import orderdp  # orderdp
from orderdp.integrations.transformers import PrunedTrainer  # orderdp

EPOCHS = 12
NUM_TRAIN, NUM_TEST = 2000, 400
Row = dict[str, Tensor]


def main(seed: int = 0) -> None:
    """Trains on half of the texts and prints the test accuracy."""
    torch.manual_seed(seed)
    data = reviews(NUM_TRAIN + NUM_TEST)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=201, max_position_embeddings=32, **sizes))
    arguments = TrainingArguments(
        output_dir="runs/hf_text_classification",
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        learning_rate=5e-3,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    # plain: trainer = Trainer(
    trainer = PrunedTrainer(  # orderdp
        model,
        arguments,
        train_dataset=data[:NUM_TRAIN],
        eval_dataset=data[NUM_TRAIN:],
        data_collator=padded,
        compute_metrics=accuracy,
        strategy=orderdp.OrderDP(prune_ratio=0.5),  # orderdp
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()

    rate = trainer.lr_scheduler.get_last_lr()[0]
    print(f"{trainer.state.global_step} steps, learning rate {rate:.1f} after the last one")
    report = trainer.pruner.report()  # orderdp
    print(f"{report.num_selected} of {NUM_TRAIN} texts in each epoch, {report.visits} in all")  # orderdp
    print(f"test accuracy {trainer.evaluate()['eval_accuracy']:.1%}".replace("%", " %"))


def reviews(number: int) -> list[Row]:
    """Returns texts of 5 to 30 words; 40 of 200 words are good, 40 are bad, and the label says which are more."""
    rng = torch.Generator().manual_seed(0)
    rows: list[Row] = []
    while len(rows) < number:
        words = torch.randint(1, 201, (int(torch.randint(5, 31, (1,), generator=rng)),), generator=rng)
        good, bad = (words <= 40).sum(), (words > 160).sum()
        if good != bad:
            rows.append({"input_ids": words, "labels": (good > bad).long()})
    return rows


def padded(rows: list[Row]) -> Row:
    """Returns a batch: (b, length) words and which are no padding, and (b,) labels."""
    words = pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": words, "attention_mask": words > 0, "labels": torch.stack([row["labels"] for row in rows])}


def accuracy(found: object) -> dict[str, float]:
    """Returns the share of right predictions."""
    logits, labels = found  # type: ignore[misc]
    return {"accuracy": float((logits.argmax(1) == labels).mean())}


if __name__ == "__main__":
    main()

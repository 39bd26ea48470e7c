#!/usr/bin/env bash
# transformers 5.24.0: the gradient of a classifier is as many times too large as batches are accumulated.
#
# The Trainer divides the loss of a batch by the number of accumulated batches, unless the model takes part in this
# itself. It takes any model whose `forward` has **kwargs for one that does. The heads for sequence classification have
# them and return a plain mean. So 4 batches of 4 move the weights 4 times as far as one batch of the same 16 samples,
# and the logged loss is 4 times too large. With Adam the step hides it, but not clipping, weight decay or the log.
#
# Output seen (Python 3.11, Linux):
#     one batch of 16: moved by 0.0045, logged loss 0.693
#     4 batches of 4: moved by 0.0180, logged loss 2.773
#
# orderdp's PrunedTrainer reduces the losses of the samples itself, so both move the weights alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0 accelerate==1.15.0
cat > "$folder/accumulate.py" <<'PYTHON'
import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

DATA = [{"input_ids": torch.tensor([i % 7 + 1, 3]), "labels": i % 2} for i in range(16)]


def one_step(batch_size, accumulated):
    """Returns how far one step of SGD moves the head, and the logged loss."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(
        BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    before = model.classifier.weight.detach().clone()
    arguments = TrainingArguments(
        sys.argv[1],
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulated,
        max_steps=1,
        learning_rate=1.0,
        optim="sgd",
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    loss = Trainer(model, arguments, train_dataset=DATA).train().training_loss
    return (model.classifier.weight - before).norm().item(), loss


whole, parts = one_step(16, 1), one_step(4, 4)
print(f"one batch of 16: moved by {whole[0]:.4f}, logged loss {whole[1]:.3f}")
print(f"4 batches of 4: moved by {parts[0]:.4f}, logged loss {parts[1]:.3f}")
ratios = [part / one for part, one in zip(parts, whole)]
assert all(abs(ratio - 4) < 0.01 for ratio in ratios), "transformers behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/accumulate.py" "$folder/run" 2>/dev/null | grep -v train_runtime

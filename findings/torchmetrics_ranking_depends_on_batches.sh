#!/usr/bin/env bash
# torchmetrics 1.9.0: the area under the ROC curve of logits depends on how they were cut into batches.
#
# The metrics for two classes take probabilities or logits. If a value lies outside [0, 1], "the input" is taken for
# logits and goes through a sigmoid. The input is each batch by itself. A batch whose logits happen to lie in [0, 1] is
# kept as it is: a logit of 0.1 stays 0.1 there, and is 0.52 in the next batch. The metric then ranks two scales as
# one. The smaller the batch, the more of them: the last, short batch of a pass is enough. Average precision does the
# same. A calibration error is wrong in the same way, even with the right probabilities beside it. Nothing warns.
# Scores of samples, such as losses that are to find wrong labels, are hit alike. `torch.sigmoid` before `update`, or
# one batch of all samples, avoids it.
#
# Output seen (Python 3.11, Linux), 2,000 logits of standard deviation 0.5, 10 % of the second class, their mean 0.7 higher:
#     all at once: area 0.850, average precision 0.456
#     batches of 8: area 0.844, average precision 0.434
#     batches of 2: area 0.787, average precision 0.363
#     batches of 1: area 0.745, average precision 0.325
#     batches of 1, after a sigmoid: area 0.850, average precision 0.456
#
# orderdp computes its own numbers on whole columns and uses no metric of torchmetrics.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 torchmetrics==1.9.0
cat > "$folder/batches.py" <<'PYTHON'
import torch
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
labels = (torch.rand(2_000, generator=rng) < 0.1).long()
logits = 0.5 * torch.randn(2_000, generator=rng) + 0.7 * labels


def measured(scores, batch_size):
    """Returns the area under the ROC curve and the average precision, computed over batches."""
    metrics = BinaryAUROC(), BinaryAveragePrecision()
    for batch, truth in zip(scores.split(batch_size), labels.split(batch_size)):
        for metric in metrics:
            metric.update(batch, truth)
    return [metric.compute().item() for metric in metrics]


seen = {
    "all at once": measured(logits, 2_000),
    "batches of 8": measured(logits, 8),
    "batches of 2": measured(logits, 2),
    "batches of 1": measured(logits, 1),
    "batches of 1, after a sigmoid": measured(logits.sigmoid(), 1),
}
for what, (area, precision) in seen.items():
    print(f"{what}: area {area:.3f}, average precision {precision:.3f}")
whole, eight, two, one, sigmoid = (area for area, _ in seen.values())
assert abs(whole - sigmoid) < 1e-5, "torchmetrics behaves otherwise now"
assert one < two - 0.02 and two < eight - 0.02 and eight < whole - 0.003, "torchmetrics behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/batches.py" 2>/dev/null

#!/usr/bin/env bash
# river 0.26.1: ROCAUC of a rare class is near 0.5 for a well calibrated model, and prefers a worse one.
#
# The metric keeps counts at 10 thresholds, evenly spaced in [0, 1]. Its documentation says that the error is not
# significant if the probabilities are well calibrated, and that models can be compared reliably in any case. With a
# class of about 1 %, nearly all calibrated probabilities lie below the second threshold, 1/9. So their ranking is lost, and
# most of the curve is a straight line. A model whose probabilities are much too large, and whose
# ranking is worse, spreads over the thresholds and wins. 100 thresholds do not suffice either. `RollingROCAUC` is exact
# in its window.
#
# Seen with 20,000 samples. The class of each is drawn with the probability that the calibrated model predicts. The other
# model has the same logits with noise of deviation 2, and 4 added.
#
# Output seen (Python 3.11, Linux):
#     calibrated: true area 0.84, ROCAUC 0.53, with 100 thresholds 0.77, RollingROCAUC 0.84
#     noisy and too sure: true area 0.71, ROCAUC 0.69, with 100 thresholds 0.71, RollingROCAUC 0.71
#
# orderdp has no such metric. It reports the accuracy of rare classes by themselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q river==0.26.1 numpy==2.4.6 scikit-learn==1.9.1
cat > "$folder/rare.py" <<'PYTHON'
import numpy as np
from river.metrics import ROCAUC, RollingROCAUC
from sklearn.metrics import roc_auc_score

SAMPLES = 20_000
rng = np.random.default_rng(0)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


logits = -6 + 1.5 * rng.standard_normal(SAMPLES)
labels = rng.random(SAMPLES) < sigmoid(logits)
predicted = {
    "calibrated": sigmoid(logits),
    "noisy and too sure": sigmoid(logits + 2 * rng.standard_normal(SAMPLES) + 4),
}
seen = []
for name, probabilities in predicted.items():
    metrics = ROCAUC(), ROCAUC(n_thresholds=100), RollingROCAUC(window_size=SAMPLES)
    for label, probability in zip(labels.tolist(), probabilities.tolist()):
        for metric in metrics:
            metric.update(label, probability)
    true, (default, fine, rolling) = roc_auc_score(labels, probabilities), (metric.get() for metric in metrics)
    print(
        f"{name}: true area {true:.2f}, ROCAUC {default:.2f}, "
        f"with 100 thresholds {fine:.2f}, RollingROCAUC {rolling:.2f}"
    )
    assert abs(true - rolling) < 1e-6, "river behaves otherwise now"
    seen.append((true, default, fine))
(good, good_default, good_fine), (bad, bad_default, _) = seen
assert good > bad + 0.1 and good_default < bad_default - 0.1, "river behaves otherwise now"
assert good_default < 0.6 and good_fine < good - 0.04, "river behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/rare.py" 2>/dev/null

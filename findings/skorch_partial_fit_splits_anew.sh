#!/usr/bin/env bash
# skorch 1.4.0: `partial_fit` splits the data anew, so the network has been trained on most of its validation part.
#
# `ValidSplit(0.2)` takes a fifth of the data for validation. Its documentation says that one fixed split is used.
# `partial_fit` goes on with the training of a network, after an interrupt or a checkpoint, or some epochs at a time. It
# makes the split again, and without a `random_state` this is another one. So four fifths of the new validation part
# were trained by the call before. The validation accuracy of a network that has learnt labels by heart is high, and
# early stopping, schedules and the choice of a checkpoint follow it. The history goes on in one table, and nothing
# warns. `fit` with `warm_start=True` does the same. A whole number, such as `ValidSplit(5)`, gives one split for all
# calls, and so does `ValidSplit(0.2, random_state=0)`.
#
# Seen with 600 samples of noise and labels of a coin, so that no network is better than 0.5 on samples it has not seen.
#
# Output seen (Python 3.11, Linux), validation accuracy after 40 epochs:
#     ValidSplit(0.2), 1 call: 0.49
#     ValidSplit(0.2), 4 calls of partial_fit: 0.98
#     ValidSplit(0.2), 4 calls of fit: 0.98
#     ValidSplit(0.2, stratified=True), 4 calls of partial_fit: 0.94
#     ValidSplit(0.2, random_state=0), 4 calls of partial_fit: 0.49
#     ValidSplit(5), 4 calls of partial_fit: 0.43
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 skorch==1.4.0 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/split.py" <<'PYTHON'
import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit

torch.set_num_threads(1)
rng = np.random.default_rng(0)
noise, coin = rng.standard_normal((600, 40)).astype("float32"), rng.integers(0, 2, 600)


def accuracy(calls, method="partial_fit", cv=0.2, **split):
    """Returns the last validation accuracy after 40 epochs in so many calls."""
    torch.manual_seed(0)
    np.random.seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(40, 256), torch.nn.ReLU(), torch.nn.Linear(256, 2))
    net = NeuralNetClassifier(
        network, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.003, batch_size=60,
        max_epochs=40 // calls, train_split=ValidSplit(cv, **split), warm_start=True, verbose=0,
    )
    for _ in range(calls):
        getattr(net, method)(noise, coin)
    assert len(net.history) == 40
    return net.history[-1, "valid_acc"]


found = {
    "ValidSplit(0.2), 1 call": accuracy(1),
    "ValidSplit(0.2), 4 calls of partial_fit": accuracy(4),
    "ValidSplit(0.2), 4 calls of fit": accuracy(4, "fit"),
    "ValidSplit(0.2, stratified=True), 4 calls of partial_fit": accuracy(4, stratified=True),
    "ValidSplit(0.2, random_state=0), 4 calls of partial_fit": accuracy(4, random_state=0),
    "ValidSplit(5), 4 calls of partial_fit": accuracy(4, cv=5),
}
for name, value in found.items():
    print(f"{name}: {value:.2f}")
once, again, fit, stratified, seeded, whole = found.values()
assert min(again, fit, stratified) > 0.8 and max(once, seeded, whole) < 0.65, "skorch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/split.py" 2>/dev/null

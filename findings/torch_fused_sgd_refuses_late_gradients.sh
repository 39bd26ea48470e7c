#!/usr/bin/env bash
# torch 2.13.0: SGD with momentum and fused=True raises at the first step in which a frozen layer is trained.
#
# Fine-tuning often trains the head first, and unfreezes the rest later, with one optimiser that holds all parameters.
# Without `fused`, SGD begins the momentum of each parameter with its own first gradient. The fused step begins it for all
# at once, or for none: as soon as some parameters have momentum and others do not, it hands None to the kernel. The
# message names a position in an argument, and neither the parameter nor the cause. Adam, AdamW and Adagrad do not fail,
# nor does SGD without momentum. An expert of a mixture that no sample reaches in the first step meets the same error.
#
# Output seen (Python 3.11, Linux):
#     SGD, momentum 0.9, fused=False: trained
#     SGD, momentum 0.9, fused=True: TypeError: expected Tensor as element 0 in argument 2, but got NoneType
#     SGD, momentum 0, fused=True: trained
#     AdamW, fused=True: trained
#
# On a processor, orderdp's trainer uses the fused SGD. Its models give every parameter a gradient in the first step, which a test holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/unfreeze.py" <<'PYTHON'
import torch
from torch import nn

torch.set_num_threads(1)
inputs, labels = torch.randn(32, 8), torch.arange(32) % 4


def outcome(make):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = make(model.parameters())
    model[0].requires_grad_(False)
    for step in range(6):
        if step == 3:
            model[0].requires_grad_(True)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        try:
            optimizer.step()
        except TypeError as error:
            assert step == 3
            return f"TypeError: {error}"
    return "trained"


SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
outcomes = {
    "SGD, momentum 0.9, fused=False": outcome(lambda given: SGD(given, lr=0.1, momentum=0.9, fused=False)),
    "SGD, momentum 0.9, fused=True": outcome(lambda given: SGD(given, lr=0.1, momentum=0.9, fused=True)),
    "SGD, momentum 0, fused=True": outcome(lambda given: SGD(given, lr=0.1, fused=True)),
    "AdamW, fused=True": outcome(lambda given: AdamW(given, lr=0.01, fused=True)),
}
for name, what in outcomes.items():
    print(f"{name}: {what}")
wrong = outcomes.pop("SGD, momentum 0.9, fused=True")
assert wrong.startswith("TypeError") and "NoneType" in wrong, "torch behaves otherwise now"
assert set(outcomes.values()) == {"trained"}
PYTHON
"$folder/venv/bin/python" "$folder/unfreeze.py"

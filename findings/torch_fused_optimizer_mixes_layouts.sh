#!/usr/bin/env bash
# torch 2.13.0: on a processor, a fused optimiser gives wrong weights after a change of the memory layout, silently.
#
# A network of convolutions is trained, saved, and trained on in channels-last layout. `load_state_dict` of the model
# copies into the new layout, but that of the optimiser keeps the layout in which its state was saved. The fused step
# walks through weights, gradients and state in the order of memory, so the momentum of one weight moves another. There
# is no error and no warning. Without `fused`, the same lines give the same weights in both layouts, up to rounding. So
# do they if the layout never changes. On CUDA the lists of tensors are compared first, and other strides are an error.
# SGD, Adam, AdamW and Adagrad behave alike.
#
# Output seen (Python 3.11, Linux): largest difference of a weight from the run that stays contiguous, 10 steps later
#     SGD      fused=False: below 0.0001   fused=True: above 0.005
#     Adam     fused=False: below 0.0001   fused=True: above 0.005
#     AdamW    fused=False: below 0.0001   fused=True: above 0.005
#     Adagrad  fused=False: below 0.0001   fused=True: above 0.005
#
# On a processor, orderdp's trainer uses the fused SGD and AdamW. A run keeps its layout: a checkpoint of another recipe is refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/layouts.py" <<'PYTHON'
import copy

import torch
from torch import nn

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
images = torch.randn(64, 3, 12, 12, generator=generator)
labels = torch.randint(0, 4, (64,), generator=generator)
OPTIMIZERS = {
    "SGD": lambda parameters, fused: torch.optim.SGD(parameters, lr=0.2, momentum=0.9, fused=fused),
    "Adam": lambda parameters, fused: torch.optim.Adam(parameters, lr=0.003, fused=fused),
    "AdamW": lambda parameters, fused: torch.optim.AdamW(parameters, lr=0.003, fused=fused),
    "Adagrad": lambda parameters, fused: torch.optim.Adagrad(parameters, lr=0.01, fused=fused),
}


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 4))


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def resumed(name, fused, layout):
    """The weights after ten steps, a checkpoint, and ten steps in this layout."""
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters(), fused)
    train(model, optimizer, 10)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model = network().to(memory_format=layout)
    optimizer = OPTIMIZERS[name](model.parameters(), fused)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    train(model, optimizer, 10)
    return [weight.detach() for weight in model.parameters()]


def largest(one, other):
    return max(float((a - b).abs().max()) for a, b in zip(one, other))


for name in OPTIMIZERS:
    expected = resumed(name, False, torch.contiguous_format)
    assert largest(resumed(name, True, torch.contiguous_format), expected) < 1e-4, "the fused step itself differs"
    plain = largest(resumed(name, False, torch.channels_last), expected)
    fused = largest(resumed(name, True, torch.channels_last), expected)
    print(f"{name:8} fused=False: {plain:.2g}   fused=True: {fused:.2g}")
    assert plain < 1e-4 and fused > 0.005, "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/layouts.py"

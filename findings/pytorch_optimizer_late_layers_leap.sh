#!/usr/bin/env bash
# pytorch_optimizer 4.1.0, schedulefree 1.4.1: a layer that is unfrozen late moves up to 21 times as far as with torch.
#
# Fine-tuning often trains a new head first, and unfreezes the pretrained body later, with one optimiser that holds all
# parameters. Adam divides by averages that begin at 0, so it corrects them by the number of steps. torch counts these
# steps for each parameter. Many optimisers of pytorch_optimizer, and RAdamScheduleFree of schedulefree, count them for
# the group. So the body's averages are new, but are taken for old ones. The correction is missing, and so is the
# cautious beginning of RAdam. The body moves too far and forgets what it knew. The loss of the new task falls faster,
# and nothing warns. A part that has no gradient in the first steps, such as an expert, is hit alike. A group of its own
# for the body, added with `add_param_group` when it is unfrozen, avoids it.
#
# Seen with a network of two hidden layers, pretrained on the digits 0 to 4 of scikit-learn. A new head learns 5 to 9 for
# 1,000 steps alone, and for 50 with the body, at a learning rate of 0.001. "Known" are old digits with the old head.
#
# Output seen (Python 3.11, Linux): how far the body moved, and what it knows
#     torch RAdam: one group 0.18, known 1.00; group of its own 0.18, known 1.00
#     torch Adam: one group 1.52, known 0.99; group of its own 1.52, known 0.99
#     pytorch_optimizer RAdam: one group 3.79, known 0.95; group of its own 0.18, known 1.00
#     pytorch_optimizer AdamP: one group 4.48, known 0.90; group of its own 1.52, known 0.99
#     pytorch_optimizer ADOPT: one group 5.14, known 0.94; group of its own 1.72, known 0.99
#     pytorch_optimizer LaProp: one group 7.04, known 0.77; group of its own 1.51, known 0.99
#     schedulefree RAdamScheduleFree: one group 0.45, known 1.00; group of its own 0.11, known 1.00
#
# In orderdp's trainer every parameter has a gradient from the first step on, which a test holds. LAMB of timm, which it
# offers, counts for the group too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 pytorch_optimizer==4.1.0 schedulefree==1.4.1 scikit-learn==1.9.1
cat > "$folder/unfreeze.py" <<'PYTHON'
import copy

import pytorch_optimizer
import schedulefree
import torch
from sklearn.datasets import load_digits
from torch import nn

digits = load_digits()
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
old, new = labels < 5, labels >= 5


def pretrained():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    head = nn.Linear(32, 5)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()])
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(body(images[old])), labels[old]).backward()
        optimizer.step()
    return body, head


def tuned(body, old_head, kind, separate):
    """Returns how far the body moves in 50 steps after 1,000 in which it was frozen, and how much it still knows."""
    torch.manual_seed(1)
    body, head = copy.deepcopy(body), nn.Linear(32, 5)
    first = nn.utils.parameters_to_vector(body.parameters()).detach()
    begun = head.parameters() if separate else [*body.parameters(), *head.parameters()]
    optimizer = kind(begun, lr=0.001)
    train = getattr(optimizer, "train", lambda: None)
    train()
    body.requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    for step in range(1050):
        if step == 1000:
            body.requires_grad_(True)
            if separate:
                optimizer.add_param_group({"params": body.parameters()})
                train()
        batch = torch.randint(int(new.sum()), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(body(images[new][batch])), labels[new][batch] - 5).backward()
        optimizer.step()
    getattr(optimizer, "eval", lambda: None)()
    with torch.no_grad():
        moved = (nn.utils.parameters_to_vector(body.parameters()) - first).norm().item()
        known = (old_head(body(images[old])).argmax(1) == labels[old]).float().mean().item()
    return moved, known


start = pretrained()
factors = {}
for name, kind in (
    ("torch RAdam", torch.optim.RAdam),
    ("torch Adam", torch.optim.Adam),
    ("pytorch_optimizer RAdam", pytorch_optimizer.RAdam),
    ("pytorch_optimizer AdamP", pytorch_optimizer.AdamP),
    ("pytorch_optimizer ADOPT", pytorch_optimizer.ADOPT),
    ("pytorch_optimizer LaProp", pytorch_optimizer.LaProp),
    ("schedulefree RAdamScheduleFree", schedulefree.RAdamScheduleFree),
):
    (together, known), (alone, known_alone) = (tuned(*start, kind, separate) for separate in (False, True))
    print(
        f"{name}: one group {together:.2f}, known {known:.2f}; group of its own {alone:.2f}, known {known_alone:.2f}"
    )
    assert known_alone > 0.98
    factors[name] = together / alone
assert max(factors.pop("torch RAdam"), factors.pop("torch Adam")) < 1.01
assert min(factors.values()) > 2 and max(factors.values()) > 15, "they behave otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/unfreeze.py" 2>/dev/null

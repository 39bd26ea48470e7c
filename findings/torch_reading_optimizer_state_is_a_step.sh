#!/usr/bin/env bash
# torch 2.13.0: asking for an optimiser's state before its first step changes the training that follows.
#
# `get_optimizer_state_dict` and `get_state_dict` are the calls that torch.distributed.checkpoint documents for saving.
# A program calls them too before it has trained, to save the beginning, or to build what `load` fills where there may
# be no checkpoint. If the optimiser has no state yet, they make one by a step with gradients of 0 and a learning rate
# of 0. The weights do not move, but the state stays, and the step has been counted. So Adam's first step is 0.74 of
# its size, as its averages hold a gradient of 0. Rprop takes that gradient for a change of sign. The first step of
# SGD with dampening is a tenth. `optimizer.state_dict()` changes nothing, and a state that is loaded from a checkpoint
# is right.
#
# Output seen (Python 3.11, Linux), largest change of a weight after 1 and 10 steps, with and without the call:
#     Adam: first step 0.0100, after the call 0.0074; the weights differ by 0.0066 after 10 steps
#     SGD, dampening 0.9: first step 0.0139, after the call 0.0014; the weights differ by 0.0783 after 10 steps
#     Rprop: first step 0.0100, after the call 0.0000; the weights differ by 0.2596 after 10 steps
#     SGD: first step 0.0139, after the call 0.0139; the weights differ by 0.0000 after 10 steps
#
# orderdp's trainer saves `optimizer.state_dict()`. The page on several ranks saves the pruner alone with
# torch.distributed.checkpoint, and says when to ask for the state of an optimiser.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/reading.py" <<'PYTHON'
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim import SGD, Adam, Rprop

torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
inputs, labels = torch.randn(64, 8, generator=rng), torch.arange(64) % 4
OPTIMIZERS = {
    "Adam": lambda parameters: Adam(parameters, lr=0.01),
    "SGD, dampening 0.9": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, dampening=0.9),
    "Rprop": lambda parameters: Rprop(parameters, lr=0.01),
    "SGD": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
}


def moved(make, read, steps):
    """Returns the change of the weights in some steps, with the state read before the first of them or not."""
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    begin = model.weight.detach().clone()
    optimizer = make(model.parameters())
    if read:
        get_optimizer_state_dict(model, optimizer)
        assert torch.equal(model.weight, begin)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model.weight.detach() - begin


for name, make in OPTIMIZERS.items():
    first, after = (moved(make, read, 1).abs().max().item() for read in (False, True))
    apart = (moved(make, False, 10) - moved(make, True, 10)).abs().max().item()
    print(f"{name}: first step {first:.4f}, after the call {after:.4f}; the weights differ by {apart:.4f} after 10 steps")
    if name == "SGD":
        assert first == after and apart == 0, "torch behaves otherwise now"
    else:
        assert after < 0.8 * first and apart > 0.2 * first, "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/reading.py" 2>/dev/null

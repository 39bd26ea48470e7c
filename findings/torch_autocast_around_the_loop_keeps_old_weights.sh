#!/usr/bin/env bash
# torch 2.13.0: in a loop inside one autocast block, the forward pass uses the weights of the first step for ever.
#
# Autocast keeps the bfloat16 copy of each weight until the outermost block ends, to save casts within a pass. The copy
# is not renewed when the optimiser changes the weight. So one `with torch.autocast(...)` around a whole epoch trains
# against the first weights, also if each step opens a block of its own inside: every step has the first gradient. The
# logged loss is that of the first weights, while the real weights run on in one direction. Layers that autocast leaves
# in float32, such as normalisation, do learn, so the loss of a real network falls a little. There is no error and no
# warning. A block for each step, as PyTorch advises, or `cache_enabled=False` avoids it.
#
# Output seen (Python 3.11, Linux), 40 steps on 64 samples of random labels, learning rate 0.5:
#     a block for each step: loss 1.40, later 0.83, measured afterwards 0.82
#     one block around the loop: loss 1.40, later 1.40, measured afterwards 4.27
#     both: loss 1.40, later 1.40, measured afterwards 4.27
#     one block around the loop, cache_enabled=False: loss 1.40, later 0.83, measured afterwards 0.82
#
# orderdp's trainer opens a block for each step. Its pruner warns of an epoch that begins inside such a block.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/loop.py" <<'PYTHON'
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
inputs, labels = torch.randn(64, 8, generator=rng), torch.randint(0, 4, (64,), generator=rng)
autocast = partial(torch.autocast, "cpu", torch.bfloat16)


def losses(around_loop, around_step):
    """Returns the losses of the first and the last step, and the loss that is measured after the loop."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    logged = []
    with around_loop():
        for _ in range(40):
            with around_step():
                loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            logged.append(loss.item())
    return logged[0], logged[-1], nn.functional.cross_entropy(model(inputs), labels).item()


for name, around_loop, around_step, learns in (
    ("a block for each step", nullcontext, autocast, True),
    ("one block around the loop", autocast, nullcontext, False),
    ("both", autocast, autocast, False),
    ("one block around the loop, cache_enabled=False", partial(autocast, cache_enabled=False), nullcontext, True),
):
    first, last, after = losses(around_loop, around_step)
    print(f"{name}: loss {first:.2f}, later {last:.2f}, measured afterwards {after:.2f}")
    if learns:
        assert last < 0.9 * first and abs(after - last) < 0.1, "torch behaves otherwise now"
    else:
        assert last == first and after > first, "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/loop.py" 2>/dev/null

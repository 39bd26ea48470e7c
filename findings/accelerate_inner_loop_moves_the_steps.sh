#!/usr/bin/env bash
# accelerate 1.15.0: a loop over a prepared loader inside the training epoch changes when the optimizer steps.
#
# `accumulate` steps after every 4 batches, and at the end of the loader, as accelerate documents. It asks the loader
# that was begun last and has not ended. A loop over the validation loader that is left with `break` never ends for it,
# so that loader stays the one that is asked. Left early, it says "not the end" for the rest of the epoch: the last,
# short group of batches is not stepped, and its gradients go into the next epoch's first step. Left at its last batch,
# it says "the end" after each batch: accumulation is off. A whole loop over the training loader itself, as for a
# training accuracy, takes every pass of that loader out of the list, the one that trains too: again no step at the end.
#
# Output seen (Python 3.11, Linux), 10 batches, the inner loop after batch 5:
#     no inner loop: steps after 4 8 10, then after 4 8 10
#     all of the validation data: steps after 4 8 10, then after 4 8 10
#     2 of 4 validation batches: steps after 4 8, then after 2 6 10
#     4 of 4 validation batches, then break: steps after 4 6 7 8 9 10, then after 4 8 10
#     all of the training data: steps after 4 8, then after 2 6 10
#
# orderdp's loader takes its place in the list again with each batch, so an inner loop after the `accumulate` block does
# not move the steps. Its passes take out no other pass.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
cat > "$folder/inner.py" <<'PYTHON'
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset


def run(inner):
    """Returns the batches after which the optimizer steps, in two epochs. The first has the inner loop."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training = DataLoader(TensorDataset(torch.ones(10, 1)))
    validation = DataLoader(TensorDataset(torch.ones(4, 1)))
    model, optimizer, training, validation = accelerator.prepare(model, optimizer, training, validation)
    steps = [[], []]
    for epoch in range(2):
        for number, (inputs,) in enumerate(training, 1):
            with accelerator.accumulate(model):
                before = model.bias.item()
                accelerator.backward(model(inputs).mean())
                optimizer.step()
                optimizer.zero_grad()
                if model.bias.item() != before:
                    steps[epoch].append(number)
            if (epoch, number) == (0, 5):
                inner(training, validation)
    return steps


def leave_after(most):
    def inner(training, validation):
        for number, _ in enumerate(validation, 1):
            if number == most:
                break

    return inner


LOOPS = {
    "no inner loop": lambda training, validation: None,
    "all of the validation data": lambda training, validation: [None for _ in validation],
    "2 of 4 validation batches": leave_after(2),
    "4 of 4 validation batches, then break": leave_after(4),
    "all of the training data": lambda training, validation: [None for _ in training],
}
EXPECTED = [
    [[4, 8, 10], [4, 8, 10]],
    [[4, 8, 10], [4, 8, 10]],
    [[4, 8], [2, 6, 10]],
    [[4, 6, 7, 8, 9, 10], [4, 8, 10]],
    [[4, 8], [2, 6, 10]],
]
for (name, inner), expected in zip(LOOPS.items(), EXPECTED):
    first, second = run(inner)
    print(f"{name}: steps after", *first, end="")
    print(", then after", *second)
    assert [first, second] == expected, "accelerate behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/inner.py" 2>/dev/null

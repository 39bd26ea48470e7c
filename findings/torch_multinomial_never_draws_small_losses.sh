#!/usr/bin/env bash
# torch 2.13.0: in a draw by losses of ImageNet's size, torch.multinomial never takes half of the well-learnt samples.
#
# A draw with replacement, each sample with a chance proportional to its loss, is plain importance sampling. On a
# processor, torch.multinomial adds up the weights in their own precision, one after another. In float32, the type of
# losses, the sum soon is so large that a small loss no longer changes it. Such a sample has chance 0 if it stands late
# in the tensor, and a sample a little above has twice its chance or none. So weights of 1/p do not make the estimate
# unbiased. torch refuses 2**24 weights and more, and does not warn below. WeightedRandomSampler turns its weights into
# float64, so it draws them right. So does `torch.multinomial(losses.double(), ...)`.
#
# Seen with 1,281,167 losses log(1 + exp(-margin)), margins normal with mean 4 and deviation 3, in random order.
#
# Output seen (Python 3.11, Linux), share of samples with a loss below 0.007, and their draws over the expected ones:
#     samples with a small loss: 0.37, mean loss 0.22
#     float32: 0.92 in the first quarter, 0.63 in the second, 0.00 in the third, 0.00 in the fourth
#     float64: 1.00 in the first quarter, 0.99 in the second, 1.00 in the third, 1.01 in the fourth
#
# orderdp draws in proportion to losses too, and adds them up as whole numbers, which is exact.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/draw.py" <<'PYTHON'
import torch

torch.set_num_threads(1)
SAMPLES, DRAWS = 1_281_167, 10_000_000
rng = torch.Generator().manual_seed(0)
losses = torch.nn.functional.softplus(-(4 + 3 * torch.randn(SAMPLES, generator=rng)))
small = losses < 0.007
quarter = torch.arange(SAMPLES) * 4 // SAMPLES
expected = DRAWS * losses.double() / losses.double().sum()
print(f"samples with a small loss: {small.double().mean():.2f}, mean loss {losses.double().mean():.2f}")


def shares(weights):
    """Returns draws of small losses over expected draws, in each quarter of the data."""
    drawn = torch.multinomial(weights, DRAWS, replacement=True, generator=rng)
    counts = torch.bincount(drawn, minlength=SAMPLES)
    places = [small & (quarter == number) for number in range(4)]
    return [float(counts[place].sum() / expected[place].sum()) for place in places]


float32, float64 = shares(losses), shares(losses.double())
NAMES = "in the first quarter", "in the second", "in the third", "in the fourth"
for name, found in (("float32", float32), ("float64", float64)):
    print(f"{name}: {', '.join(f'{share:.2f} {place}' for share, place in zip(found, NAMES))}")
assert max(float32[2:]) < 0.1 and min(float64) > 0.9, "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/draw.py" 2>/dev/null

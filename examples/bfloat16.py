"""bfloat16: compute the losses in float32, or most of them tie and the choice is left to chance.

Claim: a network that is sure of its data has losses near 0. In bfloat16 they round to a few values, most of them
exactly 0. Samples that tie cannot be ranked. `logits.float()` before the loss keeps their order, and costs next to
nothing.

Under `torch.autocast`, `F.cross_entropy` does this itself. It matters for a model in bfloat16, and for a loss of your
own. The pruner warns once if many scores are equal.

    python examples/bfloat16.py        (needs scikit-learn; 6 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    bfloat16        79.9 % of 1797 losses are 0, 21 values differ,  70.7 % of the true top 30 % found
    logits.float()   1.2 % of 1797 losses are 0, 1345 values differ, 100.0 % of the true top 30 % found
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

SHARE = 0.3  # what a method with 70 % pruned would keep


def main(epochs: int = 100, seed: int = 0) -> None:
    """Trains a network in bfloat16 on half of the digits and prints how well its losses rank them all."""
    torch.manual_seed(seed)
    pixels, labels = load_digits(return_X_y=True)
    x_all, y_all = torch.tensor(pixels / 16, dtype=torch.bfloat16), torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(y_all), seed=seed)
    for _ in range(epochs):
        for index, (x, y) in pruner.loader(TensorDataset(x_all, y_all), batch_size=64):
            losses = F.cross_entropy(model(x).float(), y, reduction="none")
            pruner.update(index, losses).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        logits = model(x_all)
    in_bfloat16 = F.cross_entropy(logits, y_all, reduction="none")
    in_float32 = F.cross_entropy(logits.float(), y_all, reduction="none")
    exact = F.cross_entropy(logits.double(), y_all, reduction="none")
    for name, losses in (("bfloat16", in_bfloat16), ("logits.float()", in_float32)):
        zeros = 100 * (losses == 0).double().mean().item()
        print(
            f"{name:14}  {zeros:4.1f} % of {len(losses)} losses are 0, {len(losses.unique())} values differ, "
            f"{found(losses, exact):5.1f} % of the true top {100 * SHARE:.0f} % found"
        )


def found(losses: Tensor, exact: Tensor) -> float:
    """Returns how much of the highest exact losses the highest losses hold, ties in random order, in percent."""
    count = round(SHARE * len(exact))
    shuffled = torch.randperm(len(losses))
    chosen = shuffled[losses[shuffled].float().argsort(descending=True, stable=True)[:count]]
    return 100 * torch.isin(chosen, exact.argsort(descending=True)[:count]).double().mean().item()


if __name__ == "__main__":
    main()

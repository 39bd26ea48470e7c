"""How well the score of a mixed sample ranks it: five scores of one forward pass, beside the clean loss.

    python benchmarks/mixed_ranks.py --data-root DIR [--seeds 3] [--json results/benchmarks/mixed_ranks.json]

`small_cnn` trains for 30 epochs on 2,000 images of CIFAR-10, on one thread. timm's Mixup mixes each batch with its
reverse: Mixup 0.8 or CutMix 1.0, either of them at each step, with label smoothing 0.1. So sample i is in two mixed
images: in its own with share λ, in its partner's with 1 - λ. The scores are, after the forward pass of the step:

- both: the loss of its own mixed image against both targets, which is back-propagated;
- shared: the losses of the two mixed images against both targets, weighted by its share in them;
- own: the loss of its own mixed image against its target alone;
- shared own: the losses of the two mixed images against its target alone, weighted by its share in them;
- larger: the loss against its target alone, of the mixed image in which its share is larger.

The clean loss is that of the image before it was mixed, by the same model at the same step. The script prints, of the
epochs from the sixth on, how the scores of an epoch rank the samples beside the clean loss (Spearman's correlation),
and which share of the samples that OrderDP keeps by the clean loss it keeps by the score. The draws are the same. A
uniform choice among the drawn samples shares √(1 - prune ratio) of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from timing import parser, summary, write
from torch import Tensor, nn

from orderdp import FullData, OrderDP, Pruner
from orderdp.data.base import DataSets, ImageArrays
from orderdp.data.images import ResidentImages
from orderdp.data.imports import import_image_library
from orderdp.data.registry import load_dataset
from orderdp.training.models import build_model

import_image_library("timm")
from timm.data.mixup import Mixup  # noqa: E402

EPOCHS, FROM, BATCH_SIZE, MAX_LR, SAMPLES = 30, 5, 100, 0.1, 2000
RATIOS = (0.3, 0.5, 0.7)
SCORES = ("both", "shared", "own", "shared own", "larger")


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="where CIFAR-10 is")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("cifar10", data_root=given.data_root, train_size=SAMPLES)
    rows = [{"seed": seed, **measure(seed, data)} for seed in range(given.seeds)]
    found: dict[str, Any] = {}
    for name in SCORES:
        found[name] = {what: summary([row[name][what] for row in rows]) for what in rows[0][name]}
        correlation, *kept = (found[name][what] for what in found[name])
        print(
            f"{name:>10}: correlation {correlation['median']:.3f} ({correlation['min']:.3f} to "
            f"{correlation['max']:.3f}); kept alike "
            + ", ".join(f"{100 * each['median']:.1f} % at {ratio:g}" for ratio, each in zip(RATIOS, kept, strict=True))
        )
    numbers = {"benchmark": "mixed_ranks", "samples": SAMPLES, "epochs": EPOCHS, "rows": rows, "medians": found}
    write(given.json, torch.device("cpu"), numbers)


def measure(seed: int, data: DataSets) -> dict[str, dict[str, float]]:
    """Trains one model and returns, for each score, the mean correlation and the mean shares kept alike."""
    assert isinstance(data.train, ImageArrays)
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        model = build_model("small_cnn", num_classes=10, in_channels=3, image_size=32)
    samples = ResidentImages(data.train, mean=data.mean, std=data.std, augment="flip_crop", seed=seed)
    pruner = Pruner(FullData(), SAMPLES, seed=seed)
    loader = pruner.loader(samples, batch_size=BATCH_SIZE, collate_fn=lambda batch: batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=loader.total_steps(EPOCHS))
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=10)
    np.random.seed(seed)  # noqa: NPY002 TID251 - timm's Mixup draws from NumPy's global generator
    measured: dict[str, list[list[float]]] = {name: [] for name in SCORES}
    for epoch in range(EPOCHS):
        samples.set_epoch(epoch)
        seen = {name: torch.empty(SAMPLES) for name in (*SCORES, "clean")}
        for index, (images, labels) in loader:
            clean = clean_losses(model, images, labels)
            mixed, targets = mixup(images.clone(), labels)
            logits = model(mixed)
            losses = nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
            for name, scores in scores_of(logits.detach(), losses.detach(), targets, labels).items():
                seen[name][index] = scores
            seen["clean"][index] = clean
            pruner.update(index, losses).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if epoch >= FROM:
            for name in SCORES:
                alike = [kept_alike(seen[name], seen["clean"], ratio, seed * EPOCHS + epoch) for ratio in RATIOS]
                measured[name].append([float(spearmanr(seen[name], seen["clean"]).statistic), *alike])
    names = ("correlation", *(f"kept_alike_{ratio:g}" for ratio in RATIOS))
    return {name: dict(zip(names, np.mean(each, 0).tolist(), strict=True)) for name, each in measured.items()}


def scores_of(logits: Tensor, losses: Tensor, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Returns (b,) scores of each kind, from the logits and losses of mixed images and their (b, 10) targets."""
    share = targets.gather(1, labels[:, None]).squeeze(1)  # λ, or 1 if the partner is of the same class
    partners = targets.gather(1, labels.flip(0)[:, None]).squeeze(1)
    own = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    in_partners = nn.functional.cross_entropy(logits.flip(0), labels, reduction="none", label_smoothing=0.1)
    return {
        "both": losses,
        "shared": share * losses + (1 - share) * losses.flip(0),
        "own": own,
        "shared own": share * own + (1 - share) * in_partners,
        "larger": torch.where(share >= partners, own, in_partners),
    }


def clean_losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns (b,) losses of images that are not mixed, by a pass in evaluation mode."""
    model.eval()
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model(images), labels, reduction="none", label_smoothing=0.1)
    model.train()
    return losses


def kept_alike(scores: Tensor, clean: Tensor, ratio: float, number: int) -> float:
    """Returns the share of OrderDP's choice by the clean loss that is in its choice by the scores, of one draw."""
    drawn_size, kept_size = OrderDP(prune_ratio=ratio).sizes(len(scores))
    drawn = torch.randperm(len(scores), generator=torch.Generator().manual_seed(number))[:drawn_size]
    mine, wanted = (drawn[each[drawn].topk(kept_size).indices] for each in (scores, clean))
    return float(torch.isin(mine, wanted).double().mean())


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# timm 1.0.31: `loader.mixup_enabled = False` does not end Mixup in a loader with workers.
#
# This is how timm's own train script ends Mixup and CutMix for the last epochs, with `--mixup-off-epoch`. The switch
# sets the collate function in the main process. Workers have a copy of it from their start, and the workers of
# `create_loader` live for the whole run (`persistent_workers=True` is its default). So they mix until the run ends. The
# loader says that Mixup is off, and nothing warns. Without workers, or with `persistent_workers=False`, it does end.
#
# Output seen (Python 3.11, Linux), as samples with a mixed label of 16:
#     create_loader(...): epoch 0: 16, then mixup_enabled = False, epoch 1: 16, epoch 2: 16
#     with persistent_workers=False: epoch 0: 16, then mixup_enabled = False, epoch 1: 0, epoch 2: 0
#
# orderdp's loader for timm starts other workers when `mixup_enabled` changes, so it ends with the next pass.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 timm==1.0.31
cat > "$folder/mixup.py" <<'PYTHON'
import importlib.machinery
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

try:
    folder = Path(importlib.machinery.PathFinder.find_spec("torchvision").origin).parent
    torch.ops.load_library(str(folder / "_C.so"))
except OSError:  # pip took them for another build of torch; timm's loader needs none, but its import asks for two
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")

from timm.data import FastCollateMixup, create_loader

warnings.filterwarnings("ignore")


class Images(Dataset):
    """Sixteen images of one colour and one class each."""

    transform = None

    def __len__(self):
        return 16

    def __getitem__(self, item):
        return np.full((3, 8, 8), item, dtype=np.uint8), item


def mixed_samples(**options):
    """Returns the number of samples with a mixed label in each of three epochs. Mixup is to end after the first."""
    mixup = FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=16)
    cpu = torch.device("cpu")
    loader = create_loader(
        Images(), 8, 4, is_training=True, no_aug=True, num_workers=1, collate_fn=mixup, device=cpu, **options
    )
    mixed = []
    for epoch in range(3):
        if epoch == 1:
            loader.mixup_enabled = False
        mixed.append(sum(int((labels.max(1).values < 1).sum()) for _, labels in loader))
    assert not loader.mixup_enabled
    return mixed


seen = []
for name, options in (("create_loader(...)", {}), ("with persistent_workers=False", {"persistent_workers": False})):
    seen.append(mixed_samples(**options))
    before, *after = seen[-1]
    print(f"{name}: epoch 0: {before}, then mixup_enabled = False, epoch 1: {after[0]}, epoch 2: {after[1]}")
assert seen == [[16, 16, 16], [16, 0, 0]], "timm behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/mixup.py" 2>/dev/null

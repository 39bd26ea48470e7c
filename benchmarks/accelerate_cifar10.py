"""CIFAR-10 through accelerate on several processes: half the data, beside full data and the shorter schedule.

    torchrun --nproc-per-node 2 benchmarks/accelerate_cifar10.py --data-root DIR [--seeds 3] [--epochs 15]
        [--json results/benchmarks/accelerate_cifar10.json]

Each process takes its own part of every step through `accelerator.prepare(loader)`. Three arms are trained from the
same weights with the same peak of the learning rate: full data, OrderDP at 50 %, and full data for as many steps as
OrderDP makes, with a schedule of that length. Images are flipped and cropped. The network is `small_cnn`, with 64
samples a process and step.

It prints steps, test accuracy and seconds of each arm. The file holds these, the pruner's report, versions and commit.
A checkpoint of accelerate is written after each epoch, so a run that was stopped goes on when it is started again with
the same arguments; its seconds are then those of the last part. `--smoke` takes 512 training images and 2 epochs.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timing import parser, write

from orderdp import FullData, OrderDP, Pruner, Strategy
from orderdp.data.base import DataSets, ImageArrays
from orderdp.data.images import ResidentImages
from orderdp.data.registry import load_dataset
from orderdp.training.models import build_model

HALF = OrderDP(prune_ratio=0.5)
ARMS: dict[str, Strategy] = {"full data": FullData(), "OrderDP 50 %": HALF, "shorter schedule": FullData()}
BATCH_SIZE = 64  # of one process
MAX_LR = 0.1
WEIGHT_DECAY = 5e-4


def main() -> None:
    """Trains all arms of all seeds, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--data-root", type=Path, metavar="DIR", help="holds cifar-10-batches-py")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    options.add_argument("--epochs", type=int, default=15)
    options.add_argument("--folder", type=Path, default=Path("runs/accelerate_cifar10"), help="for the checkpoints")
    options.add_argument("--smoke", action="store_true", help="512 training images, 2 epochs, 1 seed")
    given = options.parse_args()
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), step_scheduler_with_optimizer=False)
    data = load_dataset("cifar10", data_root=given.data_root, train_size=512 if given.smoke else None)
    epochs, seeds = (2, 1) if given.smoke else (given.epochs, given.seeds)
    accelerator.print(f"{'seed':>4} {'arm':>17} {'steps':>6} {'accuracy':>9} {'seconds':>8}")
    rows = []
    for seed in range(seeds):
        for arm in ARMS:
            row = {"seed": seed, "arm": arm, **Arm(arm, seed, epochs, data, given.folder).train()}
            rows.append(row)
            accelerator.print(
                f"{seed:>4} {arm:>17} {row['steps']:>6} {row['accuracy']:>8.2f}% {row['train_s']:>8.0f}", flush=True
            )
    if accelerator.is_main_process:
        what = {"epochs": epochs, "processes": accelerator.num_processes, "train_size": len(data.train.labels)}
        write(given.json, accelerator.device, {"benchmark": "accelerate_cifar10", **what, "rows": rows})
        shutil.rmtree(given.folder, ignore_errors=True)
    accelerator.end_training()


class Arm:
    """One run through accelerate.

    Args:
        name: of `ARMS`.
        seed: of the weights, the augmentation and the pruner.
        epochs: of full data and of OrderDP.
        data: training and test images.
        folder: for the checkpoints of all arms.
    """

    def __init__(self, name: str, seed: int, epochs: int, data: DataSets, folder: Path) -> None:
        self.epochs, self.folder = epochs, folder / f"{name.replace(' ', '_')}_{seed}"
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), step_scheduler_with_optimizer=False)
        torch.manual_seed(seed)  # noqa: TID251 the weights, as in a user's script
        model = build_model("small_cnn", num_classes=10, in_channels=3, image_size=32)
        images: dict[str, Any] = {"mean": data.mean, "std": data.std, "device": self.accelerator.device}
        assert isinstance(data.train, ImageArrays)
        assert isinstance(data.test, ImageArrays)
        self.samples = ResidentImages(data.train, augment="flip_crop", seed=seed, **images)
        self.test = ResidentImages(data.test, **images)
        self.pruner = Pruner(ARMS[name], len(self.samples), seed=seed)
        loader = self.pruner.loader(self.samples, batch_size=BATCH_SIZE, collate_fn=_as_it_is)
        self.total_steps = loader.total_steps(epochs)
        if name == "shorter schedule":
            self.total_steps = Pruner(HALF, len(self.samples)).total_steps(epochs, BATCH_SIZE)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=MAX_LR, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=self.total_steps)
        self.model, self.optimizer, self.scheduler, self.loader = self.accelerator.prepare(
            model, optimizer, scheduler, loader
        )

    def train(self) -> dict[str, Any]:
        """Trains to the last step; returns steps, test accuracy, seconds of training and the pruner's report."""
        checkpoints = sorted(self.folder.glob("epoch*"))
        if checkpoints:
            self.accelerator.load_state(str(checkpoints[-1]))
        train_s = 0.0
        for epoch in range(self.pruner.next_epoch, self.epochs):
            if self.steps == self.total_steps:
                break
            began_s = time.perf_counter()
            self.train_epoch(epoch)
            train_s += time.perf_counter() - began_s
            self.accelerator.save_state(str(self.folder / f"epoch{epoch:04}"))
            self.accelerator.wait_for_everyone()
        self.pruner.synchronize()
        report = dataclasses.asdict(self.pruner.report())
        report = {key: None if value != value else value for key, value in report.items()}  # JSON has no NaN
        return {"steps": self.steps, "accuracy": self.accuracy(), "train_s": train_s, "report": report}

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return int(self.scheduler.scheduler.last_epoch)

    def train_epoch(self, epoch: int) -> None:
        """Trains one epoch, or the part of it that is within the schedule."""
        self.model.train()
        self.samples.set_epoch(epoch)
        for index, (x, y) in self.loader:
            losses = F.cross_entropy(self.model(x), y, reduction="none")
            self.accelerator.backward(self.pruner.update(index, losses))
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            if self.steps == self.total_steps:
                return

    @torch.no_grad()
    def accuracy(self) -> float:
        """Returns the test accuracy in percent, of all processes together."""
        self.model.eval()
        mine = torch.arange(self.accelerator.process_index, len(self.test), self.accelerator.num_processes)
        right = torch.zeros((), device=self.accelerator.device)
        for ids in mine.split(500):
            x, y = self.test.__getitems__(ids)
            right += (self.model(x).argmax(1) == y).sum()
        return 100 * float(self.accelerator.reduce(right)) / len(self.test)


def _as_it_is(batch: Any) -> Any:
    """The collate function of images that come as a whole batch."""
    return batch


if __name__ == "__main__":
    main()

"""A run that is killed inside an epoch resumes and ends with the same bits.

Claim: one checkpoint holds everything that decides the rest of the run. A process dies inside an epoch, four steps
after its last checkpoint. A second process loads the checkpoint, receives the batches that were left, and repeats those
four steps. It ends with exactly the weights of a run that was never killed. The network has dropout, so the checkpoint
also holds the state of torch's random numbers.

    python examples/resume.py        (5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    killed after 29 of 64 steps
    resumed at step 25, in epoch 3
    all weights equal, bit for bit: True
"""

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

EPOCHS = 8
BATCH_SIZE = 32
MAX_LR = 0.05
SAVE_EVERY = 5  # steps


def main(kill_at: int = 29) -> None:
    """Trains without a pause, then with a kill after `kill_at` steps, and compares the weights."""
    with tempfile.TemporaryDirectory() as folder:
        expected = train(Path(folder) / "never_killed.pt")
        checkpoint = Path(folder) / "killed.pt"
        process = multiprocessing.get_context("spawn").Process(target=train, args=(checkpoint, kill_at))
        process.start()
        process.join()
        weights = train(checkpoint)
    print(f"all weights equal, bit for bit: {all(torch.equal(weights[name], expected[name]) for name in expected)}")


def train(checkpoint: Path, kill_at: int | None = None) -> dict[str, Tensor]:
    """Trains from the checkpoint if there is one, and from the beginning otherwise; returns the weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(500, 20)
    train_set = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=0)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(EPOCHS, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}

    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])  # the loader's state holds the pruner's, and the position in the epoch
        torch.set_rng_state(state["rng"])
        step = state["step"]
        print(f"resumed at step {step}, in epoch {pruner.next_epoch}")

    for _ in range(pruner.next_epoch, EPOCHS):
        for index, (x, y) in loader:
            loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            if step % SAVE_EVERY == 0:
                save(checkpoint, {name: part.state_dict() for name, part in parts.items()}, step)
            if step == kill_at:
                print(f"killed after {step} of {total_steps} steps", flush=True)
                os._exit(1)  # nothing is cleaned up, as with SIGKILL or a power cut
    return model.state_dict()


def save(checkpoint: Path, states: dict[str, Any], step: int) -> None:
    """Writes to a temporary file first, so that a kill while writing leaves the last checkpoint whole."""
    unfinished = checkpoint.with_suffix(".tmp")
    torch.save({**states, "rng": torch.get_rng_state(), "step": step}, unfinished)
    unfinished.replace(checkpoint)


if __name__ == "__main__":
    main()

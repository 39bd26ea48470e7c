"""A training loop on any number of ranks that resumes, as docs/resume.md writes it, and is disturbed on request.

    python restarting.py FOLDER [--kill RANK:STEP] [--hang RANK:STEP] [--every STEPS] [--epochs NUMBER] [--slow]

It writes FOLDER/result.json: the ids of each step of all ranks by epoch, a digest of the weights and the ranks of each
start. --kill and --hang count only before torchrun has restarted it.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch._dynamo  # which DDP and the optimizers import: once here, not in each forked process
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import orderdp
from orderdp.stopping import StopRequest

PAGE = Path(__file__).parents[2] / "docs" / "resume.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
DOCUMENTED = next(code for code in BLOCKS if "def save" in code)
STEP = 96  # samples of all ranks


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--kill", default="")
    options.add_argument("--hang", default="")
    options.add_argument("--every", type=int, default=2)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--slow", action="store_true")
    given = options.parse_args(arguments)
    names: dict = {"torch": torch}
    exec(DOCUMENTED, names)
    dist.init_process_group("gloo", timeout=timedelta(seconds=20 if not given.hang else 4))
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    # Doubles: the sums of another number of ranks then round to the same scores.
    images, labels = (torch.from_numpy(part[:1000]) for part in load_digits(return_X_y=True))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)).double()
    net = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), 1000)
    loader = pruner.loader(TensorDataset(images / 16, labels), batch_size=STEP // num_ranks)
    state = names["load"](given.folder, loader)
    step, trained, starts = 0, [], []
    if state is not None:
        step, trained, starts = state["step"], state["trained"], state["starts"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    starts = [*starts, [num_ranks, step]]
    mine = []

    def save() -> None:
        nonlocal mine, trained
        everyone = [None] * num_ranks
        dist.all_gather_object(everyone, mine)
        for number, (epoch, _) in enumerate(mine):
            trained = [*trained, [epoch, [sample for each in everyone for sample in each[number][1]]]]
        mine = []
        saved = {"loader": loader.state_dict(), "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if rank == 0:
            names["save"](given.folder, step, {**saved, "step": step, "trained": trained, "starts": starts})
        dist.barrier()

    def disturbed() -> None:
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            if given.kill == f"{rank}:{step}":
                os.kill(os.getpid(), signal.SIGKILL)
            if given.hang == f"{rank}:{step}":
                time.sleep(6)
                os._exit(0)

    with StopRequest() as stop:
        for epoch in range(pruner.next_epoch, given.epochs):
            for index, (x, y) in loader:
                disturbed()
                pruner.update(index, F.cross_entropy(net(x), y, reduction="none")).backward()
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                mine.append([epoch, index.tolist()])
                stopped = stop.agreed()
                if stopped or step % given.every == 0:
                    save()
                time.sleep(0.2 * given.slow)
                (given.folder / f"step.{rank}").write_text(str(step))
                if stopped:
                    raise SystemExit(143)
    save()
    if rank == 0:
        digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()))
        result = {"trained": trained, "weights": digest.hexdigest(), "starts": starts}
        (given.folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()

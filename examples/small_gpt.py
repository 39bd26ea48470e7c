"""A small GPT reads windows of a token file, is stopped inside an epoch, and resumes.

Claim: `TokenWindows` gives each window of a memory-mapped file an id, so that the loss of each window is remembered. A
plain script becomes a pruned one by the lines that end in `# orderdp`; they replace those behind `# plain:`. A run that
is stopped inside an epoch and started again ends with the weights of a run that was never stopped.

The tokens are the bytes of the Python manual, which comes with Python.

    python examples/small_gpt.py        (10 s on one CPU core)

Prints, with torch 2.13 on a CPU and Python 3.11:

    3124 windows of 64 tokens
    stopped after step 70
    resumed at step 70
    bits per byte on the test text: 8.33 before, 3.69 after 147 steps
    all weights equal to those of a run that was never stopped: True
"""

import math
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import orderdp  # orderdp
from orderdp.data import TokenWindows  # orderdp

LENGTH, WIDTH, HEADS, LAYERS = 64, 64, 4, 2
EPOCHS, BATCH_SIZE, MAX_LR = 3, 32, 3e-3
TRAIN_BYTES, TEST_BYTES = 200_000, 20_000


class GPT(nn.Module):
    """A transformer that reads bytes and predicts the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (b, LENGTH, 256) logits."""
        logits: Tensor = self.out(self.layers(self.tokens(x) + self.places, self.mask, is_causal=True))
        return logits


def main() -> None:
    """Trains with a stop inside an epoch and without one, and compares."""
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(topics.values()).encode()
        (Path(folder) / "train.bin").write_bytes(text[:TRAIN_BYTES])
        (Path(folder) / "test.bin").write_bytes(text[TRAIN_BYTES : TRAIN_BYTES + TEST_BYTES])
        test_set = windows_of(Path(folder) / "test.bin")
        before = bits(new_model(), test_set)
        train(Path(folder), "stopped.pt", stop_at=70)
        model, steps = train(Path(folder), "stopped.pt")
        never_stopped, _ = train(Path(folder), "other.pt", quiet=True)
    after = bits(model, test_set)
    print(f"bits per byte on the test text: {before:.2f} before, {after:.2f} after {steps} steps")
    pairs = zip(model.parameters(), never_stopped.parameters(), strict=True)
    print(f"all weights equal to those of a run that was never stopped: {all(torch.equal(a, b) for a, b in pairs)}")


def windows_of(path: Path) -> Dataset[tuple[Tensor, Tensor]]:
    """Returns a data set of (LENGTH bytes, the byte that follows each)."""
    # plain: text = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8).long()
    # plain: windows = text.unfold(0, LENGTH + 1, LENGTH)
    # plain: return torch.utils.data.TensorDataset(windows[:, :-1], windows[:, 1:])
    return TokenWindows(path, LENGTH, dtype="uint8")  # orderdp


def new_model() -> GPT:
    """Returns a model that is the same each time."""
    torch.manual_seed(0)
    return GPT()


def train(folder: Path, name: str, *, stop_at: int | None = None, quiet: bool = False) -> tuple[GPT, int]:
    """Trains from the checkpoint if there is one; returns the model and its number of steps."""
    torch.set_num_threads(1)
    train_set = windows_of(folder / "train.bin")
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR)
    # plain: loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=0)  # orderdp
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)  # orderdp
    # plain: total_steps = EPOCHS * len(loader)
    total_steps = loader.total_steps(EPOCHS)  # orderdp
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)
    # plain: parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}  # orderdp
    if (folder / name).exists():
        for part, state in torch.load(folder / name, weights_only=True).items():
            parts[part].load_state_dict(state)
        print(f"resumed at step {scheduler.last_epoch}")
    elif not quiet:
        print(f"{len(train_set)} windows of {LENGTH} tokens")

    # plain: for _ in range(scheduler.last_epoch // len(loader), EPOCHS):
    for _ in range(pruner.next_epoch, EPOCHS):  # orderdp
        # plain: for x, y in loader:
        for index, (x, y) in loader:  # orderdp
            # plain: loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            token_losses = F.cross_entropy(model(x).transpose(1, 2), y, reduction="none")  # orderdp
            loss = pruner.update(index, token_losses.mean(1))  # orderdp
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if scheduler.last_epoch == total_steps:
                return model, total_steps
            if scheduler.last_epoch == stop_at:
                torch.save({part: item.state_dict() for part, item in parts.items()}, folder / name)
                print(f"stopped after step {stop_at}")
                return model, scheduler.last_epoch
    return model, scheduler.last_epoch


def bits(model: GPT, windows: Dataset[tuple[Tensor, Tensor]]) -> float:
    """Returns the mean bits per byte."""
    with torch.no_grad():
        losses = [F.cross_entropy(model(x).transpose(1, 2), y) for x, y in DataLoader(windows, batch_size=52)]
    return torch.stack(losses).mean().item() / math.log(2)


if __name__ == "__main__":
    main()

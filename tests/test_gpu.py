"""What only a GPU can show: no wait for the device, the same choice as on a CPU, mistakes found late but found."""

import json
import math
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

from orderdp import OrderDP, Pruner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]

N, BATCH = 1000, 64
HALF = OrderDP(explore=0.8, exploit=0.5)
EVERY_STEP = OrderDP(explore=0.8, exploit=0.5, per="iteration", fresh=True)


@contextmanager
def no_synchronisation():
    """Raises at the first call that waits for the device."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def loss_of(ids: torch.Tensor, epoch: int, device: str) -> torch.Tensor:
    """Losses with a gradient, the same bits on every device."""
    values = (ids.cpu() * 7919 + epoch * 104729) % 10007
    return (values.to(torch.float32) / 16).to(device).requires_grad_()


def batches_of(pruner: Pruner, ids_on: str) -> list[torch.Tensor]:
    """Begins an epoch and returns its ids, batch by batch."""
    return list(torch.from_numpy(pruner.begin_epoch(BATCH).indices.copy()).to(ids_on).split(BATCH))


def trained(device: str, epochs: int, *, ids_on: str = "cpu", strategy: OrderDP = HALF) -> tuple[Pruner, list]:
    """A pruner after some epochs, and what each of them visited."""
    pruner, visited = Pruner(strategy, N, seed=0), []
    for epoch in range(epochs):
        for ids in batches_of(pruner, ids_on):
            pruner.update(ids, loss_of(ids, epoch, device))
        visited.append(pruner.selection.indices.tolist())
    return pruner, visited


def test_the_debug_mode_notices_a_wait():
    losses = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="synchronizing"), no_synchronisation():
        losses.sum().item()
    assert torch.cuda.get_sync_debug_mode() == 0


@pytest.mark.parametrize("strategy", [HALF, EVERY_STEP], ids=["stored scores", "fresh scores"])
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_update_never_waits_for_the_device_not_even_when_it_moves_the_table(ids_on, strategy):
    pruner = Pruner(strategy, N)
    batches = batches_of(pruner, ids_on)
    losses = [loss_of(ids, 0, "cuda") for ids in batches]
    assert pruner.scores().get("score", torch.empty(0)).device.type == "cpu"
    with no_synchronisation():
        for ids, values in zip(batches, losses, strict=True):
            pruner.update(ids, values).backward()
    assert pruner.visits().device.type == "cuda"
    assert all(values.grad is not None for values in losses)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_update_never_waits_for_losses_of_another_precision_or_scores_of_the_users(dtype):
    pruner = Pruner(HALF, N, device="cuda")
    ids = batches_of(pruner, "cpu")[0]
    losses, scores = loss_of(ids, 0, "cuda"), loss_of(ids, 1, "cpu").detach()
    with no_synchronisation():
        pruner.update(ids, losses.to(dtype), scores=scores)
    assert torch.equal(pruner.scores()["score"][ids.cuda()].cpu(), scores)


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_update_returns_the_mean_with_its_gradient(ids_on):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, ids_on)[0]
    losses = loss_of(ids, 0, "cuda")
    loss = pruner.update(ids, losses)
    loss.backward()
    assert loss.device.type == "cuda"
    torch.testing.assert_close(loss, losses.detach().mean())
    assert losses.grad.tolist() == [1 / BATCH] * BATCH


@pytest.mark.parametrize("strategy", [HALF, EVERY_STEP], ids=["stored scores", "fresh scores"])
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_a_gpu_chooses_and_remembers_what_a_cpu_does(ids_on, strategy):
    on_gpu, visited = trained("cuda", 4, ids_on=ids_on, strategy=strategy)
    on_cpu, expected = trained("cpu", 4, strategy=strategy)
    assert visited == expected
    assert on_gpu.visits().tolist() == on_cpu.visits().tolist()
    for name, scores in on_cpu.scores().items():
        assert torch.equal(on_gpu.scores()[name].cpu(), scores)


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_counted_and_not_recorded(ids_on, bad):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, ids_on)[0]
    values = loss_of(ids, 0, "cuda").detach()
    values[3] = bad
    with no_synchronisation():
        pruner.update(ids, values.clone().requires_grad_())
    with pytest.warns(RuntimeWarning, match="1 losses of epoch 0 were NaN or infinite and were not recorded"):
        pruner.begin_epoch()
    scores = pruner.scores()["score"][ids.cuda()]
    assert scores[3] == math.inf
    assert torch.equal(scores[4:], values[4:])
    assert pruner.report().non_finite == 1


def test_a_mistaken_id_on_the_host_raises_at_once():
    pruner = Pruner(HALF, N, device="cuda")
    ids = batches_of(pruner, "cpu")[0]
    ids[0] = N
    with pytest.raises(IndexError, match=r"index must lie in 0 \.\. 999, got 1000"):
        pruner.update(ids, loss_of(ids, 0, "cuda"))


@pytest.mark.parametrize("mistake", ["too large", "negative", "not selected"])
def test_a_mistaken_id_on_the_device_raises_at_the_next_epoch(mistake):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, "cuda")[0]
    not_selected = min(set(range(N)) - set(pruner.selection.indices.tolist()))
    wrong = {"too large": N + 5, "negative": -1, "not selected": not_selected}[mistake]
    ids[0] = wrong
    losses = loss_of(ids, 0, "cuda")
    with no_synchronisation():
        pruner.update(ids, losses)
    scores = pruner.scores()["score"]
    assert torch.equal(scores[ids[1:]], losses.detach()[1:])
    assert int(scores.isfinite().sum()) == BATCH - 1
    with pytest.raises(RuntimeError, match="got 1 ids that epoch 0 did not select and 0 repeated in a batch"):
        pruner.begin_epoch()


def test_a_repeated_id_on_the_device_raises_at_the_next_epoch():
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, "cuda")[0]
    ids[1] = ids[0]
    losses = loss_of(ids, 0, "cuda")
    with no_synchronisation():
        pruner.update(ids, losses)
    with pytest.raises(RuntimeError, match="got 0 ids that epoch 0 did not select and 1 repeated in a batch"):
        pruner.begin_epoch()


@pytest.mark.parametrize(("saved_on", "loaded_on"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_state_goes_from_one_device_to_another(tmp_path, saved_on, loaded_on):
    saved, _ = trained(saved_on, 3)
    torch.save(saved.state_dict(), tmp_path / "state.pt")
    loaded = Pruner(HALF, N, seed=0)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True))
    for epoch in range(3, 5):
        for ids, ids_of_saved in zip(batches_of(loaded, "cpu"), batches_of(saved, "cpu"), strict=True):
            assert torch.equal(ids, ids_of_saved)
            loaded.update(ids, loss_of(ids, epoch, loaded_on))
            saved.update(ids, loss_of(ids, epoch, saved_on))
    assert torch.equal(loaded.scores()["score"].cpu(), saved.scores()["score"].cpu())
    assert loaded.visits().tolist() == saved.visits().tolist()


def test_a_state_on_the_gpu_loads_without_map_location(tmp_path):
    saved, _ = trained("cuda", 2)
    torch.save(saved.state_dict(), tmp_path / "state.pt")
    loaded = Pruner(HALF, N, seed=0)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert loaded.begin_epoch().indices.tolist() == saved.begin_epoch().indices.tolist()


def test_losses_on_another_device_than_the_table_are_refused():
    pruner = Pruner(HALF, N, device="cuda:0")
    ids = batches_of(pruner, "cpu")[0]
    with pytest.raises(ValueError, match=r"losses must be on the table's device cuda:0, got cpu; write Pruner\("):
        pruner.update(ids, loss_of(ids, 0, "cpu"))


def test_a_table_on_plain_cuda_takes_losses_of_the_current_device():
    pruner = Pruner(HALF, N, device="cuda")
    ids = batches_of(pruner, "cpu")[0]
    pruner.update(ids, loss_of(ids, 0, "cuda"))
    assert pruner.scores()["score"].device == torch.device("cuda", torch.cuda.current_device())


def test_the_loader_pins_memory_and_keeps_ids_and_batches_together():
    pruner = Pruner(HALF, N)
    data = torch.arange(N) * 3
    for index, batch in pruner.loader(data, batch_size=BATCH, pin_memory=True):
        assert index.is_pinned()
        assert torch.equal(batch, index * 3)
        pruner.update(index, loss_of(index, 0, "cuda"))
    assert pruner.report().visits == 400


@pytest.mark.slow
def test_the_trainer_runs_on_a_gpu_in_bf16_with_channels_last(tmp_path):
    """In a process of its own: accelerate keeps the device of the first run in a process."""
    settings = ["--device", "cuda", "--precision", "bf16", "--channels-last", "--model", "small_cnn", "--epochs", "3"]
    command = [sys.executable, "-m", "orderdp", "train", *settings, "--run", str(tmp_path / "run"), "--against", "full"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    pruned, full = json.loads((tmp_path / "run" / "result.json").read_text())["runs"]
    assert pruned["device"] == full["device"] == torch.cuda.get_device_name()
    assert full["samples_forward"] == 3 * 1437
    assert pruned["samples_forward"] == pruned["samples_backward"] == 3 * round(1437 / 2)
    assert full["accuracy_best"] > 20  # ten classes

"""What only a GPU can show: no wait for the device, the same choice as on a CPU, mistakes found late but found."""

import json
import math
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

from orderdp import InfoBatch, OrderDP, OrderedSGD, Pruner, SelectiveBackprop, Strategy
from orderdp.data.base import ImageArrays
from orderdp.data.images import ResidentImages
from orderdp.ranks import Batching
from reference.loop import LEFT_EARLY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]

N, BATCH = 1000, 64
HALF = OrderDP(explore=0.8, exploit=0.5)
EVERY_STEP = OrderDP(explore=0.8, exploit=0.5, per="iteration", fresh=True)
STRATEGIES = {
    "stored scores": HALF,
    "fresh scores": EVERY_STEP,
    "a draw in each batch": SelectiveBackprop(keep=0.5),
    "weights": InfoBatch(),
}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
NOT_FINITE = pytest.mark.filterwarnings("ignore:.* losses of epoch .* were NaN or infinite:RuntimeWarning")


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
    ids = torch.from_numpy(pruner.begin_epoch(BATCH).indices.copy()).long().to(ids_on)
    steps = pruner.steps_of(Batching(BATCH), len(ids))
    return [ids[begin:end] for begin, end in map(steps.batch, range(len(steps)))]


def trained(device: str, epochs: int, *, ids_on: str = "cpu", strategy: Strategy = HALF) -> tuple[Pruner, list]:
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


@each_strategy
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_update_never_waits_for_the_device(ids_on, strategy):
    pruner = Pruner(strategy, N)
    for epoch in range(2):  # the weights of InfoBatch come in the second
        batches = batches_of(pruner, ids_on)
        losses = [loss_of(ids, epoch, "cuda") for ids in batches]
        weights = torch.ones(BATCH, device="cuda")
        with no_synchronisation():
            for ids, values in zip(batches, losses, strict=True):
                pruner.update(ids, values).backward()
                pruner.update(ids, values, weights=weights[: len(ids)], reduction="none")
        assert all(values.grad is not None for values in losses)
    assert pruner.report().trained > 0


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_batches_in_any_order_never_wait_for_the_device(ids_on):
    pruner = Pruner(InfoBatch(), N)
    for epoch in range(2):
        batches = [ids.flip(0) for ids in reversed(batches_of(pruner, ids_on))]
        losses = [loss_of(ids, epoch, "cuda") for ids in batches]
        with no_synchronisation():
            for ids, values in zip(batches, losses, strict=True):
                pruner.update(ids, values).backward()
    assert pruner.report().trained == len(pruner.selection.indices)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@LEFT_EARLY
def test_update_never_waits_for_losses_of_another_precision_or_scores_of_the_users(dtype):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, "cpu")[0]
    losses, scores = loss_of(ids, 0, "cuda"), loss_of(ids, 1, "cpu").detach()
    with no_synchronisation():
        pruner.update(ids, losses.to(dtype), scores=scores)
    assert torch.equal(pruner.scores()["score"][ids], scores)


@pytest.mark.parametrize("augment", ["flip_crop", "flip_crop_erase"])
def test_a_batch_of_resident_images_never_waits_for_the_device(augment):
    source = ImageArrays(torch.zeros(50, 3, 8, 8, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
    images = ResidentImages(source, mean=(0.5,) * 3, std=(0.2,) * 3, augment=augment, device="cuda")
    with no_synchronisation():
        batch, _ = images.__getitems__(range(20))
    assert batch.device.type == "cuda"


def test_an_update_takes_at_most_four_kernels():
    pruner = Pruner(HALF, N)
    first, second = batches_of(pruner, "cpu")[:2]
    pruner.update(first, loss_of(first, 0, "cuda"))
    losses = loss_of(second, 0, "cuda")
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        pruner.update(second, losses)
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert 1 <= len(kernels) <= 4


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_update_returns_the_mean_with_its_gradient(ids_on):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, ids_on)[0]
    losses = loss_of(ids, 0, "cuda")
    loss = pruner.update(ids, losses)
    loss.backward()
    assert loss.device.type == "cuda"
    torch.testing.assert_close(loss, losses.detach().mean())
    assert losses.grad.tolist() == pytest.approx([1 / len(ids)] * len(ids))


@each_strategy
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_a_gpu_chooses_and_remembers_what_a_cpu_does(ids_on, strategy):
    on_gpu, visited = trained("cuda", 4, ids_on=ids_on, strategy=strategy)
    on_cpu, expected = trained("cpu", 4, strategy=strategy)
    assert visited == expected
    for name, column in on_cpu.table().items():
        assert torch.equal(on_gpu.table()[name], column)


@each_strategy
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_what_is_remembered_is_on_the_host(ids_on, strategy):
    pruner, _ = trained("cuda", 2, ids_on=ids_on, strategy=strategy)
    held = [*pruner.table().values(), *pruner.scores().values(), pruner.visits(), pruner.ages(), pruner.trained()]
    assert {column.device.type for column in held} == {"cpu"}


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
@pytest.mark.parametrize("strategy", [EVERY_STEP, OrderedSGD(keep=0.25)], ids=repr)
def test_two_passes_on_a_gpu_train_what_one_pass_on_a_cpu_does(ids_on, strategy):
    on_gpu, on_cpu = Pruner(strategy, N), Pruner(strategy, N)
    for epoch in range(2):
        for ids, same in zip(batches_of(on_gpu, ids_on), batches_of(on_cpu, "cpu"), strict=True):
            losses = loss_of(ids, epoch, "cuda")
            kept = on_gpu.choose(ids, losses)
            assert kept.device.type == "cuda"
            kept_ids = ids[kept.to(ids.device)]
            loss = on_gpu.update(kept_ids, losses[kept])
            torch.testing.assert_close(loss.cpu(), on_cpu.update(same, loss_of(same, epoch, "cpu")))
        for name, column in on_cpu.table().items():
            assert torch.equal(on_gpu.table()[name], column)


@NOT_FINITE
@LEFT_EARLY
@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_counted_and_fails_its_sample(ids_on, bad):
    pruner = Pruner(HALF, N)
    ids = batches_of(pruner, ids_on)[0]
    values = loss_of(ids, 0, "cuda").detach()
    values[3] = bad
    with no_synchronisation():
        pruner.update(ids, values.clone().requires_grad_())
    pruner.begin_epoch()
    scores = pruner.scores()["score"][ids.cpu()]
    assert scores[3] == -math.inf
    assert torch.equal(scores[4:], values[4:].cpu())
    assert (pruner.report().non_finite, pruner.report().failed) == (1, (int(ids[3]),))


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
@pytest.mark.parametrize("what", ["nothing", "scores", "state_dict", "report"])
def test_the_second_update_of_a_batch_replaces_the_first(ids_on, what):
    pruner = Pruner(HALF, N)
    for ids in batches_of(pruner, ids_on):
        for number in range(2):
            pruner.update(ids, loss_of(ids, number, "cuda"))
            if what != "nothing":
                getattr(pruner, what)()
    chosen = torch.from_numpy(pruner.selection.indices).long()
    assert torch.equal(pruner.scores()["score"][chosen], loss_of(chosen, 1, "cpu").detach())
    assert pruner.report().visits == len(chosen)


def test_losses_may_move_between_devices_within_an_epoch():
    pruner = Pruner(HALF, N)
    for number, ids in enumerate(batches_of(pruner, "cpu")):
        device = ("cuda", "cpu")[number % 2]
        pruner.update(ids.to(device), loss_of(ids, 0, device))
    chosen = torch.from_numpy(pruner.selection.indices).long()
    assert torch.equal(pruner.scores()["score"][chosen], loss_of(chosen, 0, "cpu").detach())


def test_a_mistaken_id_on_the_host_raises_at_once():
    pruner = Pruner(HALF, N)
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
    assert torch.equal(scores[ids[1:].cpu()], losses.detach()[1:].cpu())
    assert int(scores.isfinite().sum()) == len(ids) - 1
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
    assert torch.equal(loaded.scores()["score"], saved.scores()["score"])
    assert loaded.visits().tolist() == saved.visits().tolist()


def test_a_state_on_the_gpu_loads_without_map_location(tmp_path):
    saved, _ = trained("cuda", 2)
    torch.save(saved.state_dict(), tmp_path / "state.pt")
    loaded = Pruner(HALF, N, seed=0)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert loaded.begin_epoch().indices.tolist() == saved.begin_epoch().indices.tolist()


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

"""Each framework trains on a CUDA device what a bare loop trains on a CPU; the CPU cases hold the tests to their word.

Modules of other frameworks' runs are imported inside the tests, since they skip where a framework is missing.
"""

import os
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from integrations import test_accelerate as runs
from integrations import test_stream_frameworks as streams
from orderdp import UCB, Pruner
from orderdp.sharded import ShardedPruner
from test_gpu import no_synchronisation
from test_gpu import pytestmark as needs_cuda

pytestmark = [
    *streams.pytestmark,
    pytest.mark.filterwarnings("ignore:This property will be removed in 2.0.0. Use .Metric:DeprecationWarning"),
]
CUDA = pytest.param("cuda", marks=needs_cuda)
each_device = pytest.mark.parametrize("device", ["cpu", CUDA])
only_cuda = pytest.mark.parametrize("device", [CUDA])
HALF, SHRINKING, EPOCHS = runs.HALF, UCB(prune_ratio=0.5), runs.EPOCHS
ROUNDING = {"cpu": {"rel": 1e-5, "abs": 1e-7}, "cuda": {"rel": 1e-4, "abs": 1e-6}}
LIGHTNINGS = {"cpu": "cpu", "cuda": "gpu"}  # names of Lightning's accelerators


class Watched(Pruner):
    """Notes on which device the losses of each update are."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.devices = []

    def update(self, index, losses, **keywords):
        self.devices.append(losses.device.type)
        return super().update(index, losses, **keywords)


class NeverWaits(Watched):
    """Its updates raise where they wait for the device."""

    def update(self, index, losses, **keywords):
        with no_synchronisation():
            return super().update(index, losses, **keywords)


class Told(ShardedPruner):
    """Keeps the last loss that each sample was told of, as it was at the end of each epoch."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.told = [{} for _ in range(EPOCHS)]

    def update(self, index, losses, **keywords):
        for known in self.told[self.epoch :]:
            known |= dict(zip(index.tolist(), losses.tolist(), strict=True))
        return super().update(index, losses, **keywords)


class Moved:
    """A loader of pinned batches that come on a device; the ids before them, if there are any, stay on the host."""

    def __init__(self, loader, device, *, ids=True):
        self.loader, self.device, self.ids = loader, device, ids

    def __iter__(self):
        for item in self.loader:
            index, batch = item if self.ids else (item[0], item)
            assert index.is_pinned() == batch[0].is_pinned() == (self.device == "cuda")
            batch = [part.to(self.device, non_blocking=True) for part in batch]
            yield (index, batch) if self.ids else batch


def assert_same(found, expected, device, steps=None):
    """Ids in order, losses to rounding and number of steps, of rows that end in the ids and losses of a step."""
    assert [row[-2] for row in found] == [row[-2] for row in expected]
    losses, others = (np.hstack([row[-1] for row in rows]) for rows in (found, expected))
    assert losses == pytest.approx(others, **ROUNDING[device])
    assert len(expected) > 0
    assert steps in (None, len(expected))


def assert_same_traces(found, expected, device):
    """The same for a trace of the tests of accelerate; and the learning rates, and weights on the device."""
    (rows, steps, weights), (others, _, those) = found, expected
    assert_same([row[:3] for row in rows], [row[:3] for row in others], device, steps)
    assert [row[3] for row in rows] == [row[3] for row in others]
    assert weights.device.type == device
    torch.testing.assert_close(weights.cpu(), those.cpu(), rtol=1e-4, atol=1e-6)


def trained(parts, *, backward=torch.Tensor.backward):
    """A bare loop, on the device of its model and batches."""
    model, optimizer, scheduler, pruner, loader = parts
    trace = runs.Trace()
    for epoch in range(EPOCHS):
        for index, (x, y) in loader:
            loss = pruner.update(index, runs.losses_of(model, x, y))
            backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            trace.add(epoch, index, loss, scheduler, stepped=True)
    return trace.end(model)


def built(pruner, batch_size=runs.BATCH, **arguments):
    """Model, optimiser, scheduler, this pruner and its loader."""
    model, optimizer, scheduler, _, _ = runs.built(HALF)
    return model, optimizer, scheduler, pruner, pruner.loader(runs.data(), batch_size=batch_size, **arguments)


def built_on(device, pruner, **arguments):
    """The same on a device."""
    model, *others, loader = built(pruner, pin_memory=device == "cuda", **arguments)
    return model.to(device), *others, Moved(loader, device)


def accelerated(device, pruner, **arguments):
    """A loop with accelerate."""
    accelerator = runs.accelerate.Accelerator(cpu=device == "cpu")
    model, optimizer, scheduler, _, loader = built(pruner, **arguments)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    return trained((model, optimizer, scheduler, pruner, loader), backward=accelerator.backward)


@pytest.fixture
def _fresh_accelerate():
    """Accelerate keeps the device of the first Accelerator in a process."""
    yield forget_device()
    forget_device()


def forget_device():
    runs.accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    runs.accelerate.state.GradientState._reset_state()


def lightning_fit(device, pruner_class, **arguments):
    loader = {"pruner_class": pruner_class, "pin_memory": device == "cuda", **arguments}
    lightning_runs = import_module("reference.lightning_runs")
    return lightning_runs.fit(SHRINKING, EPOCHS, accelerator=LIGHTNINGS[device], devices=1, loader=loader)


def assert_fitted(model, device):
    """A module that Lightning has fitted did what a bare loop does."""
    expected = import_module("reference.lightning_runs").bare(SHRINKING, EPOCHS)
    rows, others = (list(zip(trace.ids, trace.losses, strict=True)) for trace in (model.trace, expected))
    assert_same(rows, others, device, model.trace.steps)
    assert model.trace.rates == pytest.approx(expected.rates, rel=1e-12)
    assert model.pruner.devices == [device] * len(others)


@each_device
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_what_a_bare_loop_trains(device, workers):
    pytest.importorskip("lightning")
    assert_fitted(lightning_fit(device, Watched, num_workers=workers), device)


@only_cuda
def test_no_update_waits_for_the_device_under_lightning(device):
    pytest.importorskip("lightning")
    assert_fitted(lightning_fit(device, NeverWaits), device)


@each_device
def test_fabric_trains_what_a_bare_loop_trains(device):
    fabric = pytest.importorskip("lightning.fabric")
    runtime = fabric.Fabric(accelerator=LIGHTNINGS[device], devices=1)
    model, optimizer, scheduler, pruner, loader = runs.built(HALF, pin_memory=device == "cuda")
    model, optimizer = runtime.setup(model, optimizer)
    parts = model, optimizer, scheduler, pruner, runtime.setup_dataloaders(loader)
    assert_same_traces(trained(parts, backward=runtime.backward), runs.bare(HALF, 1), device)


@each_device
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("_fresh_accelerate")
def test_accelerate_trains_what_a_bare_loop_trains(device, workers):
    run = accelerated(device, Pruner(HALF, runs.N, seed=3), num_workers=workers, pin_memory=device == "cuda")
    assert_same_traces(run, runs.bare(HALF, 1), device)


@only_cuda
@pytest.mark.usefixtures("_fresh_accelerate")
def test_no_update_waits_for_the_device_under_accelerate(device):
    pruner = NeverWaits(HALF, runs.N, seed=3)
    assert_same_traces(accelerated(device, pruner), expected := runs.bare(HALF, 1), device)
    assert pruner.devices == [device] * len(expected[0])


@each_device
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("name", ["Text", "Language"])
@pytest.mark.usefixtures("_fresh_accelerate")
def test_the_hf_trainer_trains_what_a_bare_loop_trains(device, name, k, tmp_path):
    pytest.importorskip("transformers")
    if device == "cuda" and torch.cuda.device_count() > 1:
        pytest.skip("a Trainer in one process would take all devices, which PrunedTrainer refuses")
    hf = import_module("reference.transformers_runs")
    case, rates = getattr(hf, name)(), hf.Rates()
    pruner, expected = (hf.Recorded(SHRINKING, len(case.data), seed=3) for _ in range(2))
    trainer = hf.trainer_of(case, pruner, tmp_path, k=k, callbacks=[rates], use_cpu=device == "cpu")
    trainer.train()
    _, expected_rates, _ = hf.bare(case, expected, k=k)
    assert_same(pruner.told, expected.told, device)
    assert rates.rates == pytest.approx(expected_rates)
    assert trainer.state.global_step == len(expected_rates)
    assert trainer.model.device.type == device


@each_device
@pytest.mark.parametrize("workers", [0, 2])
def test_timms_loader_without_its_prefetcher_trains_what_a_bare_loop_trains(device, workers):
    timm = import_module("integrations.test_timm")
    loader = timm.timms(workers, use_prefetcher=False, pin_memory=device == "cuda", device=torch.device(device))
    run = timm.Run(HALF, loader)
    run.model.to(device)
    run.loader = Moved(run.loader, device)
    assert_same(run.train().trace, timm.Run(HALF).train().trace, device)


@only_cuda
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pinned", [False, True])
def test_timms_prefetcher_trains_what_a_bare_loop_trains(device, pinned, workers):
    """On a device, it copies and normalises the next batch in a stream of its own."""
    timm = import_module("integrations.test_timm")
    run = timm.Run(HALF, timm.timms(workers, pin_memory=pinned, device=torch.device(device)))
    run.model.to(device)
    assert run.loader._prefetch.is_cuda
    assert_same(run.train().trace, timm.Run(HALF).train().trace, device)


@each_device
def test_a_stateful_loader_of_torchdata_trains_what_a_bare_loop_trains(device):
    pytest.importorskip("torchdata")
    torchdata = import_module("integrations.test_torchdata")
    run = torchdata.Run(HALF, lambda pruner: Moved(torchdata.stateful(pruner, pin_memory=device == "cuda"), device))
    run.model.to(device)
    run.train()
    assert_same(run.trace, torchdata.expected(HALF), device)


@each_device
@pytest.mark.parametrize("persistent", [False, True])
def test_the_pruned_loader_with_workers_and_pinned_memory_trains_what_a_bare_loop_trains(device, persistent):
    pruner = Watched(HALF, runs.N, seed=3)
    run = trained(built_on(device, pruner, num_workers=2, persistent_workers=persistent))
    assert_same_traces(run, runs.bare(HALF, 1), device)
    assert set(pruner.devices) == {device}


@each_device
@streams.KINDS
@pytest.mark.parametrize("moved_by", ["source", "loop"])
def test_a_stream_trains_what_a_bare_loop_trains(device, kind, moved_by):
    """Key and score take batches on the device, or batches of the host, which a score moves."""
    model = streams.network().to(device)
    source = streams.part(loader=partial(DataLoader, pin_memory=device == "cuda"))
    if moved_by == "source":
        source = Moved(source, device, ids=False)
    stream = streams.made(kind, lambda x: model(x.to(device)).to(x.device), source)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = []
    for _ in range(streams.PASSES):
        for index, batch in stream:
            assert batch[1].device.type == (device if moved_by == "source" else "cpu")
            loss = stream.update(index, streams.losses_of(model, [part.to(device) for part in batch]))
            rows.append(streams.told(index, loss))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    expected, weights = streams.bare(kind)
    assert_same(rows, expected, device, streams.PASSES * streams.STEPS)
    assert streams.weights_of(model) == pytest.approx(weights, rel=1e-4)
    assert stream.report().trained == streams.PASSES * streams.N // 2


@each_device
def test_a_sharded_pruner_keeps_the_largest_of_the_losses_on_the_device(device):
    """Epoch 0 draws, epoch 1 begins with the samples not seen, and epoch 2 knows a loss of each."""
    pruner = Told(HALF, runs.N, seed=3)
    run = trained(built_on(device, pruner))
    assert_same_traces(run, trained(built(ShardedPruner(HALF, runs.N, seed=3))), device)
    kept = [{i for row in run[0] if row[0] == epoch for i in row[1]} for epoch in range(EPOCHS)]
    size = HALF.sizes(runs.N)[1]
    assert [len(ids) for ids in kept] == [size] * EPOCHS
    assert set(range(runs.N)) - kept[0] <= kept[1]
    known = pruner.told[1]
    assert len(known) == runs.N
    assert kept[2] == set(sorted(known, key=known.get)[-size:])


def rank_of_two(rank, folder, device):
    """Trains on one of two processes, with NCCL on devices and gloo on CPUs, and saves what it did."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # accelerate would set it, and warn
    if device == "cuda":
        torch.cuda.set_device(rank)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group({"cpu": "gloo", "cuda": "nccl"}[device], store=store, rank=rank, world_size=2)
    runs.alone(rank)
    rows, steps, weights = accelerated(device, Pruner(HALF, runs.N, seed=3))
    assert weights.device.type == device
    torch.save([rows, steps, weights.cpu()], folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@each_device
def test_two_ranks_train_what_a_bare_loop_trains_on_one_with_batches_twice_as_large(device, tmp_path):
    """Begun anew, not forked: a process in which CUDA has begun cannot be forked."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    work = import_module("integrations.test_cuda").rank_of_two  # by a name that a new process can import too
    torch.multiprocessing.spawn(work, (tmp_path, device), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    rows, steps, weights = trained(built(Pruner(HALF, runs.N, seed=3), batch_size=2 * runs.BATCH))
    assert [rank[1] for rank in ranks] == [steps, steps]
    for first, second, row in zip(ranks[0][0], ranks[1][0], rows, strict=True):
        assert [first[0], first[1] + second[1], first[3]] == [row[0], row[1], row[3]]
        assert (first[2] + second[2]) / 2 == pytest.approx(row[2], **ROUNDING[device])
    for rank in ranks:
        torch.testing.assert_close(rank[2], weights, rtol=1e-4, atol=1e-6)

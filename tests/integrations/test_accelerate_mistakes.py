"""What goes wrong with accelerate ends at once with a line that says what to write; what is right is left alone."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from orderdp import FullData, IndexedDataset, OrderDP, Pruner, accelerate_state
from reference.loop import loss_of
from reference.processes import run_ranks

accelerate = pytest.importorskip("accelerate")
pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, HALF = 40, OrderDP(explore=1.0, exploit=0.5)
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")
NONE_SAVED = pytest.mark.filterwarnings("error:save_state holds nothing:RuntimeWarning")


def made(k=1, **configuration):
    """A fresh Accelerator, pruner and loader; five batches an epoch."""
    configured = accelerate.utils.DataLoaderConfiguration(**configuration)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=k, dataloader_config=configured)
    pruner = Pruner(HALF, N)
    return accelerator, pruner, pruner.loader(range(N), batch_size=4)


def trained(pruner, loader, batches=None):
    """Ids of the batches of the next pass, or of its first few."""
    ids = []
    for index, _ in loader:
        pruner.update(index, loss_of(index, pruner.epoch))
        ids.append(index.tolist())
        if len(ids) == batches:
            break
    return ids


def saved_after(batches, folder):
    """Saves a run after some batches of its second epoch; returns the rest of that epoch."""
    accelerator, pruner, loader = made()
    loader = accelerator.prepare(loader)
    trained(pruner, loader)
    iterator, rest = iter(loader), []
    for number in range(5):
        index, _ = next(iterator)
        pruner.update(index, loss_of(index, 1))
        if number + 1 == batches:
            accelerator.save_state(folder)
        if number >= batches:
            rest.append(index.tolist())
    return rest


@pytest.mark.parametrize("name", ["split_batches", "dispatch_batches"])
def test_an_accelerator_that_splits_or_dispatches_batches_is_refused(name):
    accelerator, _, loader = made(**{name: True})
    with pytest.raises(ValueError, match=f"^{name} must not be set for a pruned loader, got an Accelerator with True;"):
        accelerator.prepare(loader)
    with pytest.raises(ValueError, match=f"leave {name} out"):
        accelerator.prepare_data_loader(loader)


def test_processes_that_accelerate_does_not_join_are_refused(monkeypatch):
    """On a CPU, accelerate runs alone in each process unless it is told cpu=True."""
    accelerator, _, loader = made()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"got an Accelerator that runs alone, .* write Accelerator\(cpu=True\)"):
        accelerator.prepare(loader)


@LEFT
def test_prepare_moves_the_batch_and_leaves_the_ids_on_the_host(monkeypatch):
    monkeypatch.setattr(accelerate.Accelerator, "device", torch.device("meta"))
    accelerator, pruner, loader = made()
    assert accelerator.prepare(loader) is loader
    index, batch = next(iter(loader))
    assert (index.device.type, batch.device.type) == ("cpu", "meta")
    pruner.update(index, loss_of(index, 0))
    accelerator.prepare(loader, device_placement=[False])
    index, batch = next(iter(loader))
    assert (index.device.type, batch.device.type) == ("cpu", "cpu")


@LEFT
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("into", ["accelerator", "loader", "pruner"])
def test_skip_first_batches_drops_what_was_trained_and_nothing_else(into, workers, tmp_path):
    rest = saved_after(2, tmp_path)
    accelerator, pruner, _ = made()
    loader = accelerator.prepare(pruner.loader(range(N), batch_size=4, num_workers=workers))
    state = torch.load(tmp_path / "pruned_loader.bin", weights_only=True)
    if into == "accelerator":
        accelerator.load_state(tmp_path)
    elif into == "loader":
        loader.load_state_dict(state)
    else:
        pruner.load_state_dict(state["pruner"], resume=True)
    assert trained(pruner, accelerator.skip_first_batches(loader, 2)) == rest
    assert pruner.next_epoch == 2


@LEFT
@pytest.mark.parametrize("skipped", [1, 3])
def test_skip_first_batches_of_another_number_is_refused(skipped, tmp_path):
    saved_after(2, tmp_path)
    accelerator, pruner, loader = made()
    loader = accelerator.prepare(loader)
    accelerator.load_state(tmp_path)
    text = f"must drop the batches that update has seen, 2 of 5, got {skipped}; leave it out"
    with pytest.raises(RuntimeError, match=text):
        trained(pruner, accelerator.skip_first_batches(loader, skipped))


@LEFT
def test_skip_first_batches_of_none_leaves_the_resume_to_the_loader(tmp_path):
    rest = saved_after(2, tmp_path)
    accelerator, pruner, loader = made()
    loader = accelerator.prepare(loader)
    accelerator.load_state(tmp_path)
    assert trained(pruner, accelerator.skip_first_batches(loader, 0)) == rest


def test_skip_first_batches_is_refused_while_gradients_are_accumulated():
    accelerator, pruner, loader = made(k=2)
    loader = accelerator.prepare(loader)
    with pytest.raises(RuntimeError, match="must be left out with gradient_accumulation_steps=2, got 3 batches"):
        trained(pruner, accelerator.skip_first_batches(loader, 3))


def test_skip_first_batches_without_a_state_is_warned_of():
    accelerator, pruner, loader = made()
    loader = accelerator.prepare(loader)
    with pytest.warns(RuntimeWarning, match="leaves out 3 batches that update has not seen, since no state"):
        assert len(trained(pruner, accelerator.skip_first_batches(loader, 3))) == 2


@LEFT
def test_a_checkpoint_without_the_pruner_is_refused(tmp_path):
    accelerator, _, _ = made()
    accelerator.save_state(tmp_path)  # a run without pruner
    accelerator, pruner, loader = made()
    prepared = accelerator.prepare(loader)
    with pytest.raises(FileNotFoundError, match=r"without pruned_loader.bin; .* before accelerator.prepare\(loader\)"):
        accelerator.load_state(tmp_path)
    accelerator, pruner, loader = made()
    accelerator.load_state(tmp_path)
    assert len(trained(pruner, accelerator.prepare(loader))) == 5
    assert prepared is not loader


def test_a_checkpoint_of_another_pruner_is_refused(tmp_path):
    saved_after(5, tmp_path)
    accelerator = made()[0]
    pruner = Pruner(FullData(), N)
    loader = accelerator.prepare(pruner.loader(range(N), batch_size=4))
    with pytest.raises(
        ValueError,
        match=r"^the state must be of strategy FullData\(\), got OrderDP\([^;]*; make the pruner and its loader as for "
        r"the run that wrote the checkpoint; or call accelerator.load_state before accelerator.prepare\(loader\)",
    ):
        accelerator.load_state(tmp_path)
    assert pruner.epoch is None
    accelerator = made()[0]
    accelerator.load_state(tmp_path)  # as the message says, and as docs/frameworks.md goes on
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.25), N)
    loader = pruner.loader(range(N), batch_size=4)
    loader.load_state_dict(torch.load(tmp_path / "pruned_loader.bin", weights_only=True), change=("strategy",))
    assert pruner.next_epoch == 2
    assert len(trained(pruner, accelerator.prepare(loader))) == 3


@LEFT
def test_a_state_of_another_pruner_is_refused(tmp_path):
    saved_after(2, tmp_path)
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.prepare(Pruner(HALF, N, seed=1).loader(range(N), batch_size=4))
    with pytest.raises(ValueError, match="the state must be of seed 1, got 0"):
        accelerator.load_state(tmp_path)


def accumulated(accelerator, pruner, loader):
    """Trains two batches as accelerate's loops do."""
    for number, (index, _) in enumerate(loader):
        with accelerator.accumulate():
            pruner.update(index, loss_of(index, pruner.epoch))
        if number == 1:
            break


@LEFT
def test_a_save_without_the_loader_that_was_trained_is_warned_of(tmp_path):
    accelerator, pruner, loader = made()
    accumulated(accelerator, pruner, loader)
    with pytest.warns(
        RuntimeWarning, match=r"would begin with the pruner's epoch 0; .* = accelerator.prepare\(pruner.loader"
    ):
        accelerator.save_state(tmp_path)
    accelerator.save_state(tmp_path)  # once


@LEFT
def test_an_own_dataloader_is_warned_of_unless_its_sampler_is_registered(tmp_path):
    def own():
        accelerator, pruner, _ = made()
        sampler = pruner.sampler(4)
        loader = accelerator.prepare(DataLoader(IndexedDataset(range(N)), batch_sampler=sampler))
        return accelerator, pruner, sampler, loader

    accelerator, pruner, _, loader = own()
    trained(pruner, loader, 2)
    with pytest.warns(RuntimeWarning, match=r"for a DataLoader of your own accelerator.register_for_checkpointing"):
        accelerator.save_state(tmp_path / "nothing")
    accelerator, pruner, sampler, loader = own()
    accelerator.register_for_checkpointing(sampler)
    first = trained(pruner, loader, 2)
    accelerator.save_state(tmp_path / "registered")
    accelerator, pruner, sampler, loader = own()
    accelerator.register_for_checkpointing(sampler)
    accelerator.load_state(tmp_path / "registered")
    accelerator, unbroken, _, whole = own()
    assert first + trained(pruner, loader) == trained(unbroken, whole)


@LEFT
@NONE_SAVED
def test_a_save_with_the_loader_in_any_form_is_not_warned_of(tmp_path):
    for registered in ("loader", "sampler", "pruner", "prepared"):
        accelerator, pruner, loader = made()
        parts = {"loader": loader, "sampler": loader.batch_sampler, "pruner": pruner}
        if registered in parts:
            accelerator.register_for_checkpointing(parts[registered])
        else:
            accelerator.prepare(loader)
        accumulated(accelerator, pruner, loader)
        accelerator.save_state(tmp_path / registered)
        assert (tmp_path / registered / "pruned_loader.bin").exists() == (registered == "prepared")
    accelerator, pruner, loader = made()
    accumulated(accelerator, pruner, loader)
    del pruner, loader
    accelerator.save_state(tmp_path / "gone")


@LEFT
def test_a_pruner_registered_beside_its_loader_is_refused(tmp_path):
    accelerator, pruner, loader = made()
    loader = accelerator.prepare(loader)
    accelerator.register_for_checkpointing(pruner)
    trained(pruner, loader, 2)
    with pytest.raises(ValueError, match=r"saved once, got register_for_checkpointing\(pruner\) beside a prepared"):
        accelerator.save_state(tmp_path)


@LEFT
def test_each_pruner_of_a_run_has_its_own_file_and_the_newest_loader_counts(tmp_path):
    def two():
        accelerator, grown, old = made()
        other = Pruner(FullData(), 8)
        loaders = accelerator.prepare(old, other.loader(range(8), batch_size=2))
        return accelerator, grown, other, loaders

    accelerator, grown, other, (old, loader) = two()
    accelerator.prepare(loader)  # once more, as `find_executable_batch_size` does
    trained(grown, old)
    grown.resize(N + 8)
    new = accelerator.prepare(grown.loader(range(N + 8), batch_size=4))
    first, first_other = trained(grown, new, 2), trained(other, loader, 3)
    accelerator.save_state(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("pruned*")) == ["pruned_loader.bin", "pruned_loader_1.bin"]
    grown_states = grown.trained(), other.trained()

    accelerator, grown, other, (_, loader) = two()
    grown.resize(N + 8)
    new = accelerator.prepare(grown.loader(range(N + 8), batch_size=4))
    accelerator.load_state(tmp_path)
    assert all(map(torch.equal, (grown.trained(), other.trained()), grown_states))
    for before, after in ((first, trained(grown, new)), (first_other, trained(other, loader))):
        assert len(after) == {2: 4, 3: 1}[len(before)]
        ids = [sample for batch in before + after for sample in batch]
        assert len(ids) == len(set(ids)) == (24 if len(before) == 2 else 8)


@LEFT
@pytest.mark.parametrize("batches", [None, 2])
def test_a_pass_that_is_over_is_no_longer_accelerates(batches):
    """Otherwise a loop over something else would accumulate by the end of this loader."""
    accelerate.state.GradientState._reset_state()  # of loops that other tests left
    accelerator, pruner, loader = made(k=2)
    trained(pruner, accelerator.prepare(loader), batches)
    assert not accelerator.gradient_state.in_dataloader
    assert accelerator.gradient_state.dataloader_references == [None]
    with accelerator.accumulate():
        assert not accelerator.sync_gradients


@LEFT
def test_a_pass_that_replaces_one_that_was_left_makes_its_last_step():
    """The old pass ends after the new one has begun."""
    accelerator, pruner, loader = made(k=2)
    loader = accelerator.prepare(loader)
    stepped = []
    for batches in (2, 5):
        iterator = iter(loader)
        for _ in range(batches):
            index, _ = next(iterator)
            with accelerator.accumulate():
                pruner.update(index, loss_of(index, pruner.epoch))
                stepped.append(accelerator.sync_gradients)
    assert stepped == [False, True, False, True, False, True, True]


@LEFT
def test_a_checkpoint_of_more_pruners_is_refused(tmp_path):
    """As of a notebook that makes pruner and loader anew: the first of the files is the old pruner's."""
    accelerator, _, old = made()
    accelerator.prepare(old)
    pruner = Pruner(HALF, N)
    trained(pruner, accelerator.prepare(pruner.loader(range(N), batch_size=4)))
    accelerator.save_state(tmp_path)
    again, resumed, loader = made()
    again.prepare(loader)
    with pytest.raises(ValueError, match=r"of the prepared pruners alone, 1, got .* with pruned_loader_1.bin too; "):
        again.load_state(tmp_path)
    assert resumed.next_epoch == 0
    accelerator.free_memory()
    accelerator.prepare(pruner.loader(range(N), batch_size=4))
    accelerator.save_state(tmp_path)  # over the other
    again.load_state(tmp_path)
    assert resumed.next_epoch == 1


def joined_unevenly(rank, folder):
    written, write = [], accelerate_state.write_whole
    accelerate_state.write_whole = lambda path, content: written.append(path) or write(path, content)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    accelerator, pruner, loader = made()
    model, loader = accelerator.prepare(nn.Linear(1, 1), loader)
    accelerate.Accelerator.multi_device = True  # otherwise for GPUs only
    steps = 0
    with accelerator.join_uneven_inputs([model], even_batches=False):
        for index, x in loader:
            accelerator.backward(pruner.update(index, model(x[:, None].float()).squeeze(1)))
            steps += 1
    accelerator.save_state(folder)
    return [steps, len(written)]


def test_uneven_inputs_are_joined_and_one_process_writes_the_file(tmp_path):
    state = tmp_path / "state"
    assert run_ranks(2, joined_unevenly, tmp_path, state) == [[3, 1], [3, 0]]
    loaded = torch.load(state / "pruned_loader.bin", weights_only=True)
    assert loaded["pruner"]["num_samples"] == N
    assert [path.name for path in state.iterdir() if "unfinished" in path.name] == []


def own_ranks(rank):
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    groups = [dist.new_group([number]) for number in range(2)]
    pruner = Pruner(HALF, N, process_group=groups[rank])
    accelerate.Accelerator(cpu=True).prepare(pruner.loader(range(N), batch_size=4))


def test_a_pruner_of_other_ranks_than_accelerates_is_refused(tmp_path):
    for text in run_ranks(2, own_ranks, tmp_path):
        assert "the pruner must share the data among 2 ranks, as accelerate does, got 1; give Pruner(process" in text

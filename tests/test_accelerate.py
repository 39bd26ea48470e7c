"""Gradients accumulated by accelerate: a pruned loader takes the steps that a plain DataLoader takes."""

import contextlib

import pytest
import torch
from torch.utils.data import DataLoader

from orderdp import FullData, InfoBatch, OrderDP, Pruner

accelerate = pytest.importorskip("accelerate")
pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning"),
]
N, BATCH = 40, 4
DATA = [(torch.full((2,), i / N), torch.tensor(3 * i / N - 0.2)) for i in range(N)]


class Run:
    """A linear model that accelerate trains, and what its optimiser did."""

    def __init__(self, k, loader, epochs, **arguments):
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=k, **arguments)
        self.model = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(self.model.weight, 0.5)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        self.optimizer, self.scheduler, self.loader = self.accelerator.prepare(optimizer, scheduler, loader)
        self.epochs, self.steps, self.trace = epochs, [], []

    def train(self, losses_of, around=lambda: None):
        """Trains; `losses_of(batch)` gives what to back-propagate, and `around` runs inside every step."""
        for _ in range(self.epochs):
            self.steps.append(0)
            for batch in self.loader:
                with self.accelerator.accumulate(self.model):
                    around()
                    self.accelerator.backward(losses_of(self, batch))
                    self.optimizer.step()
                    self.scheduler.step()
                    self.steps[-1] += self.accelerator.sync_gradients
                    self.optimizer.zero_grad()
            assert self.model.weight.grad is None or not self.model.weight.grad.any()  # nothing leaks into the next one
            self.trace.append((self.model.weight.tolist(), self.scheduler.get_last_lr()))
        return self


def losses(model, x, y):
    return (model(x).squeeze(1) - y) ** 2


def plain(batches, k, epochs=3, **arguments):
    """A plain DataLoader over these batches of each epoch."""
    order = iter(batches)

    class Order:
        def __len__(self):
            return len(batches[0])

        def __iter__(self):
            return iter(next(order))

    loader = DataLoader(DATA, batch_sampler=Order())
    run = Run(k, loader, epochs, **arguments)
    return run.train(lambda run, batch: losses(run.model, *batch).mean())


def pruned(strategy, k, epochs=3, around=lambda: None, accelerator=None, **arguments):
    pruner = Pruner(strategy, N)
    loader = pruner.loader(DATA, batch_size=BATCH, **arguments)
    seen = [[]]
    run = Run(k, loader, epochs, **(accelerator or {}))

    def losses_of(run, batch):
        index, (x, y) = batch
        if len(seen) <= pruner.epoch:
            seen.append([])
        seen[-1].append(index.tolist())
        return pruner.update(index, losses(run.model, x, y))

    return run.train(losses_of, around), seen


WORKERS = pytest.mark.parametrize(
    "arguments", [{}, {"num_workers": 2}, {"num_workers": 1, "prefetch_factor": 9}], ids=str
)


@WORKERS
@pytest.mark.parametrize("k", [1, 2, 3, 4, 10, 16])
def test_accumulated_steps_are_those_of_a_plain_dataloader(k, arguments):
    run, batches = pruned(FullData(), k, **arguments)
    expected = plain(batches, k)
    assert run.steps == expected.steps == [-(-10 // k)] * 3
    assert run.trace == expected.trace  # weights and learning rates, bit for bit


@pytest.mark.parametrize("k", [2, 3, 4])
def test_accumulated_steps_of_a_pruned_epoch_are_those_of_its_own_batches(k):
    run, batches = pruned(OrderDP(explore=1.0, exploit=0.5), k)
    expected = plain(batches, k)
    assert run.steps == expected.steps == [-(-5 // k)] * 3
    assert run.trace == expected.trace


def test_accumulated_steps_follow_epochs_of_changing_length():
    run, batches = pruned(InfoBatch(prune_probability=0.9, delta=0.75, epochs=6), 3, epochs=6)
    assert run.steps == [-(-len(epoch) // 3) for epoch in batches]
    assert len({len(epoch) for epoch in batches}) > 1


def test_an_evaluation_inside_the_loop_does_not_end_the_training_epoch():
    evaluation = DataLoader(DATA[:6], batch_size=2)
    run, batches = pruned(FullData(), 4, around=lambda: [None for _ in evaluation])
    inner = accelerate.Accelerator(cpu=True).prepare(DataLoader(DATA[:6], batch_size=2))
    nested, again = pruned(FullData(), 4, around=lambda: [None for _ in inner])
    assert batches == again
    assert run.steps == nested.steps == [3, 3, 3]
    assert run.trace == nested.trace == plain(batches, 4).trace


def test_a_pruned_loader_inside_a_plain_loop_leaves_the_outer_one_as_it_was():
    other = Pruner(FullData(), 8).loader(range(8), batch_size=2)
    run = Run(4, DataLoader(DATA, batch_size=BATCH), 3)
    with pytest.warns(RuntimeWarning, match="update was never called"):
        run.train(lambda run, batch: losses(run.model, *batch).mean(), around=lambda: list(other))
    assert run.steps == [3, 3, 3]


def leave_after(most):
    def inner(training, validation):
        for number, _ in enumerate(validation, 1):
            if number == most:
                break

    return inner


INNER = {
    "all of the validation data": lambda training, validation: list(validation),
    "two of four validation batches": leave_after(2),
    "the validation data, left at its last batch": leave_after(4),
}
HALF = OrderDP(explore=1.0, exploit=0.5)


def steps_beside(strategy, inner, **arguments):
    """Batches after which the optimiser steps, in two epochs. After batch 5 of the first comes an inner loop."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    pruner = Pruner(strategy, 2 * N if strategy is HALF else N)
    training = pruner.loader(DATA * 2 if strategy is HALF else DATA, batch_size=BATCH, **arguments)
    training, validation = accelerator.prepare(training, DataLoader(DATA[:8], batch_size=2))
    stepped = [[], []]
    for epoch, batches in enumerate(stepped):
        for number, (index, (x, y)) in enumerate(training, 1):
            with accelerator.accumulate():
                pruner.update(index, (x.sum(1) - y).requires_grad_())
                if accelerator.sync_gradients:
                    batches.append(number)
            if (epoch, number) == (0, 5):
                inner(training, validation)
    list(validation)  # takes the loader out of accelerate's state
    assert not accelerator.gradient_state.in_dataloader
    return stepped


@WORKERS
@pytest.mark.parametrize("strategy", [FullData(), HALF], ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_an_inner_loop_that_was_left_does_not_move_the_steps(strategy, inner, arguments):
    """accelerate 1.15 keeps asking a validation loader whose loop was left by `break`."""
    assert steps_beside(strategy, inner, **arguments) == [[4, 8, 10], [4, 8, 10]]


def test_of_two_loaders_side_by_side_the_end_of_the_pruned_one_counts():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    pruner = Pruner(HALF, N)
    loader, other = accelerator.prepare(pruner.loader(DATA, batch_size=BATCH), DataLoader(DATA, batch_size=BATCH))
    stepped = []
    for (index, (x, y)), _ in zip(loader, other, strict=False):
        with accelerator.accumulate():
            pruner.update(index, (x.sum(1) - y).requires_grad_())
            stepped.append(accelerator.sync_gradients)
    list(other)  # takes the loader out of accelerate's state
    assert stepped == [False, False, False, True, True]


@WORKERS
@pytest.mark.filterwarnings("ignore:.* were left without a loss:RuntimeWarning")
def test_an_inner_loop_over_the_training_data_is_the_next_epoch_and_no_silent_end_of_this_one(arguments):
    with pytest.warns(RuntimeWarning, match="epoch 0 was left after 20 of its 40 samples"):
        stepped = steps_beside(FullData(), lambda training, _: list(training), **arguments)
    assert stepped == [[4, 8, 10], [4, 8, 10]]
    with (
        pytest.warns(RuntimeWarning, match="epoch 0 was left after 20 of its 40 samples"),
        pytest.raises(ValueError, match="index must hold samples selected for the running epoch"),
    ):
        steps_beside(HALF, lambda training, _: list(training), **arguments)


@WORKERS
@pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")
def test_a_loop_that_was_left_is_no_longer_the_one_under_way(arguments):
    state = accelerate.state.GradientState()
    pruner = Pruner(FullData(), N)
    loader = pruner.loader(DATA, batch_size=BATCH, **arguments)
    for number, (index, (x, y)) in enumerate(loader):
        pruner.update(index, (x.sum(1) - y).requires_grad_())
        assert state.in_dataloader
        assert not state.end_of_dataloader
        if number == 2:
            break
    assert not state.in_dataloader
    ends = []
    for index, (x, y) in loader:
        pruner.update(index, (x.sum(1) - y).requires_grad_())
        ends.append(state.end_of_dataloader)
    assert ends == [False] * 9 + [True]
    assert not state.in_dataloader


@WORKERS
def test_a_pass_that_ended_does_not_end_the_next_one(arguments):
    """Its iterator may be kept for long, and asked again."""
    state = accelerate.state.GradientState()
    pruner = Pruner(FullData(), N)
    loader = pruner.loader(DATA, batch_size=BATCH, **arguments)
    old = iter(loader)
    for index, (x, y) in old:
        pruner.update(index, (x.sum(1) - y).requires_grad_())
    assert not state.in_dataloader
    for number, (index, (x, y)) in enumerate(loader):
        pruner.update(index, (x.sum(1) - y).requires_grad_())
        if number == 2:
            assert next(old, None) is None
            del old
        assert state.in_dataloader
    assert not state.in_dataloader


@WORKERS
def test_a_resumed_epoch_ends_with_its_own_last_batch(arguments):
    state = accelerate.state.GradientState()

    def train_some(loader, most=None):
        ends = []
        for index, (x, y) in loader:
            loader.batch_sampler.pruner.update(index, (x.sum(1) - y).requires_grad_())
            ends.append(state.end_of_dataloader)
            if len(ends) == most:
                break
        return ends

    loader, resumed = (Pruner(FullData(), N).loader(DATA, batch_size=BATCH, **arguments) for _ in range(2))
    assert train_some(loader, 7) == [False] * 7
    resumed.load_state_dict(loader.state_dict())
    assert train_some(resumed) == [False, False, True]


def test_the_last_batch_is_known_also_if_others_could_not_be_read():
    class Unreadable:
        def __len__(self):
            return N

        def __getitem__(self, index):
            if index % 7 == 0:
                raise OSError
            return index

    state = accelerate.state.GradientState()
    loader = Pruner(FullData(), N).loader(Unreadable(), batch_size=BATCH)
    ends, iterator = [], iter(loader)
    for _ in range(10):
        with contextlib.suppress(OSError):
            next(iterator)
        ends.append(state.end_of_dataloader)
    del iterator
    assert ends[:9] == [False] * 9
    assert not state.in_dataloader


def test_metrics_are_gathered_from_every_sample_and_without_a_note(caplog):
    """accelerate cuts the last batch to the remainder, and notes that a remainder is not known if it is -1."""
    pruner, accelerator = Pruner(OrderDP(prune_ratio=0.5), N), accelerate.Accelerator(cpu=True)
    loader = accelerator.prepare(pruner.loader(range(N), batch_size=3))
    with caplog.at_level("INFO", "accelerate"):
        gathered = torch.cat([accelerator.gather_for_metrics(index) for index, _ in loader])
    assert gathered.tolist() == pruner.selection.indices.tolist()
    assert "remainder" not in caplog.text


def test_without_accelerate_nothing_of_it_is_loaded(scripts, tmp_path):
    code = (
        "import sys, torch, orderdp\n"
        "pruner = orderdp.Pruner(orderdp.FullData(), 8)\n"
        "for index, _ in pruner.loader(range(8), batch_size=2):\n"
        "    pruner.update(index, torch.ones(2, requires_grad=True))\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'accelerate'))\n"
    )
    assert scripts.run_code(code, tmp_path).stdout.strip() == "[]"


def test_accelerate_loaded_after_the_loader_was_made_still_sees_it(scripts, tmp_path):
    code = (
        "import torch, orderdp\n"
        "loader = orderdp.Pruner(orderdp.FullData(), 8).loader(range(8), batch_size=2)\n"
        "import accelerate\n"
        "state = accelerate.state.GradientState()\n"
        "print([state.end_of_dataloader for _ in loader])\n"
    )
    assert scripts.run_code(code, tmp_path).stdout.strip() == "[False, False, False, True]"

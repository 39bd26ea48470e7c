"""A loop with accelerate trains what a bare loop trains, and `accelerator.prepare(loader)` is all that it takes."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from orderdp import InfoBatch, OrderDP, Pruner
from reference.processes import run_ranks

accelerate = pytest.importorskip("accelerate")
pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, BATCH, EPOCHS = 47, 4, 3
HALF = OrderDP(explore=1.0, exploit=0.5)
VARYING = InfoBatch(prune_probability=0.9, delta=0.75, epochs=EPOCHS)
STRATEGIES = pytest.mark.parametrize("strategy", [HALF, VARYING], ids=lambda strategy: type(strategy).__name__)
ACCUMULATE = pytest.mark.parametrize("k", [1, 4])


def data():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1).sin())


def built(strategy, **arguments):
    """Model, optimiser, scheduler, pruner and loader, always the same."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    values = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=values)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    pruner = Pruner(strategy, N, seed=3)
    return model, optimizer, scheduler, pruner, pruner.loader(data(), batch_size=BATCH, **arguments)


def losses_of(model, x, y):
    return (model(x).squeeze(1) - y) ** 2


class Trace:
    """What a run did: ids, loss and learning rate of each batch, and the weights at its end."""

    def __init__(self):
        self.batches, self.steps, self.weights = [], 0, []

    def add(self, epoch, index, loss, scheduler, stepped):
        self.steps += bool(stepped)
        self.batches.append([epoch, index.tolist(), loss.item(), *scheduler.get_last_lr()])

    def end(self, model):
        self.weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        return [self.batches, self.steps, self.weights]


def bare(strategy, k, epochs=EPOCHS):
    """A loop without accelerate, on one rank or on several."""
    model, optimizer, scheduler, pruner, loader = built(strategy)
    net = DistributedDataParallel(model) if dist.is_initialized() else model
    trace = Trace()
    for epoch in range(epochs):
        for number, (index, (x, y)) in enumerate(loader, 1):
            loss = pruner.update(index, losses_of(net, x, y))
            (loss / k).backward()
            if last := number % k == 0 or number == len(loader):
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            trace.add(epoch, index, loss, scheduler, last)
    return trace.end(model)


def accelerated(strategy, k, *, save=None, load=None, stop=None, **arguments):
    """The same loop with accelerate. `stop` is the epoch and the batch after which it saves; None: after the loop."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=k, step_scheduler_with_optimizer=False)
    model, optimizer, scheduler, pruner, loader = built(strategy, **arguments)
    net, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    if load is not None:
        accelerator.load_state(load)
    trace = Trace()
    for epoch in range(pruner.next_epoch, EPOCHS):
        for number, (index, (x, y)) in enumerate(loader, 1):
            with accelerator.accumulate(net):
                loss = pruner.update(index, losses_of(net, x, y))
                accelerator.backward(loss)
                optimizer.step()
                if accelerator.sync_gradients:
                    scheduler.step()
                optimizer.zero_grad()
            trace.add(epoch, index, loss, scheduler, accelerator.sync_gradients)
            if stop == (epoch, number):
                accelerator.save_state(save)
                return trace.end(model)
        if stop == (epoch, None):
            accelerator.save_state(save)
            return trace.end(model)
    return trace.end(model)


def assert_same(one, other):
    """Ids in order, losses to rounding, learning rates, number of steps and weights."""
    (batches, steps, weights), (expected, expected_steps, expected_weights) = one, other
    assert [batch[:2] for batch in batches] == [batch[:2] for batch in expected]
    assert [batch[2] for batch in batches] == pytest.approx([batch[2] for batch in expected], rel=1e-5)
    assert [batch[3] for batch in batches] == [batch[3] for batch in expected]
    assert steps == expected_steps
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-7)


def joined(first, rest):
    return [first[0] + rest[0], first[1] + rest[1], rest[2]]


@pytest.fixture(scope="module")
def expected():
    """Bare runs on one rank, each made once."""
    made = {}

    def of(strategy, k):
        key = repr(strategy), k
        if key not in made:
            made[key] = bare(strategy, k)
        return made[key]

    return of


@STRATEGIES
@ACCUMULATE
@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
def test_a_run_is_the_bare_run(strategy, k, arguments, expected):
    run = accelerated(strategy, k, **arguments)
    assert_same(run, expected(strategy, k))
    sizes = [sum(batch[0] == epoch for batch in run[0]) for epoch in range(EPOCHS)]
    assert run[1] == sum(-(-size // k) for size in sizes)
    assert (len(set(sizes)) > 1) == (strategy is VARYING)


# Epoch 0 of VARYING has 12 batches, epoch 1 has fewer; HALF has 6 in each.
@STRATEGIES
@ACCUMULATE
@pytest.mark.parametrize("stop", [(0, 4), (1, 4), (0, "last"), (1, "last"), (1, None)])
def test_save_state_and_load_state_alone_go_on_as_if_unbroken(strategy, k, stop, expected, tmp_path):
    if stop[1] == "last":  # inside the loop, after the last batch
        stop = stop[0], sum(batch[0] == stop[0] for batch in expected(strategy, k)[0])
    first = accelerated(strategy, k, save=tmp_path / "state", stop=stop)
    rest = accelerated(strategy, k, load=tmp_path / "state")
    assert first[0]
    assert rest[0]
    assert_same(joined(first, rest), expected(strategy, k))


@pytest.mark.parametrize("workers", [(2, 2), (2, 0), (0, 2)])
def test_workers_that_read_ahead_of_the_save_lose_nothing(workers, expected, tmp_path):
    first = accelerated(HALF, 1, save=tmp_path / "state", stop=(1, 2), num_workers=workers[0], prefetch_factor=None)
    rest = accelerated(HALF, 1, load=tmp_path / "state", num_workers=workers[1])
    assert_same(joined(first, rest), expected(HALF, 1))


def alone(rank):
    """Makes accelerate see the ranks of `run_ranks`, as torchrun would have launched them."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    size = str(dist.get_world_size())
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)


def rank_of_a_run(rank, strategy, k, folder, stops, workers):
    alone(rank)
    runs = [bare(strategy, k), accelerated(strategy, k, num_workers=workers)]
    assert accelerate.state.PartialState().num_processes == 2
    for number, stop in enumerate(stops):
        state = folder / f"state{number}"
        first = accelerated(strategy, k, save=state, stop=stop)
        runs.append(joined(first, accelerated(strategy, k, load=state)))
    return runs


@pytest.mark.parametrize(
    ("strategy", "k", "workers"), [(HALF, 1, 2), (HALF, 2, 0), (VARYING, 1, 0), (VARYING, 4, 0)], ids=repr
)
def test_two_processes_train_and_resume_as_a_bare_loop_of_two(strategy, k, workers, tmp_path):
    stops = [(1, k if k < 3 else 3), (1, None)]
    both = run_ranks(2, rank_of_a_run, tmp_path, strategy, k, tmp_path, stops, workers)
    for expected, *others in both:
        for run in others:
            assert_same(run, expected)
    ids = [[sample for batch in runs[0][0] for sample in batch[1]] for runs in both]
    assert len(ids[0]) > EPOCHS * N // 5
    first_epoch = [sample for runs in both for batch in runs[0][0] if batch[0] == 0 for sample in batch[1]]
    assert len(first_epoch) == len(set(first_epoch))

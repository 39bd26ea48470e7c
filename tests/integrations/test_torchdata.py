"""torchdata over `pruner.sampler(batch_size)`: exact where the state is taken when asked for, and refused elsewhere."""

import io

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset, default_collate

from orderdp import IndexedDataset, InfoBatch, OrderDP, Pruner
from reference.processes import run_ranks

stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader")
nodes = pytest.importorskip("torchdata.nodes")
pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata 0.11 with torch 2.13
]
N, BATCH, EPOCHS = 47, 4, 3
HALF = OrderDP(explore=1.0, exploit=0.5)
VARYING = InfoBatch(prune_probability=0.9, delta=0.75, epochs=EPOCHS)
STRATEGIES = pytest.mark.parametrize("strategy", [HALF, VARYING], ids=lambda strategy: type(strategy).__name__)


def data():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1).sin())


def bare(pruner):
    return pruner.loader(data(), batch_size=BATCH)


def bare_with_workers(pruner):
    return pruner.loader(data(), batch_size=BATCH, num_workers=2)


def stateful(pruner, **arguments):
    dataset = IndexedDataset(data())
    return stateful_dataloader.StatefulDataLoader(dataset, batch_sampler=pruner.sampler(BATCH), **arguments)


def read(dataset):
    return lambda ids: default_collate([dataset[i] for i in ids])


def of_nodes(pruner):
    node = nodes.SamplerWrapper(pruner.sampler(BATCH))
    return nodes.Loader(nodes.Mapper(node, read(IndexedDataset(data()))))


class Run:
    """A linear model trained by a bare loop over any loader."""

    def __init__(self, strategy, loader_of):
        self.model = nn.Linear(3, 1)
        nn.init.constant_(self.model.weight, 0.1)
        nn.init.zeros_(self.model.bias)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.pruner = Pruner(strategy, N, seed=3)
        self.loader = loader_of(self.pruner)
        self.trace = []

    def train(self, stop=None):
        """Trains up to the end, or to a batch of an epoch (None: after the loop); returns a checkpoint there."""
        while self.pruner.next_epoch < EPOCHS:
            for number, (index, (x, y)) in enumerate(self.loader, 1):
                loss = self.pruner.update(index, (self.model(x).squeeze(1) - y) ** 2)
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.trace.append([self.pruner.epoch, index.tolist(), loss.item()])
                if stop == (self.pruner.epoch, number):
                    return self.saved()
            if stop == (self.pruner.epoch, None):
                return self.saved()
        return None

    def parts(self):
        return {"loader": self.loader, "model": self.model, "optimizer": self.optimizer}

    def saved(self):
        stream = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts().items()}, stream)
        stream.seek(0)
        return torch.load(stream, weights_only=True)

    def load(self, state):
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        return self


def expected(strategy):
    run = Run(strategy, bare)
    run.train()
    return run.trace


@STRATEGIES
@pytest.mark.parametrize("loader_of", [stateful, of_nodes, bare_with_workers])
def test_a_run_is_that_of_the_pruned_loader(loader_of, strategy):
    run = Run(strategy, loader_of)
    run.train()
    assert run.trace == expected(strategy)
    sizes = {sum(entry[0] == epoch for entry in run.trace) for epoch in range(EPOCHS)}
    assert (len(sizes) > 1) == (strategy is VARYING)


@STRATEGIES
@pytest.mark.parametrize("loader_of", [stateful, of_nodes, bare_with_workers])
@pytest.mark.parametrize("stop", [(0, 3), (1, 2), (1, "last"), (1, None)])
def test_a_run_goes_on_from_the_state_of_its_loader(loader_of, strategy, stop):
    unbroken = expected(strategy)
    if stop[1] == "last":
        stop = stop[0], sum(entry[0] == stop[0] for entry in unbroken)
    first, second = Run(strategy, loader_of), Run(strategy, loader_of)
    second.load(first.train(stop)).train()
    assert first.trace
    assert second.trace
    assert first.trace + second.trace == unbroken


def rank_of_a_run(rank, strategy):
    first, second = Run(strategy, stateful), Run(strategy, stateful)
    second.load(first.train((1, 2))).train()
    return [expected(strategy), first.trace + second.trace]


@STRATEGIES
def test_two_processes_train_and_resume_what_the_pruned_loader_of_two_does(strategy, tmp_path):
    both = run_ranks(2, rank_of_a_run, tmp_path, strategy)
    for unbroken, trace in both:
        assert trace == unbroken
    ids = [sample for unbroken, _ in both for entry in unbroken if entry[0] == 0 for sample in entry[1]]
    assert len(ids) == len(set(ids)) == (24 if strategy is HALF else N)


def first_batch(loader):
    return next(iter(loader))


@pytest.mark.parametrize("arguments", [{"num_workers": 2}, {"num_workers": 1, "snapshot_every_n_steps": 10}], ids=str)
def test_a_stateful_loader_with_workers_is_refused_at_the_first_step(arguments):
    text = (
        r"taken after update, got one from a StatefulDataLoader with workers; write pruner.loader\(dataset, batch_size"
    )
    loader = stateful(Pruner(HALF, N), **arguments)
    with pytest.raises(RuntimeError, match=text):
        first_batch(loader)


@pytest.mark.parametrize(
    "ahead",
    [
        lambda node, fetch: nodes.Prefetcher(nodes.Mapper(node, fetch), prefetch_factor=2),
        lambda node, fetch: nodes.ParallelMapper(node, fetch, num_workers=2, method="thread"),
    ],
    ids=["Prefetcher", "ParallelMapper"],
)
def test_nodes_that_read_ahead_are_refused_at_the_first_step(ahead):
    node = nodes.SamplerWrapper(Pruner(HALF, N).sampler(BATCH))
    loader = nodes.Loader(ahead(node, read(IndexedDataset(data()))))
    with pytest.raises(RuntimeError, match="got one from a torchdata node that reads ahead in a thread; write pruner"):
        first_batch(loader)


def test_single_ids_are_refused_since_they_have_no_state():
    dataset = IndexedDataset(data())
    loader = stateful_dataloader.StatefulDataLoader(dataset, batch_size=BATCH, sampler=Pruner(HALF, N).sampler())
    with pytest.raises(RuntimeError, match=r"got pruner.sampler\(\) without batch_size; write batch_sampler=pruner"):
        first_batch(loader)
    with pytest.raises(RuntimeError, match=r"got pruner.sampler\(\) without batch_size"):
        first_batch(nodes.Loader(nodes.SamplerWrapper(Pruner(HALF, N).sampler())))


def test_accelerate_over_a_stateful_loader_is_refused():
    """It takes the state before the batch is trained."""
    accelerate = pytest.importorskip("accelerate")
    configured = accelerate.utils.DataLoaderConfiguration(use_stateful_dataloader=True)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configured)
    loader = torch.utils.data.DataLoader(IndexedDataset(data()), batch_sampler=Pruner(HALF, N).sampler(BATCH))
    with pytest.raises(RuntimeError, match=r"got one from accelerate over a StatefulDataLoader; write pruner.loader"):
        accelerator.prepare(loader)

"""Models that are spread over ranks or compiled train as one process trains the plain model."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from orderdp import OrderDP, Pruner
from orderdp.sharded import ShardedPruner
from reference.processes import run_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch's own, of each way of spreading a model
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]
N, EPOCHS, STEP = 90, 3, 16


class Net(nn.Module):
    """Its second branch is used in every second step only, so that DDP must look for unused weights."""

    def __init__(self, *, branches: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.branch = nn.Linear(8, 8) if branches else None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        self.calls += 1
        if self.branch is not None and self.calls % 2:
            hidden = hidden + self.branch(hidden)
        return self.last(hidden)


def data() -> TensorDataset:
    x = torch.randn(N, 6, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long())


def spread(model: nn.Module, how: str) -> nn.Module:
    if how == "ddp":
        return DistributedDataParallel(model)
    if how == "static graph":
        return DistributedDataParallel(model, static_graph=True)
    if how == "unused weights":
        return DistributedDataParallel(model, find_unused_parameters=True)
    if how == "compiled ddp":
        return torch.compile(DistributedDataParallel(model), backend="aot_eager")
    if how == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for layer in (model.first, model.last):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return model


def trained(rank: int, how: str, make, batch_size: int) -> dict[str, Tensor]:
    """The weights after some epochs, and the losses."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net(branches="unused" in how)
    net, train_set = spread(model, how), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = make(OrderDP(prune_ratio=0.5), N, seed=0)
    loader = pruner.loader(train_set, batch_size=batch_size)
    for _ in range(EPOCHS):
        for index, (x, y) in loader:
            optimizer.zero_grad()
            loss = pruner.update(index, F.cross_entropy(net(x), y, reduction="none"))
            loss.backward()
            optimizer.step()
    full = {name: w.full_tensor() if hasattr(w, "full_tensor") else w for name, w in model.named_parameters()}
    return {name: weight.detach().clone() for name, weight in full.items()}


@pytest.mark.parametrize("make", [Pruner, ShardedPruner])
@pytest.mark.parametrize("how", ["ddp", "static graph", "unused weights", "fsdp2", "compiled ddp"])
def test_two_ranks_train_the_weights_of_one(tmp_path, make, how):
    alone = trained(0, "plain, unused" if "unused" in how else "plain", make, STEP)
    for weights in run_ranks(2, trained, tmp_path, how, make, STEP // 2):
        assert weights.keys() == alone.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, alone[name], rtol=1e-4, atol=1e-6)

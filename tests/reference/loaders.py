"""A small data set, and loaders over it."""

from torch.utils.data import Dataset

from orderdp import UCB, OrderDP, Pruner

N = 40
HALF = OrderDP(explore=1.0, exploit=0.5)
SHRINKING = UCB(prune_ratio=0.5)  # the first epoch has all N samples


class Squares(Dataset):
    """Sample i is (i, i²)."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return index, index**2


def loader_of(dataset=None, strategy=HALF, seed=0, schedule=None, **arguments):
    dataset = Squares() if dataset is None else dataset
    return Pruner(strategy, len(dataset), seed=seed, schedule=schedule).loader(
        dataset, **{"batch_size": 6, **arguments}
    )


def pruner_of(loader) -> Pruner:
    return loader.batch_sampler.pruner

"""A schedule of a method that chooses within batches: what each step trains, by the epoch or by the mastered share."""

import pytest
import torch

from orderdp import OrderedSGD, Pruner, Scheduled, SelectiveBackprop

N = 100


def trained_in(pruner, losses_of):
    """Returns the sizes of what each step of one epoch trains, by its mask, and whether it chose within batches."""
    sizes = []
    for index, _ in pruner.loader(range(pruner.num_samples), batch_size=20):
        losses = losses_of(index).requires_grad_()
        pruner.update(index, losses).backward()
        sizes.append(int((losses.grad != 0).sum()))
    return sizes, pruner.chooses_in_batch


@pytest.mark.parametrize("method", [OrderedSGD(keep=0.25), SelectiveBackprop(keep=0.25)])
def test_a_method_within_batches_follows_the_schedule(method):
    pruner = Pruner(Scheduled(strategy=method, epochs=10, start=0.3, end=0.8, interval=2), N)
    assert pruner.total_steps(10, batch_size=20) == 50
    found = [trained_in(pruner, lambda index: index.float() + 1) for _ in range(10)]
    pruned = [epoch in (3, 5, 7) for epoch in range(10)]
    assert found == [([5 if prunes else 20] * 5, prunes) for prunes in pruned]


def test_a_method_within_batches_follows_the_mastered_share_of_all_samples_it_has_seen():
    pruner = Pruner(Scheduled(strategy=OrderedSGD(keep=0.25), epochs=10, mastered=1.0), N)
    assert pruner.total_steps(10, batch_size=20) == 50
    for share, sizes in ((0.4, 20), (0.6, 12), (0.6, 8), (1.0, 8), (0.0, 5), (0.0, 20)):
        # The easiest samples are never trained, but their losses are remembered.
        found = trained_in(pruner, lambda index, share=share: torch.where(index < share * N, 0.5, 2.0 + index / N))
        assert found == ([sizes] * 5, sizes < 20)
    assert pruner.report(mastered_at=1.0).mastered == 0


def test_a_method_within_batches_resumes_at_the_ratio_of_its_epoch():
    strategy = Scheduled(strategy=OrderedSGD(keep=0.25), epochs=10, mastered=1.0, halving=True)
    one, other = Pruner(strategy, N), Pruner(strategy, N)
    trained_in(one, lambda index: torch.where(index < 92, 0.5, 2.0))
    loader = one.loader(range(N), batch_size=20)
    for step, (index, _) in enumerate(loader):
        one.update(index, torch.full((20,), 3.0, requires_grad=True))
        if step == 1:
            state = loader.state_dict()
    resumed = other.loader(range(N), batch_size=20)
    resumed.load_state_dict(state)
    rest = [index for index, _ in resumed]
    assert len(rest) == 3
    assert other.chooses_in_batch
    losses = torch.arange(20.0, requires_grad=True)
    other.update(rest[-1], losses).backward()
    assert int((losses.grad != 0).sum()) == 5  # 3/4 are left out from 90 % on


def test_a_method_within_batches_follows_the_number_of_the_epoch_also_in_another_order():
    pruner = Pruner(Scheduled(strategy=OrderedSGD(keep=0.25), epochs=10, start=0.3), N)
    for epoch, size in ((7, 5), (1, 20), (3, 5)):
        pruner.set_epoch(epoch)
        assert trained_in(pruner, lambda index: index.float() + 1)[0] == [size] * 5

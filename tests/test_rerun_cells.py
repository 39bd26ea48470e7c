"""A notebook: the cell with the training loop is interrupted and run again, with and without a loaded state."""

import copy

import pytest
import torch

from orderdp import UCB, FullData, OrderDP, Pruner
from reference.loop import loss_of

EPOCHS, N, BATCH = 5, 20, 4
STRATEGIES = [OrderDP(explore=1.0, exploit=0.5), UCB(prune_ratio=0.5), FullData()]
pytestmark = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")


class Notebook:
    """What the cells before the loop define, as in the README."""

    def __init__(self, strategy):
        self.pruner = Pruner(strategy, N)
        self.loader = self.pruner.loader(range(N), batch_size=BATCH)
        model = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        total = self.pruner.total_steps(EPOCHS, BATCH)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.1, total_steps=total)
        self.total, self.trained, self.checkpoint = total, [], None

    def run_cell(self, interrupt=None, *, before_update=False):
        """The loop of the README; `interrupt` is the (epoch, batch) at which somebody presses the button."""
        for epoch in range(self.pruner.next_epoch, EPOCHS):
            assert epoch == self.pruner.next_epoch
            for number, (index, _) in enumerate(self.loader):
                assert self.pruner.epoch == epoch
                if before_update and (epoch, number) == interrupt:
                    raise KeyboardInterrupt
                self.pruner.update(index, loss_of(index, epoch))
                self.optimizer.step()
                self.scheduler.step()
                self.trained.append((epoch, index.tolist()))
                self.checkpoint = copy.deepcopy((self.loader.state_dict(), self.scheduler.state_dict(), self.trained))
                if (epoch, number) == interrupt:
                    raise KeyboardInterrupt

    def load(self, checkpoint):
        state, scheduler, trained = checkpoint
        self.loader.load_state_dict(state)
        self.scheduler.load_state_dict(scheduler)
        self.trained = list(trained)


def uninterrupted(strategy):
    notebook = Notebook(strategy)
    notebook.run_cell()
    assert len(notebook.trained) == notebook.total
    return notebook


INTERRUPTS = pytest.mark.parametrize(
    ("epoch", "batch", "before_update"), [(0, 1, False), (2, 0, False), (2, 1, True), (2, 1, False), (4, 1, True)]
)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@INTERRUPTS
@pytest.mark.parametrize("fresh", [False, True])
def test_a_rerun_cell_with_the_last_checkpoint_trains_what_an_uninterrupted_one_does(
    strategy, epoch, batch, before_update, fresh
):
    notebook, expected = Notebook(strategy), uninterrupted(strategy)
    with pytest.raises(KeyboardInterrupt):
        notebook.run_cell((epoch, batch), before_update=before_update)
    resumed = Notebook(strategy) if fresh else notebook  # the kernel was restarted, or not
    resumed.load(notebook.checkpoint)
    resumed.run_cell()
    assert resumed.trained == expected.trained
    assert resumed.scheduler.get_last_lr() == expected.scheduler.get_last_lr()
    assert resumed.pruner.next_epoch == EPOCHS


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@INTERRUPTS
def test_a_rerun_cell_without_a_checkpoint_begins_the_next_epoch_and_never_makes_too_many_steps(
    strategy, epoch, batch, before_update
):
    notebook, expected = Notebook(strategy), uninterrupted(strategy)
    with pytest.raises(KeyboardInterrupt):
        notebook.run_cell((epoch, batch), before_update=before_update)
    done = len(notebook.trained)
    notebook.run_cell()  # OneCycleLR raises beyond its total
    begun = [number for number, _ in notebook.trained]
    assert begun[:done] == [number for number, _ in expected.trained][:done]
    assert begun[done:] == [number for number, _ in expected.trained if number > epoch]
    assert len(begun) <= notebook.total
    assert (notebook.pruner.epoch, notebook.pruner.next_epoch) == (EPOCHS - 1 if epoch + 1 < EPOCHS else epoch, EPOCHS)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_cell_that_has_finished_does_nothing_when_it_is_run_again(strategy):
    notebook = uninterrupted(strategy)
    trained = list(notebook.trained)
    notebook.run_cell()
    notebook.load(notebook.checkpoint)
    notebook.run_cell()
    assert notebook.trained == trained


def test_a_cell_may_be_interrupted_after_every_batch():
    notebook, expected = Notebook(STRATEGIES[0]), uninterrupted(STRATEGIES[0])
    for epoch in range(EPOCHS):
        for _ in range(3):
            # A resumed epoch counts its own batches from 0, so each run of the cell makes one step.
            with pytest.raises(KeyboardInterrupt):
                notebook.run_cell((epoch, 0))
            checkpoint, notebook = notebook.checkpoint, Notebook(STRATEGIES[0])
            notebook.load(checkpoint)
    notebook.run_cell()
    assert notebook.trained == expected.trained

"""An Ignite Engine trains the epochs of the pruner, whatever their length, and resumes inside them."""

import io

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from orderdp import UCB, InfoBatch, OrderDP, Pruner
from reference.processes import run_ranks

pytest.importorskip("ignite")
from ignite.engine import Engine, Events, create_supervised_trainer

from orderdp.integrations import ignite

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, BATCH, EPOCHS = 47, 4, 4
HALF = OrderDP(explore=1.0, exploit=0.5)
VARYING = InfoBatch(prune_probability=0.9, delta=0.75, epochs=EPOCHS)  # 12 batches, then fewer, then 12 again
SHRINKING = UCB(prune_ratio=0.8)  # 12 batches, then 3: an Engine that compares totals ends early
STRATEGIES = pytest.mark.parametrize(
    "strategy", [HALF, VARYING, SHRINKING], ids=lambda strategy: type(strategy).__name__
)
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")


def data():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1).sin())


class Run:
    """A linear model, its optimiser, scheduler, pruner and loader, and what a training did with them."""

    def __init__(self, strategy, **arguments):
        self.model = nn.Linear(3, 1)
        nn.init.constant_(self.model.weight, 0.1)
        nn.init.zeros_(self.model.bias)
        self.net = DistributedDataParallel(self.model) if dist.is_initialized() else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 / (1 + step))
        self.pruner = Pruner(strategy, N, seed=3)
        self.loader = self.pruner.loader(data(), batch_size=BATCH, **arguments)
        self.trace, self.state = [], None

    def step(self, _, batch):
        index, (x, y) = batch
        loss = self.pruner.update(index, (self.net(x).squeeze(1) - y) ** 2)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.trace.append([self.pruner.epoch, index.tolist(), loss.item(), *self.scheduler.get_last_lr()])

    def bare(self):
        for _ in range(EPOCHS):
            for batch in self.loader:
                self.step(None, batch)
        return self.trace

    def trainer(self, stop=None):
        """An attached Engine. `stop` is the iteration of all epochs, or the end of an epoch, at which it saves."""
        trainer = Engine(self.step)
        ignite.attach(trainer, self.loader)

        def save(engine):
            if stop in (engine.state.iteration, f"epoch {engine.state.epoch}"):
                stream = io.BytesIO()
                torch.save({name: part.state_dict() for name, part in self.parts(trainer).items()}, stream)
                self.state = stream
                engine.terminate()

        trainer.add_event_handler(Events.EPOCH_COMPLETED if isinstance(stop, str) else Events.ITERATION_COMPLETED, save)
        return trainer

    def parts(self, trainer):
        named = ("model", "optimizer", "scheduler", "loader")
        return {**{name: getattr(self, name) for name in named}, "trainer": trainer}

    def load(self, stream, trainer):
        stream.seek(0)
        saved = torch.load(stream, weights_only=True)
        for name, part in self.parts(trainer).items():
            part.load_state_dict(saved[name])


@STRATEGIES
@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
def test_an_attached_engine_trains_as_a_bare_loop(strategy, arguments):
    run = Run(strategy, **arguments)
    trainer = run.trainer()
    counted = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: counted.append(engine.state.epoch))
    state = trainer.run(run.loader, max_epochs=EPOCHS)
    expected = Run(strategy).bare()
    assert run.trace == expected
    assert (state.epoch, state.iteration, counted) == (EPOCHS, len(expected), [1, 2, 3, 4])
    sizes = {sum(entry[0] == epoch for entry in run.trace) for epoch in range(EPOCHS)}
    assert (len(sizes) > 1) == (strategy is not HALF)


@STRATEGIES
@pytest.mark.parametrize("stop", [3, 14, "epoch 1", "epoch 2"])
@pytest.mark.parametrize("with_trainer", [True, False])
def test_a_run_goes_on_from_the_state_of_its_loader(strategy, stop, with_trainer):
    first, second = Run(strategy), Run(strategy)
    first.trainer(stop).run(first.loader, max_epochs=EPOCHS)
    trainer = second.trainer()
    second.load(first.state, trainer if with_trainer else Engine(second.step))
    state = trainer.run(second.loader, max_epochs=EPOCHS)
    assert first.trace
    assert second.trace
    assert first.trace + second.trace == Run(strategy).bare()
    assert state.epoch == EPOCHS
    assert state.iteration == len(second.trace) + with_trainer * len(first.trace)


@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
@LEFT
def test_an_epoch_that_is_terminated_costs_one_epoch(arguments):
    run = Run(HALF, **arguments)
    trainer = run.trainer()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda engine: engine.terminate_epoch())
    trainer.run(run.loader, max_epochs=3)
    assert [sum(entry[0] == epoch for entry in run.trace) for epoch in range(3)] == [6, 2, 6]


@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
@LEFT
def test_an_error_that_a_handler_takes_ends_its_epoch(arguments):
    """The Engine goes on with its next epoch, which is the pruner's next one too."""
    run = Run(HALF, **arguments)
    step = run.step

    def fails_once(engine, batch):
        if engine.state.iteration == 9 and engine.state.epoch == 2:
            raise OSError("the disk is full")
        step(engine, batch)

    run.step = fails_once
    trainer = run.trainer()
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)
    state = trainer.run(run.loader, max_epochs=EPOCHS)
    assert [sum(entry[0] == epoch for entry in run.trace) for epoch in range(EPOCHS)] == [6, 2, 6, 6]
    assert state.epoch == run.pruner.next_epoch == EPOCHS


@LEFT
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
def test_after_an_error_that_ended_a_run_the_next_run_goes_on(error, arguments):
    """Ignite 0.5.5 itself would train nothing and return None."""
    run = Run(HALF, **arguments)
    step, fails = run.step, [7]

    def fails_once(engine, batch):
        if len(run.trace) in fails:
            fails.clear()
            raise error("the disk is full")
        step(engine, batch)

    run.step = fails_once
    trainer = run.trainer()
    with pytest.raises(error, match="the disk is full"):
        trainer.run(run.loader, max_epochs=EPOCHS)
    assert trainer.run(run.loader, max_epochs=EPOCHS).epoch == EPOCHS
    assert [sum(entry[0] == epoch for entry in run.trace) for epoch in range(EPOCHS)] == [6, 1, 6, 6]
    with pytest.raises(ValueError, match="max_epochs must be above 4, the epochs that the pruner has begun, got 4"):
        trainer.run(run.loader, max_epochs=EPOCHS)


def test_a_run_that_was_refused_may_be_corrected():
    run = Run(HALF)
    trainer = run.trainer()
    with pytest.raises(ValueError, match="run must get the loader that was attached, got another one"):
        trainer.run(Run(HALF).loader, max_epochs=EPOCHS)
    trainer.run(run.loader, max_epochs=EPOCHS)
    assert run.trace == Run(HALF).bare()


@pytest.mark.parametrize("chosen", ["before", "after"])
def test_a_program_may_choose_to_interrupt_and_resume(chosen):
    run = Run(HALF)
    trainer = Engine(run.step)
    if chosen == "before":
        trainer.interrupt_resume_enabled = True
    ignite.attach(trainer, run.loader)
    trainer.interrupt_resume_enabled = trainer.interrupt_resume_enabled or chosen == "after"
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda engine: engine.interrupt())
    trainer.run(run.loader, max_epochs=EPOCHS)
    assert len(run.trace) == 8
    trainer.run(run.loader, max_epochs=EPOCHS)
    assert run.trace == Run(HALF).bare()


def test_an_interrupt_is_refused_unless_the_program_has_chosen_it():
    run = Run(HALF)
    trainer = run.trainer()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda engine: engine.interrupt())
    with pytest.raises(RuntimeError, match="interrupt_resume_enabled=True to enable it"):
        trainer.run(run.loader, max_epochs=EPOCHS)


def test_a_run_by_iterations_ends_after_as_many():
    run = Run(SHRINKING)
    run.trainer().run(run.loader, max_iters=19)
    assert run.trace == Run(SHRINKING).bare()[:19]


def test_the_supervised_trainer_of_ignite_needs_three_lines():
    run, twin = Run(HALF), Run(HALF)
    for each in (run, twin):
        each.optimizer = torch.optim.SGD(each.model.parameters(), lr=0.05)
        each.scheduler = torch.optim.lr_scheduler.LambdaLR(each.optimizer, lambda _: 1.0)
    trainer = create_supervised_trainer(
        run.model,
        run.optimizer,
        lambda output, target: run.pruner.update(target[0], (output.squeeze(1) - target[1]) ** 2),
        prepare_batch=lambda batch, device, non_blocking: (batch[1][0], (batch[0], batch[1][1])),
    )
    ignite.attach(trainer, run.loader)
    trainer.run(run.loader, max_epochs=EPOCHS)
    twin.bare()
    assert torch.equal(run.model.weight, twin.model.weight)
    assert run.pruner.report().visits == 24 * EPOCHS


def rank_of_a_run(rank, strategy):
    first, attached, second = Run(strategy), Run(strategy), Run(strategy)
    expected = first.bare()
    attached.trainer(stop=5).run(attached.loader, max_epochs=EPOCHS)
    second.load(attached.state, trainer := second.trainer())
    trainer.run(second.loader, max_epochs=EPOCHS)
    assert trainer.state.epoch == EPOCHS
    return [expected, attached.trace + second.trace]


@pytest.mark.parametrize("strategy", [HALF, VARYING], ids=lambda strategy: type(strategy).__name__)
def test_two_processes_train_and_resume_as_a_bare_loop_of_two(strategy, tmp_path):
    both = run_ranks(2, rank_of_a_run, tmp_path, strategy)
    for expected, trace in both:
        assert [entry[:2] for entry in trace] == [entry[:2] for entry in expected]
        for entry, other in zip(trace, expected, strict=True):
            assert entry[2:] == pytest.approx(other[2:], rel=1e-5)
    ids = [sample for expected, _ in both for entry in expected if entry[0] == 0 for sample in entry[1]]
    assert len(ids) == len(set(ids)) == (24 if strategy is HALF else N)


@pytest.mark.parametrize("strategy", [VARYING, SHRINKING], ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}], ids=str)
@LEFT
def test_an_engine_that_is_not_attached_is_refused_where_an_epoch_is_shorter(strategy, arguments):
    run = Run(strategy, **arguments)
    text = (
        r"as many iterations in every epoch, 12, got an epoch of \d batches; write orderdp.integrations.ignite.attach"
    )
    with pytest.raises(RuntimeError, match=text):
        Engine(run.step).run(run.loader, max_epochs=EPOCHS)
    assert len(run.trace) == 12


def test_an_engine_that_is_not_attached_is_left_alone_where_epochs_are_equal():
    run = Run(HALF)
    Engine(run.step).run(run.loader, max_epochs=EPOCHS)
    assert run.trace == Run(HALF).bare()
    run = Run(SHRINKING)  # an epoch_length of the user's own is no claim about the loader
    Engine(run.step).run(run.loader, max_epochs=3, epoch_length=5)
    assert run.trace == Run(SHRINKING).bare()[:15]


def test_an_engine_that_is_not_attached_does_not_resume_inside_an_epoch():
    first, second = Run(HALF), Run(HALF)
    first.trainer(3).run(first.loader, max_epochs=EPOCHS)
    second.loader.load_state_dict(first.loader.state_dict())
    with pytest.raises(RuntimeError, match="only if it is attached, got one of 6 iterations an epoch"):
        Engine(second.step).run(second.loader, max_epochs=EPOCHS)


def test_wrong_uses_of_attach_are_refused():
    run = Run(HALF)
    with pytest.raises(TypeError, match=r"loader must be a pruned loader, got DataLoader; write pruner.loader"):
        ignite.attach(Engine(run.step), DataLoader(data()))
    with pytest.raises(ValueError, match="run must get the loader that was attached, got another one"):
        run.trainer().run(Run(HALF).loader, max_epochs=1)
    with pytest.raises(ValueError, match="epoch_length must be left out, got 5 for 6 batches"):
        run.trainer().run(run.loader, max_epochs=1, epoch_length=5)
    run.trainer().run(run.loader, max_epochs=2)
    with pytest.raises(ValueError, match="max_epochs must be above 2, the epochs that the pruner has begun, got 2"):
        run.trainer().run(run.loader, max_epochs=2)

"""A stream under Lightning, accelerate and the Trainer of Transformers trains what a bare loop trains."""

import os
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from orderdp import OrderDP
from orderdp.stream import StreamPruner
from reference.processes import run_ranks
from reference.torchvision_operators import sitecustomize  # noqa: F401, before anything imports torchvision

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),  # torch 2.13
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),  # where there is one
    # The hooks of the page give the stream its state.
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # called by torchdata 0.11
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified"),
]
PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
N, PASSES, STEPS, STEPS_OF_TWO = 120, 3, 15, 8  # steps of a pass, on one process and on two
EVERY_FIFTH = {"every_n_train_steps": 5}
KINDS = pytest.mark.parametrize("kind", ["fresh", "remembered"])
DATA = [(i, torch.tensor([i * 7919 % 1009 / 1009, 1.0]), torch.tensor(i % 7 / 7)) for i in range(N)]


def network():
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
    return layer


def losses_of(model, batch):
    return (model(batch[1]).squeeze(1) - batch[2]) ** 2


def stateful(data, **arguments):
    return pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader(data, **arguments)


def part(rank=0, num_ranks=1, loader=DataLoader):
    """Batches of this rank's samples."""
    return loader(DATA[rank::num_ranks], batch_size=8)


def made(kind, model, source):
    how = {"key": lambda batch: batch[0]} if kind == "remembered" else {"score": lambda batch: losses_of(model, batch)}
    return StreamPruner(source, OrderDP(prune_ratio=0.5), batch_size=4, window=3, seed=1, **how)


def ahead(batches):
    """Reads one batch ahead, as Lightning does."""
    batches = iter(batches)
    following = next(batches)
    while following is not None:
        batch, following = following, next(batches, None)
        yield batch


def bare(kind, *, reads_ahead=False, accumulate=1, passes=PASSES, rank=0, num_ranks=1):
    """(ids and loss of each batch, weights) of a loop of PyTorch alone; gradients are not averaged over the ranks."""
    model, trained = network(), []
    stream = made(kind, model, part(rank, num_ranks))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(passes):
        for index, batch in ahead(stream) if reads_ahead else stream:
            loss = stream.update(index, losses_of(model, batch))
            trained.append(told(index, loss))
            (loss / accumulate).backward()
            if len(trained) % accumulate == 0:
                average_over(num_ranks, model)
                optimizer.step()
                optimizer.zero_grad()
    return trained, weights_of(model)


def average_over(num_ranks, model):
    for parameter in model.parameters() if num_ranks > 1 else []:
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= num_ranks


def told(index, loss):
    return [[int(i) for i in index], loss.item()]


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def same(run, expected):
    (trained, weights), (others, those) = run, expected
    assert [ids for ids, _ in trained] == [ids for ids, _ in others]
    assert [loss for _, loss in trained] == pytest.approx([loss for _, loss in others], rel=1e-5)
    assert weights == pytest.approx(those, rel=1e-5)
    assert len(trained) > 0


def names_of(section, **names):
    """The names of a section's code on the page, after it ran."""
    (text,) = re.findall(rf"^### {section}\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names["__name__"] = "page"
    exec(block, names)
    return names


# Lightning.

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


INSIDE = partial(part, loader=stateful)


def lightning_run(kind, folder=None, *, source=part, checkpoint=None, given="batches", saves=None, **arguments):
    """The model of the page, fitted; it notes what it trained."""
    lightning = pytest.importorskip("lightning.pytorch")
    names = names_of("Lightning")

    class Model(names["Classifier"]):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.trained = [*getattr(self, "trained", []), told(batch[0], loss)]
            return loss

        def on_save_checkpoint(self, checkpoint):
            super().on_save_checkpoint(checkpoint)
            checkpoint["trained"] = len(getattr(self, "trained", []))

    names["losses_of"] = losses_of
    inner = network()
    module = Model(inner, made(kind, inner, source()))
    callbacks = [] if folder is None else [lightning.callbacks.ModelCheckpoint(folder, **saves, save_top_k=-1)]
    arguments = {"max_epochs": PASSES, "callbacks": callbacks, "enable_checkpointing": bool(callbacks), **arguments}
    trainer = lightning.Trainer(**QUIET, **arguments)
    batches = names["Batches"](module.stream) if given == "batches" else module.stream
    trainer.fit(module, batches, ckpt_path=checkpoint)
    return module


@KINDS
@pytest.mark.parametrize("given", ["batches", "stream"])
def test_lightning_trains_what_a_bare_loop_trains_that_reads_one_batch_ahead(kind, given):
    model = lightning_run(kind, given=given)
    same((model.trained, weights_of(model.network)), bare(kind, reads_ahead=True))
    assert model.trainer.global_step == PASSES * STEPS


def test_remembered_scores_under_lightning_are_those_of_a_plain_bare_loop():
    model = lightning_run("remembered")
    same((model.trained, weights_of(model.network)), bare("remembered"))


@pytest.mark.parametrize(
    ("saves", "source", "arguments"),
    [
        ({"every_n_train_steps": 4}, INSIDE, {}),
        (EVERY_FIFTH, INSIDE, {}),  # also at the ends of passes
        ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, part, {}),
        ({"every_n_train_steps": 4}, INSIDE, {"limit_train_batches": 7}),
        ({"every_n_train_steps": 2}, INSIDE, {"accumulate_grad_batches": 4}),
    ],
    ids=["inside", "inside and at ends", "at ends", "limited", "accumulated"],
)
@pytest.mark.parametrize("kind", ["remembered", "fresh"])
def test_lightning_resumes_from_each_checkpoint(tmp_path, saves, source, arguments, kind):
    whole = lightning_run(kind, tmp_path, source=source, saves=saves, **arguments)
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) >= PASSES
    for path in checkpoints:
        done = torch.load(path, weights_only=False)["trained"]
        counted = "accumulate_grad_batches" not in arguments or done % STEPS  # Lightning 2.6, see the page
        if counted and done < len(whole.trained):
            model = lightning_run(kind, source=source, checkpoint=path, **arguments)
            same((model.trained, weights_of(model.network)), (whole.trained[done:], weights_of(whole.network)))
            assert model.stream.report() == whole.stream.report()


def test_lightning_gives_a_stream_its_own_state_back_only_inside_a_pass_so_the_page_does(tmp_path):
    saves = {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    lightning_run("remembered", tmp_path, saves=saves)
    first = min(tmp_path.glob("*.ckpt"), key=lambda path: torch.load(path, weights_only=False)["trained"])
    state = torch.load(first, weights_only=False)
    del state["stream"]
    torch.save(state, tmp_path / "without.ckpt")
    with pytest.raises(RuntimeError, match=r"needs the state of its stream, got a new stream after 15 steps; save it"):
        resumed_without_hooks(tmp_path / "without.ckpt")


def resumed_without_hooks(path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.stream = made("remembered", self.network, part())

        def training_step(self, batch, batch_idx):
            index, batch = batch
            return self.stream.update(index, losses_of(self.network, batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(max_epochs=PASSES, enable_checkpointing=False, **QUIET)
    model = Model()
    trainer.fit(model, model.stream, ckpt_path=path)


# accelerate.


def accelerate_run(kind, *, prepared, accumulate=1, passes=PASSES, rank=0, num_ranks=1, stop=None, folder=None):
    """A loop with accelerate, whose source is prepared or not; it saves and stops, or goes on from the folder."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    inner, trained = network(), []
    source = (
        accelerator.prepare(part()) if prepared else part(rank, num_ranks, loader=stateful if folder else DataLoader)
    )
    stream = made(kind, inner, source)
    model, optimizer = accelerator.prepare(inner, torch.optim.SGD(inner.parameters(), lr=0.1))
    assert accelerator.prepare(stream) is stream
    accelerator.register_for_checkpointing(stream)
    if folder and stop is None:
        accelerator.load_state(str(folder))
    for _ in range(stream.next_pass, passes):
        for index, batch in stream:
            with accelerator.accumulate(model):
                loss = stream.update(index, losses_of(model, batch))
                trained.append(told(index, loss))
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            if len(trained) == stop:
                accelerator.save_state(str(folder))
                return trained, weights_of(inner)
    return trained, weights_of(inner)


@KINDS
@pytest.mark.parametrize("prepared", [False, True])
def test_accelerate_trains_what_a_bare_loop_trains(kind, prepared):
    same(accelerate_run(kind, prepared=prepared), bare(kind))


@KINDS
def test_accelerate_accumulates_over_a_source_that_is_not_prepared(kind):
    same(accelerate_run(kind, prepared=False, accumulate=4), bare(kind, accumulate=4))


def test_accelerate_may_not_end_its_accumulation_with_a_source_that_is_read_ahead():
    with pytest.raises(RuntimeError, match="source must not be prepared by accelerate with gradient_accumulation_st"):
        accelerate_run("fresh", prepared=True, accumulate=4)


@KINDS
def test_the_code_of_the_page_trains_with_accelerate(kind):
    pytest.importorskip("accelerate")
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {"model": model, "optimizer": optimizer, "stream": made(kind, model, part())}
    names_of("accelerate", losses_of=lambda batch: losses_of(model, batch), **names)
    assert weights_of(model) == pytest.approx(bare(kind, accumulate=2)[1], rel=1e-5)


@KINDS
@pytest.mark.parametrize("stop", [7, 15])
def test_accelerate_resumes_from_its_checkpoint(tmp_path, kind, stop):
    first, _ = accelerate_run(kind, prepared=False, stop=stop, folder=tmp_path)
    rest, weights = accelerate_run(kind, prepared=False, folder=tmp_path)
    same((first + rest, weights), bare(kind))


# The Trainer of Transformers.


def trainer_run(kind, folder, *, source=part, checkpoint=None, load=True, steps=STEPS, **arguments):
    """The Trainer of the page; it notes what it trained."""
    transformers = pytest.importorskip("transformers", minversion="5.24")
    names = names_of("HF Trainer")
    trained = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()

        def forward(self, batch):
            return self.network(batch[1])

    model = Net()
    stream = made(kind, model.network, source())

    class Recorded(names["StreamTrainer"]):
        def compute_loss(self, model, inputs, *others, **named):
            loss = super().compute_loss(model, inputs, *others, **named)
            trained.append(told(inputs[0], loss))
            return loss

    names["losses_of"] = lambda model, batch: (model(batch).squeeze(1) - batch[2]) ** 2
    settings = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "optim": "sgd", "learning_rate": 0.1}
    settings |= {"lr_scheduler_type": "constant", "max_grad_norm": 0, "save_strategy": "no", **arguments}
    settings |= {"max_steps": PASSES * steps, "ignore_data_skip": True}
    trainer = Recorded(model, transformers.TrainingArguments(output_dir=str(folder), **settings), stream=stream)
    if checkpoint is not None and load:
        stream.load_state_dict(torch.load(checkpoint / "stream0.pt", weights_only=True))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trained, weights_of(model.network)


@KINDS
def test_the_trainer_trains_what_a_bare_loop_trains(kind, tmp_path):
    same(trainer_run(kind, tmp_path), bare(kind))


@KINDS
def test_the_trainer_resumes_inside_and_at_the_end_of_a_pass(kind, tmp_path):
    trained, weights = trainer_run(kind, tmp_path, source=INSIDE, save_strategy="steps", save_steps=10)
    checkpoints = sorted(tmp_path.glob("checkpoint-*"))
    assert len(checkpoints) == PASSES * STEPS // 10 + 1
    for path in checkpoints:
        done = int(path.name.split("-")[1])
        if done < PASSES * STEPS:
            rest = trainer_run(kind, tmp_path / "rest", source=INSIDE, checkpoint=path)
            same(rest, (trained[done:], weights))


def test_the_trainer_does_not_go_on_with_a_new_stream(tmp_path):
    trainer_run("remembered", tmp_path, source=INSIDE, save_strategy="steps", save_steps=20)
    with pytest.raises(RuntimeError, match=r"needs the state of its stream, got a new stream after 20 steps; save it"):
        trainer_run("remembered", tmp_path, source=INSIDE, checkpoint=tmp_path / "checkpoint-20", load=False)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_trainer_may_not_accumulate_over_a_stream(tmp_path, resumed):
    checkpoint = None
    if resumed:
        trainer_run("remembered", tmp_path, source=INSIDE, save_strategy="steps", save_steps=20)
        checkpoint = tmp_path / "checkpoint-20"
    with pytest.raises(RuntimeError, match=r"^gradient_accumulation_steps must be 1 .* got 4; it would read"):
        trainer_run("remembered", tmp_path, source=INSIDE, checkpoint=checkpoint, gradient_accumulation_steps=4)


# Two processes.


def as_launched(rank):
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"})
    os.environ.update({"MASTER_PORT": "1", "ACCELERATE_USE_CPU": "true"})  # the group exists, so no port is opened
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # of the forked process


def on_two(rank, framework, kind, folder):
    as_launched(rank)
    source = partial(part, rank, 2)
    ahead_of = framework == "lightning"
    expected = bare(kind, reads_ahead=ahead_of, rank=rank, num_ranks=2)
    if framework == "lightning":
        model = lightning_run(kind, source=source, devices=2, strategy="ddp")
        found = model.trained, weights_of(model.network)
    elif framework == "accelerate":
        found = accelerate_run(kind, prepared=False, rank=rank, num_ranks=2)
    else:
        found = trainer_run(kind, folder, source=source, steps=STEPS_OF_TWO)
    return [found, expected]


@KINDS
@pytest.mark.parametrize("framework", ["lightning", "accelerate", "transformers"])
def test_two_processes_train_what_a_bare_loop_on_two_trains(tmp_path, framework, kind):
    pytest.importorskip(framework)
    ranks = run_ranks(2, on_two, tmp_path, framework, kind, tmp_path)
    for found, expected in ranks:
        same(found, expected)
        assert len(found[0]) == PASSES * STEPS_OF_TWO
    assert ranks[0][0][1] == ranks[1][0][1]  # the weights
    if kind == "remembered":  # whose ids are those of the samples
        first, second = ({i for ids, _ in found[0] for i in ids} for found, _ in ranks)
        assert {i % 2 for i in first} == {0}
        assert {i % 2 for i in second} == {1}


def saved_by_one(rank, folder):
    as_launched(rank)
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    stream = made("remembered", network(), part(rank, 2))
    accelerator.register_for_checkpointing(stream)
    accelerator.save_state(str(folder))
    accelerator.wait_for_everyone()
    accelerator.load_state(str(folder))
    return "loaded"


def test_accelerate_saves_one_rank_and_the_other_refuses_it(tmp_path):
    first, second = run_ranks(2, saved_by_one, tmp_path, tmp_path / "state")
    assert first == "loaded"
    assert second.startswith("ValueError: the state must be of rank 1, got 0; save the state of each rank")


def lightning_on_two(rank, folder):
    as_launched(rank)
    source = partial(part, rank, 2, loader=stateful)
    whole = lightning_run("remembered", folder / "ckpt", source=source, devices=2, strategy="ddp", saves=EVERY_FIFTH)
    found = []
    for path in sorted((folder / "ckpt").glob("*.ckpt")):
        done = torch.load(path, weights_only=False)["trained"]
        model = lightning_run("remembered", source=source, devices=2, strategy="ddp", checkpoint=path)
        found.append([getattr(model, "trained", []), whole.trained[done:]])
    return found


def test_lightning_resumes_on_two_processes(tmp_path):
    pytest.importorskip("lightning")
    for rank in run_ranks(2, lightning_on_two, tmp_path, tmp_path):
        assert len(rank) >= 4
        assert all(found == expected for found, expected in rank)

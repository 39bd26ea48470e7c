import dataclasses
import hashlib
import importlib.metadata
import json
import math
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import orderdp
from orderdp import DynamicRandom, OrderDP, Pruner
from orderdp.data.base import ImageArrays
from orderdp.data.images import ResidentImages, SampleImages
from orderdp.data.registry import load_dataset
from orderdp.training import loop, models, optim, provenance
from orderdp.training.data_path import DataPath
from orderdp.training.loop import Run
from orderdp.training.models import build_model
from orderdp.training.progress import SECONDS
from orderdp.training.provenance import digest, environment
from orderdp.training.proxy_training import proxy_model
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import total_steps
from orderdp.training.views import Mixed

N = 200
ORDERDP = {"strategy": "orderdp", "prune_ratio": 0.5}
FULL = {"strategy": "full"}
ORDERED = {"strategy": "ordered_sgd", "prune_ratio": 0.75}
LATE = {"name": "scheduled", "inner": "ordered_sgd", "prune_ratio": 0.75, "start": 0.3}

# Settings, then what a run of 3 epochs in batches of 32 makes: epochs, steps, samples forward, samples backward.
COUNTS = {
    "full": (FULL, 3, 21, 600, 600),
    "full, drop_last": ({**FULL, "drop_last": True}, 3, 18, 576, 576),
    "full, max_steps inside an epoch": ({**FULL, "max_steps": 10}, 2, 10, 285, 285),  # steps of 28 or 29
    "full, max_steps at the end of an epoch": ({**FULL, "max_steps": 14}, 2, 14, 400, 400),
    "dynamic_random": ({"strategy": "dynamic_random", "prune_ratio": 0.5}, 3, 12, 300, 300),
    "orderdp": (ORDERDP, 3, 12, 300, 300),
    "orderdp, drop_last": ({**ORDERDP, "drop_last": True}, 3, 9, 288, 288),
    "orderdp, default sizes": ({}, 3, 6, 180, 180),
    "orderdp, explore and exploit": ({"explore": 0.8, "exploit": 0.25}, 3, 6, 120, 120),
    "orderdp, uniform share": ({**ORDERDP, "uniform_share": 0.2}, 3, 12, 300, 300),
    "orderdp, per iteration": ({**ORDERDP, "per": "iteration"}, 3, 12, 300, 300),
    "orderdp, max_steps": ({**ORDERDP, "max_steps": 5}, 2, 5, 125, 125),
    # 141 candidates; of 28 or 29 the 20 or 21 hardest are trained, and those pass twice.
    "orderdp, fresh": ({**ORDERDP, "per": "iteration", "fresh": True}, 3, 15, 423 + 303, 303),
    "ordered sgd": (ORDERED, 3, 21, 600 + 147, 147),
    # The first epoch is on full data, in one pass.
    "ordered sgd, scheduled": ({"strategy": LATE}, 3, 21, 600 + 98, 200 + 98),
}


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("settings", "epochs", "steps", "forward", "backward"), list(COUNTS.values()), ids=list(COUNTS)
)
def test_a_run_makes_exactly_the_steps_and_samples_of_its_method(train, settings, epochs, steps, forward, backward):
    folder = train(**settings)
    result, recipe = folder.result(), folder.recipe()
    assert [result[name] for name in ("epochs", "steps")] == [epochs, steps]
    assert [result[name] for name in ("samples_forward", "samples_backward")] == [forward, backward]
    assert total_steps(recipe, N) == steps
    if recipe.max_steps is None:
        pruner = Pruner(recipe.strategy, N)
        assert pruner.total_steps(3, 32, drop_last=recipe.drop_last) == steps


def test_the_average_of_the_weights_is_evaluated(train, digits):
    folder = train(**FULL, ema=0.75, epochs=2)
    recipe = folder.recipe()
    run = Run(recipe, digits, folder, show=False)
    run._resume()
    assert run.average is not None
    images, labels = ResidentImages(digits.test, mean=digits.mean, std=digits.std).__getitems__(range(360))
    with torch.no_grad():
        losses = [F.cross_entropy(net.eval()(images), labels) for net in (run.average.module, run.model)]
    assert folder.metrics()[-1]["test_loss"] == pytest.approx(float(losses[0]), rel=1e-5)
    assert not math.isclose(float(losses[0]), float(losses[1]), rel_tol=1e-3)
    digests = folder.result()["digests"]
    assert digests["average"] == digest(run.average.module.state_dict()) != digests["model"]


def test_the_average_follows_the_weights_after_each_step(tmp_path, tiny, digits, monkeypatch):
    weights, step = [], torch.optim.SGD.step

    def seen(optimizer, *arguments, **named):
        step(optimizer, *arguments, **named)
        weights.append([parameter.detach().clone() for parameter in optimizer.param_groups[0]["params"]])

    monkeypatch.setattr(torch.optim.SGD, "step", seen)
    recipe = tiny(**FULL, ema=0.75, epochs=2)
    run = Run(recipe, digits, RunFolder.create(tmp_path / "run", recipe), show=False)
    run.train()
    assert len(weights) == run.num_steps == 14
    for place, averaged in enumerate(run.average.module.parameters()):
        expected = weights[0][place]  # timm begins at the weights after the first step
        for after in weights[1:]:
            expected = 0.75 * expected + 0.25 * after[place]
        torch.testing.assert_close(averaged.detach(), expected)


def test_a_gradient_is_cut_to_the_largest_norm_and_recorded_as_it_was(train, digits):
    plain = {**FULL, "max_steps": 1, "schedule": "constant", "momentum": 0.0, "weight_decay": 0.0, "max_lr": 0.5}
    whole, cut = (train(str(norm), **plain, clip_norm=norm) for norm in (None, 1e-3))
    norms = [float(np.load(folder.path / "gradient_norms.npy")[0]) for folder in (whole, cut)]
    assert norms[0] == norms[1] > 1e-2
    for folder, norm in ((whole, norms[0]), (cut, 1e-3)):
        run = Run(folder.recipe(), digits, folder, show=False)
        before = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
        run._resume()
        after = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
        assert float((after - before).norm()) == pytest.approx(0.5 * norm, rel=1e-3)


def test_mixed_batches_train_alike_on_every_path_and_tell_nothing_of_what_is_mastered(train):
    mixing = {**ORDERDP, "mixup": 0.8, "cutmix": 1.0, "augment": "flip_crop_random_erase"}
    folders = [train(path, **mixing, data_path=path) for path in ("loader", "resident")]
    assert len({folder.result()["digests"]["model"] for folder in folders}) == 1
    assert folders[0].metrics()[-1]["mastered"] is None
    assert folders[0].result()["digests"]["model"] != train("plain", **ORDERDP).result()["digests"]["model"]


def test_a_step_mixes_by_its_epoch_and_remembers_the_scores_of_mixed_samples(tmp_path, tiny, digits, monkeypatch):
    recipe = tiny(**ORDERDP, mixup=0.8, cutmix=0.4, seed=5)
    run = Run(recipe, digits, RunFolder(tmp_path), show=False)
    for each in (run.pruner, run.train_set):
        each.set_epoch(3)
    run.net.train()
    index, (images, labels) = next(iter(run.loader))
    view = Mixed(0.8, 0.4, num_classes=10, label_smoothing=recipe.label_smoothing, seed=5)
    inputs, targets = view(index, (images.clone(), labels), 3)
    with torch.no_grad():
        outputs = run.model(inputs)
    expected = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=recipe.label_smoothing)
    given = []
    monkeypatch.setattr(
        Pruner, "update", lambda self, index, losses, *, scores: given.append((index, scores)) or losses.mean()
    )
    losses, _ = run._forward(index, (images, labels))
    torch.testing.assert_close(losses, expected)
    ((ids, scores),) = given
    assert torch.equal(ids, index)
    torch.testing.assert_close(scores, view.scores(outputs, labels, targets))
    assert not torch.allclose(scores, losses.detach(), atol=1e-3)
    assert not scores.requires_grad


def test_mixing_is_refused_where_the_choice_is_within_the_batch(tiny):
    with raises(
        ValueError,
        "ordered_sgd chooses within its batch, and mixup mixes the samples of a batch, got 0.8; write mixup = 0",
    ):
        tiny(**ORDERED, mixup=0.8)


def test_max_steps_beyond_the_epochs_is_refused(tiny):
    with raises(ValueError, "max_steps must be within the 12 steps of 3 epochs, got 13; write more epochs"):
        total_steps(tiny(**ORDERDP, max_steps=13), N)


METHODS = [
    {"explore": 0.7, "exploit": 0.4, "initial_score": 3.0, "uniform_share": 0.2, "per": "iteration"},
    {"prune_ratio": 0.3, "per": "iteration", "fresh": True},
]


@pytest.mark.parametrize("settings", METHODS, ids=str)
def test_every_setting_of_the_method_arrives(tiny, settings):
    assert tiny(**settings).strategy == OrderDP(**settings)


def test_every_setting_of_optimizer_and_schedule_arrives(tmp_path, tiny, digits, monkeypatch):
    given = {}

    def watch(name):
        original = getattr(optim, name)

        def replacement(owner, **settings):
            given[name] = settings
            return original(owner, **settings)

        monkeypatch.setattr(optim, name, replacement)

    watch("build_optimizer")
    watch("build_schedule")
    optimizer = {"momentum": 0.7, "weight_decay": 0.03}
    schedule = {"max_lr": 0.3, "pct_start": 0.4, "div_factor": 7.0, "final_div_factor": 70.0}
    Run(tiny(**FULL, optimizer="lamb", **optimizer, **schedule), digits, RunFolder(tmp_path), show=False)
    assert given["build_optimizer"] == {"name": "lamb", **optimizer, "nesterov": False}
    assert given["build_schedule"] == {"name": "onecycle", "total_steps": 21, **schedule}
    Run(tiny(**FULL, nesterov=True), digits, RunFolder(tmp_path), show=False)
    assert given["build_optimizer"]["nesterov"] is True


def test_the_share_of_the_paths_that_the_recipe_names_is_dropped(tmp_path, tiny, digits):
    run = Run(tiny(model="small_swin", drop_path=0.3), digits, RunFolder(tmp_path), show=False)
    assert max(getattr(module, "drop_prob", 0.0) for module in run.model.modules()) == pytest.approx(0.3)


DATA_PATHS = {"auto": ResidentImages, "resident": ResidentImages, "loader": SampleImages}


@pytest.mark.parametrize(("data_path", "kind"), list(DATA_PATHS.items()))
def test_the_images_come_by_the_path_and_the_workers_asked_for(tmp_path, tiny, digits, data_path, kind):
    run = Run(tiny(data_path=data_path, num_workers=2), digits, RunFolder(tmp_path), show=False)
    assert type(run.train_set) is type(run.test_set) is kind
    assert run.loader.num_workers == (2 if kind is SampleImages else 0)


@pytest.mark.parametrize(("device", "only_cpu"), [("cpu", True), ("auto", False)])
def test_accelerate_is_told_the_device_asked_for(tmp_path, tiny, digits, monkeypatch, device, only_cpu):
    told, accelerator = [], loop.Accelerator
    monkeypatch.setattr(loop, "Accelerator", lambda *, cpu: told.append(cpu) or accelerator(cpu=True))
    Run(tiny(device=device), digits, RunFolder(tmp_path), show=False)
    assert told == [only_cpu]


def test_the_arithmetic_has_the_threads_asked_for(tmp_path, tiny, digits):
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            Run(tiny(num_threads=threads), digits, RunFolder(tmp_path), show=False)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_evaluation_has_batches_of_its_own_size_and_draws_nothing(tmp_path, tiny, digits, monkeypatch):
    run = Run(tiny(eval_batch_size=100), digits, RunFolder(tmp_path), show=False)
    sizes, logits = [], run._outputs
    monkeypatch.setattr(run, "_outputs", lambda batch, net: sizes.append(len(batch[1])) or logits(batch, net))
    before = torch.get_rng_state()
    run._evaluate()
    assert sizes == [100, 100, 100, 60]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("asked", "epochs"), [(2, {2, 3}), (1, {3}), (9, {1, 2, 3})])
def test_evaluations_are_spread_evenly_and_change_nothing_else(train, asked, epochs):
    whole = train("whole", **ORDERDP)
    lines, expected = whole.metrics(), whole.result()
    few = train("few", **ORDERDP, evaluations=asked)
    for every, some in zip(lines, few.metrics(), strict=True):
        evaluated = some["epoch"] in epochs
        assert some["accuracy"] == (every["accuracy"] if evaluated else None)
        assert some["test_loss"] == (every["test_loss"] if evaluated else None)
        assert (some["loss"], some["lr"]) == (every["loss"], every["lr"])
    found = few.result()
    assert (found["digests"], found["accuracy_last"]) == (expected["digests"], expected["accuracy_last"])
    assert found["accuracy_best"] == max(line["accuracy"] for line in lines if line["epoch"] in epochs)


def test_the_evaluation_is_made_in_bf16_too(tmp_path, tiny, digits):
    exact, rough = (
        Run(tiny(precision=name), digits, RunFolder(tmp_path), show=False)._evaluate()["test_loss"]
        for name in ("float32", "bf16")
    )
    assert exact != rough
    assert exact == pytest.approx(rough, rel=0.02)


def test_the_digest_of_the_choices_is_of_every_epoch(train):
    result = train(strategy="dynamic_random", prune_ratio=0.5).result()
    pruner, digest = Pruner(DynamicRandom(prune_ratio=0.5), N), ""
    for epoch in range(3):
        pruner.set_epoch(epoch)  # a random choice needs no losses
        indices = pruner.preview().indices.astype(np.int64)
        digest = hashlib.sha256(digest.encode() + indices.tobytes()).hexdigest()
    assert result["digests"]["choices"] == digest


def test_runs_and_proxies_begin_with_the_initialization_of_the_recipe(tmp_path, tiny, digits):
    recipe = tiny(model="resnet18", initialization="torch")
    run = Run(recipe, digits, RunFolder.create(tmp_path / "run", recipe), show=False)
    proxy = proxy_model(DataPath(recipe, digits, torch.device("cpu")))
    for model in (run.model, proxy):
        assert model.conv1.weight.std().item() == pytest.approx((3 * 9) ** -0.5, rel=0.1)  # timm's is a third of it


def plain_loop(recipe, data):
    """The run as one would write it down: its model, pruner, metrics, and the gradient norm of every step."""
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, num_classes=10, in_channels=1, image_size=8)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    pruner = Pruner(recipe.strategy, len(data.train), seed=recipe.seed)
    steps = pruner.total_steps(recipe.epochs, recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.max_lr, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=1e4
    )
    train_set = SampleImages(data.train, mean=data.mean, std=data.std, augment=recipe.augment, seed=recipe.seed)
    test_images = (data.test.images.float() / 255 - data.mean[0]) / data.std[0]
    lines, norms = [], []
    for epoch in range(recipe.epochs):
        train_set.set_epoch(epoch)
        model.train()
        losses, began = [], len(norms)
        for ids in torch.from_numpy(pruner.begin_epoch().indices).long().split(25):  # 100 images in 4 equal steps
            images = torch.stack([train_set[int(i)][0] for i in ids])
            batch = F.cross_entropy(
                model(images), data.train.labels[ids], reduction="none", label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad()
            pruner.update(ids, batch).backward()
            norms.append(math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters())))
            lr = optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()
            losses.append(batch.detach())
        model.eval()
        with torch.no_grad():
            logits = model(test_images)
        lines.append(
            {
                "loss": torch.cat(losses).mean().item(),
                "test_loss": F.cross_entropy(logits, data.test.labels).item(),
                "accuracy_worst_class": min(
                    100 * (logits.argmax(1) == data.test.labels)[data.test.labels == label].double().mean().item()
                    for label in data.test.labels.unique()
                ),
                "accuracy": 100 * (logits.argmax(1) == data.test.labels).double().mean().item(),
                "lr": lr,
                "gradient_norm": sum(norms[began:]) / len(norms[began:]),
            }
        )
    return model, pruner, lines, norms


def test_a_run_is_the_loop_that_one_would_write_down(train, digits):
    folder = train(**ORDERDP, augment="crop", epochs=4, weight_decay=0.05, label_smoothing=0.2, seed=3)
    model, pruner, lines, norms = plain_loop(folder.recipe(), digits)
    saved, state = folder.load_checkpoint()
    assert set(saved) == set(model.state_dict())
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())
    restored = Pruner(folder.recipe().strategy, N, seed=3)
    restored.load_state_dict(state["loader"]["pruner"])
    assert torch.equal(restored.scores()["score"], pruner.scores()["score"])
    for line, expected in zip(folder.metrics(), lines, strict=True):
        assert {name: line[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert np.load(folder.path / "gradient_norms.npy").tolist() == pytest.approx(norms, rel=1e-5)


def test_each_epoch_has_a_line_of_metrics_and_the_lines_add_up_to_the_result(train):
    folder = train(**ORDERDP, epochs=5)
    lines, result = folder.metrics(), folder.result()
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20]
    assert [line["samples_forward"] for line in lines] == [100, 200, 300, 400, 500]
    assert [line["samples_backward"] for line in lines] == [100, 200, 300, 400, 500]
    for name in SECONDS:
        assert all(line[name] > 0 for line in lines)
        assert sum(line[name] for line in lines) == pytest.approx(result[name])
    assert result["accuracy_last"] == lines[-1]["accuracy"]
    assert result["accuracy_best"] == max(line["accuracy"] for line in lines)
    unseen = [line["never_seen"] for line in lines]
    assert unseen[0] == 100
    assert unseen == sorted(unseen, reverse=True)
    assert all(0 <= line["mean_age"] <= line["max_age"] < line["epoch"] for line in lines)


def test_seconds_are_told_apart_by_what_they_were_spent_on(train, monkeypatch):
    clock = [0.0]

    def takes(owner, name, seconds):
        original = getattr(owner, name)

        def replacement(*arguments, **named):
            clock[0] += seconds
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, replacement)

    takes(OrderDP, "select", 1000)
    takes(Pruner, "update", 10)
    takes(ResidentImages, "__getitems__", 0.125)
    takes(Run, "_evaluate", 1)
    takes(loop, "measure", 10_000)
    takes(Run, "_write_checkpoint", 100_000)
    takes(Run, "_keep", 1_000_000)  # where the device is waited for, at the end and before each checkpoint
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    folder = train(**ORDERDP, checkpoint_steps=1, eval_batch_size=180)  # of 360: two batches
    lines = folder.metrics()
    assert [line["processor_s"] for line in lines] == [4 * 1_000_010 + 1000 + 4 * 0.125] * 3
    assert folder.result()["processor_s"] == 3 * lines[0]["processor_s"]
    assert [[line[name] for name in SECONDS] for line in lines] == [[4 * 1_000_010, 1000, 4 * 0.125, 1 + 2 * 0.125]] * 3


def test_seconds_of_the_data_are_those_of_every_sample_that_is_read(train, monkeypatch):
    clock, read = [0.0], SampleImages.__getitem__

    def slow_read(*arguments):
        clock[0] += 1
        return read(*arguments)

    monkeypatch.setattr(SampleImages, "__getitem__", slow_read)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    for line in train(**ORDERDP, data_path="loader", checkpoint_steps=3).metrics():
        assert [line[name] for name in SECONDS] == [0, 0, 100, 360]


def test_seconds_before_and_after_an_interruption_add_up(train, monkeypatch):
    clock, calls = [0.0], []
    select, update, read, keep = OrderDP.select, Pruner.update, ResidentImages.__getitems__, Run._keep

    def slow_select(*arguments):
        clock[0] += 1000
        return select(*arguments)

    def slow_update(*arguments, **named):
        calls.append(None)
        if len(calls) == 7:  # the third step of the second epoch
            raise KeyboardInterrupt
        clock[0] += 10
        return update(*arguments, **named)

    def slow_read(*arguments):
        clock[0] += 0.125
        return read(*arguments)

    def slow_keep(*arguments):
        clock[0] += 100_000  # as where the device is waited for before a checkpoint
        return keep(*arguments)

    monkeypatch.setattr(Run, "_keep", slow_keep)
    monkeypatch.setattr(OrderDP, "select", slow_select)
    monkeypatch.setattr(ResidentImages, "__getitems__", slow_read)
    monkeypatch.setattr(Pruner, "update", slow_update)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt):
        train(**ORDERDP, checkpoint_steps=1)
    lines = train().metrics()
    assert [line["processor_s"] for line in lines] == [4 * 100_010 + 1000 + 4 * 0.125] * 3
    assert [[line[name] for name in SECONDS] for line in lines] == [[4 * 100_010, 1000, 4 * 0.125, 0.125]] * 3


def test_the_last_step_has_the_last_rate_of_the_schedule(train):
    rates = [line["lr"] for line in train("onecycle", max_lr=0.2, div_factor=10, final_div_factor=100).metrics()]
    assert rates[-1] == pytest.approx(0.2 / 10 / 100)
    assert max(rates) == rates[0] <= 0.2
    rates = [line["lr"] for line in train("constant", max_lr=0.2, schedule="constant").metrics()]
    assert rates == [0.2] * 3


def test_the_result_says_what_was_run_and_where(train):
    result = train("here", seed=7).result()
    assert set(result) == {
        *(
            "name",
            "accuracy_last",
            "accuracy_best",
            "accuracy_worst_class",
            "accuracy_mean_class",
            "accuracy_rare_classes",
            "test_loss_last",
            "predicted",
            "epochs",
            "steps",
            "samples_forward",
            "samples_backward",
            "samples_before",
        ),
        *(
            "pass_s",
            *SECONDS,
            "processor_s",
            "coverage",
            "num_classes",
            "unreadable",
            "seed",
            "digests",
            "device",
            "ranks",
            "threads",
            "versions",
            "commit",
            "finished",
        ),
    }
    expected = {"name": "here", "seed": 7, "ranks": 1, "threads": 1}
    assert {name: result[name] for name in expected} == expected
    assert set(result["digests"]) == {"model", "scores", "choices"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in result["digests"].values())
    assert result["versions"]["torch"] == torch.__version__
    always = {"python", "orderdp", "torch", "numpy", "accelerate"}
    assert always <= set(result["versions"]) <= always | {"torchvision", "timm", "transformers", "pillow"}
    assert result["device"].strip()


def test_outside_a_checkout_the_result_names_no_commit(train, monkeypatch):
    def fail(command, **named):
        raise subprocess.CalledProcessError(128, command)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(provenance, "commit", provenance.commit.__wrapped__)  # what other runs asked for is kept
    assert train().result()["commit"] is None


def test_the_folder_holds_what_the_run_returned(tmp_path, tiny, digits):
    recipe = tiny()
    folder = RunFolder.create(tmp_path / "run", recipe)
    result = Run(recipe, digits, folder, show=False).train()
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "checkpoint",
        "gradient_norms.npy",
        "metrics.jsonl",
        "recipe.toml",
        "result.json",
    ]
    assert [path.name for path in (folder.path / "checkpoint").iterdir()] == ["000000006"]


def test_all_data_paths_give_the_same_bits(train, outcome):
    settings = {**ORDERDP, "augment": "crop"}
    resident = outcome(train("resident", **settings, data_path="resident"))
    assert outcome(train("auto", **settings)) == resident
    for workers in (0, 2):
        assert outcome(train(f"{workers}", **settings, data_path="loader", num_workers=workers)) == resident


def test_equal_seeds_give_equal_runs_and_other_seeds_others(train, outcome):
    first, again, other = (train(name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert outcome(first) == outcome(again)
    digests, others = (folder.result()["digests"] for folder in (first, other))
    assert all(digests[name] != others[name] for name in ("model", "scores", "choices"))


def test_seeds_that_differ_in_high_bits_only_give_other_weights(train):
    digests = [train(str(seed), **FULL, seed=seed).result()["digests"]["model"] for seed in (0, 2**32, 2**63 - 1)]
    assert len(set(digests)) == 3


def test_a_run_leaves_no_trace_in_the_next_one(train, outcome):
    first = outcome(train("first"))
    train("between", seed=9, optimizer="adamw", strategy="full")
    assert outcome(train("again")) == first


OPTIMIZERS = {"sgd": 0.1, "adamw": 0.01, "lars": 1.0, "lamb": 0.02, "lars_release": 1.0, "lamb_release": 0.02}


@pytest.mark.parametrize(("optimizer", "max_lr"), list(OPTIMIZERS.items()), ids=list(OPTIMIZERS))
def test_each_optimizer_learns(train, optimizer, max_lr):
    losses = [line["test_loss"] for line in train(**FULL, optimizer=optimizer, max_lr=max_lr, epochs=8).metrics()]
    assert losses[-1] < losses[0] - 0.3


def test_bf16_is_near_float32_and_not_it(train):
    exact, rough = (train(name, **FULL, precision=name).metrics() for name in ("float32", "bf16"))
    assert exact[0]["loss"] != rough[0]["loss"]
    assert exact[0]["loss"] == pytest.approx(rough[0]["loss"], rel=0.02)


@pytest.mark.parametrize("data_path", ["resident", "loader"])
def test_channels_last_lays_out_weights_and_images(tmp_path, tiny, digits, train, data_path, monkeypatch):
    layouts = []
    logits = Run._outputs

    def watch(self, *arguments):
        layouts.append(self.model[1][0].weight.is_contiguous(memory_format=torch.channels_last))
        return logits(self, *arguments)

    monkeypatch.setattr(Run, "_outputs", watch)
    last = train("last", **FULL, channels_last=True, data_path=data_path).metrics()
    assert layouts
    assert all(layouts)
    layouts.clear()
    first = train("first", **FULL, data_path=data_path).metrics()
    assert not any(layouts)
    assert last[0]["loss"] == pytest.approx(first[0]["loss"], rel=1e-4)


@pytest.mark.parametrize("data_path", ["resident", "loader"])
@pytest.mark.parametrize("last", [False, True])
def test_a_model_is_shown_images_in_the_layout_asked_for(tmp_path, tiny, digits, data_path, last):
    """In colour: of a single channel both layouts are one."""
    train, test = (
        ImageArrays(part.images.expand(-1, 3, -1, -1).contiguous(), part.labels) for part in (digits.train, digits.test)
    )
    data = dataclasses.replace(digits, train=train, test=test, in_channels=3, mean=digits.mean * 3, std=digits.std * 3)
    recipe = tiny(**FULL, epochs=1, channels_last=last, data_path=data_path)
    folder = RunFolder.create(tmp_path / "run", recipe)
    run = Run(recipe, data, folder, show=False)
    layouts = set()
    run.model.register_forward_pre_hook(
        lambda _, inputs: layouts.add(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    run.train()
    assert layouts == {last}
    if data_path == "resident":  # laid out when it is made, not copied at each step
        images, _ = run.train_set.__getitems__([0, 1])
        assert images.is_contiguous(memory_format=torch.channels_last) is last


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_model_trains_as_the_plain_one(train, monkeypatch):
    calls = []
    compile_ = torch.compile

    def linear(name, **sizes):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))  # little to compile

    monkeypatch.setattr(models, "build_model", linear)
    monkeypatch.setattr(torch, "compile", lambda model: calls.append(model) or compile_(model))
    plain = train("plain", **FULL, max_steps=8, drop_last=True)
    assert not calls
    compiled = train("compiled", **FULL, max_steps=8, drop_last=True, compile=True)
    assert len(calls) == 1
    assert (plain.result()["processor_s"] > 0, compiled.result()["processor_s"]) == (True, None)  # nor the compiler's
    assert set(compiled.load_checkpoint()[0]) == {"1.weight", "1.bias"}
    for line, other in zip(compiled.metrics(), plain.metrics(), strict=True):
        assert [line[name] for name in ("loss", "test_loss")] == pytest.approx(
            [other[name] for name in ("loss", "test_loss")], rel=1e-4
        )


@pytest.fixture
def image_folder(tmp_path):
    """A folder of small pictures of three classes, each of its own colour."""
    from PIL import Image

    rng = torch.Generator().manual_seed(0)
    for part, count in (("train", 8), ("val", 3)):
        for label in range(3):
            home = tmp_path / "pictures" / part / f"class{label}"
            home.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 80, (20, 24, 3), generator=rng, dtype=torch.uint8)
                pixels[:, :, label] += 150
                Image.fromarray(pixels.numpy()).save(home / f"{number}.png")
    return tmp_path / "pictures"


def test_files_are_shown_in_the_size_of_their_data_set_which_the_recipe_need_not_name(tmp_path, tiny, image_folder):
    data = load_dataset("folder", data_root=image_folder, image_size=16)
    run = Run(tiny(train_size=None, image_size=None), data, RunFolder(tmp_path), show=False)
    for images in (run.train_set, run.test_set):
        assert images[0][0].shape == (3, 16, 16)


def test_a_folder_of_images_trains_with_any_number_of_workers_to_the_same_bits(train, outcome, image_folder):
    data = load_dataset("folder", data_root=image_folder, image_size=16)
    settings = {
        "dataset": "folder",
        "image_size": 16,
        "train_size": None,
        "batch_size": 4,
        "augment": "flip_crop",
        "epochs": 4,
        "prune_ratio": 0.25,
    }
    folders = [train(f"{workers}", data, **settings, num_workers=workers) for workers in (0, 2)]
    assert outcome(folders[0]) == outcome(folders[1])
    assert folders[0].result()["samples_forward"] == 4 * 18
    assert folders[0].result()["processor_s"] > 0
    assert folders[1].result()["processor_s"] is None  # the workers' time is not known
    assert folders[0].result()["accuracy_best"] > 50
    with raises(ValueError, "data_path 'resident' is for samples in memory, got files; write data_path = \"loader\""):
        train("resident", data, **settings, data_path="resident")


@pytest.mark.parametrize("settings", [FULL, {**FULL, "checkpoint_steps": 1}, ORDERDP, ORDERED], ids=str)
def test_a_run_that_diverges_says_so_and_has_no_result(tmp_path, train, settings):
    message = r"the training loss must stay finite, got (nan|inf) in epoch \d; write a smaller max_lr than 1e\+09"
    with pytest.raises(FloatingPointError, match=f"^{message}$"):
        train(**settings, max_lr=1e9, epochs=9)
    folder = RunFolder(tmp_path / "run")
    assert folder.result() is None
    assert all(math.isfinite(line["loss"]) for line in folder.metrics())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(tiny, tmp_path, digits):
    with raises(ValueError, "device must exist on this machine, got cuda; write cpu or auto"):
        Run(tiny(device="cuda"), digits, RunFolder(tmp_path / "run"))


def test_the_processor_has_a_name_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert environment(torch.device("cpu"))["device"]


def test_the_versions_are_known_where_the_package_is_not_installed(monkeypatch):
    """As with `PYTHONPATH=src`: a source tree has no metadata of its own."""
    installed = importlib.metadata.version

    def version(name):
        if name == "orderdp":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(provenance, "version", version)
    assert environment(torch.device("cpu"))["versions"]["orderdp"] == orderdp.__version__


def test_the_versions_name_the_optional_packages_that_are_installed(monkeypatch):
    """A model of timm may have other layers after an upgrade."""

    def version(name):
        if name in ("torchvision", "pillow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return f"{name} 1"

    monkeypatch.setattr(provenance, "version", version)
    versions = environment(torch.device("cpu"))["versions"]
    assert (versions["timm"], versions["transformers"]) == ("timm 1", "transformers 1")
    assert not {"torchvision", "pillow"} & set(versions)

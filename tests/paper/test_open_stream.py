"""The study of streams: what its arms cost, what a stream gives, and what its table says."""

import csv
import time
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from torch.nn import functional as F

from orderdp.data.images import ResidentImages
from orderdp.data.registry import load_dataset
from orderdp.paper import open_stream as module
from orderdp.paper import studies
from orderdp.paper.exhibit import Shown
from orderdp.paper.open_stream import WINDOW, Arm, Run, Stream, _Source, arms, measured, open_stream, show, train
from orderdp.paper.page import page_of
from orderdp.paper.sources import find
from orderdp.strategies import OrderDP
from orderdp.stream import StreamPruner
from orderdp.training import provenance
from orderdp.training.data_path import DataPath
from orderdp.training.models import build_model
from orderdp.training.objective import Classes
from orderdp.training.optim import optimization
from orderdp.training.recipe import Recipe

KEPT = Path(__file__).parents[2] / "results" / "paper"
RECIPE = Recipe(dataset="digits", model="small_cnn", batch_size=16, device="cpu", num_threads=1, seed=3)
STREAM = Stream("2 times", 320, 2)


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits").with_train_size(STREAM.num_samples)


@pytest.fixture(scope="module")
def runs(data):
    return {arm.name: train(RECIPE, data, STREAM, arm) for arm in arms([0.5], repeats=True)}


def test_forward_passes_of_samples_that_are_not_kept_are_paid(runs):
    whole, fresh = runs["read in full"], runs["OrderDP, fresh losses"]
    assert (whole.read, whole.trained, whole.scored, whole.cost, whole.steps) == (640, 640, 0, 640, 40)
    assert (fresh.read, fresh.trained, fresh.scored) == (640, 320, 453)
    assert fresh.cost == pytest.approx(320 + 453 / 3)
    assert runs["OrderDP, remembered losses"].cost == 320


def test_the_first_half_is_chosen_without_a_forward_pass(data, runs, monkeypatch):
    late = runs["OrderDP, fresh losses of the second half"]
    assert (late.read, late.trained, late.scored) == (640, 320, 227)  # half of 453: windows of 160 samples, 113 drawn
    assert late.cost == pytest.approx(320 + 227 / 3)
    given = []
    first_pass = module.first_pass
    monkeypatch.setattr(module, "first_pass", lambda model: given.append(None) or first_pass(model))
    arm = next(arm for arm in arms([0.5], repeats=True) if arm.scores == "late")
    again = train(RECIPE, data, STREAM, arm)
    assert again.accuracy == late.accuracy
    assert len(given) == 2 * 8  # the draws of two windows, in batches of 16


def test_the_first_half_is_chosen_by_numbers_drawn_anew_for_each_seed(data, monkeypatch):
    def pruner(*given, score, **named):
        raise LookupError(score)

    monkeypatch.setattr(module, "StreamPruner", pruner)
    arm = next(arm for arm in arms([0.5], repeats=True) if arm.scores == "late")

    def scores(seed):
        with pytest.raises(LookupError) as made:
            train(RECIPE.model_copy(update={"seed": seed}), data, STREAM, arm)
        (score,) = made.value.args
        return score((torch.arange(1_000), None, None))  # before the stream has given anything

    drawn = scores(3)
    assert torch.equal(drawn, scores(3))
    assert not torch.equal(drawn, scores(4))
    assert len(set(drawn.tolist())) == 1_000
    assert torch.corrcoef(torch.stack([drawn, torch.arange(1_000.0).double()]))[0, 1].abs() < 0.16  # 5 deviations


def test_a_stream_is_augmented_and_the_test_set_is_not(data, monkeypatch):
    samples, asked = DataPath.samples, []
    monkeypatch.setattr(DataPath, "samples", lambda path, *given: asked.append(given) or samples(path, *given))
    train(RECIPE.model_copy(update={"augment": "crop"}), data, Stream("a moment", 32, 1), arms([], repeats=True)[0])
    assert [(len(part), augment) for part, augment in asked] == [(320, "crop"), (360, "none")]


def test_what_is_compared_costs_as_much(runs):
    for method, cost in (("OrderDP, fresh losses", "equal cost"), ("OrderDP, remembered losses", "as many samples")):
        for other in ("stopped early", "random choice"):
            assert runs[f"{other}, {cost}"].cost == pytest.approx(runs[method].cost, abs=2)
    assert runs["stopped early, as many samples"].read == 320
    assert runs["random choice, as many samples"].read == 640


def test_equal_seeds_give_equal_runs_and_draws_from_nowhere_else(data, runs):
    arm = next(arm for arm in arms([0.5], repeats=True) if arm.scores == "fresh")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    again = train(RECIPE, data, STREAM, arm)
    assert torch.equal(torch.get_rng_state(), state)
    assert again._replace(processor_s=0) == runs[arm.name]._replace(processor_s=0)
    assert train(RECIPE.model_copy(update={"seed": 4}), data, STREAM, arm).accuracy != again.accuracy


def test_a_run_is_the_loop_that_one_would_write_down(data, runs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE.seed)
        model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=8).train()
    samples = [DataPath(RECIPE, data, torch.device("cpu")).samples(each, "none") for each in (data.train, data.test)]
    whole = OrderDP(explore=1.0, exploit=1.0)
    source = _Source(samples[0], 640, RECIPE)
    pruner = StreamPruner(source, whole, batch_size=16, window=WINDOW, seed=RECIPE.seed, key=lambda batch: batch[0])
    optimizer, schedule = optimization(model, RECIPE, total_steps=40)
    for keys, (_, images, labels) in pruner:
        losses = F.cross_entropy(model(images), labels, reduction="none", label_smoothing=RECIPE.label_smoothing)
        optimizer.zero_grad()
        pruner.update(keys, losses).backward()
        optimizer.step()
        schedule.step()
    images, labels = samples[1].__getitems__(range(360))
    with torch.no_grad():
        right = model.eval()(images).argmax(1) == labels
    assert runs["read in full"].accuracy == pytest.approx(100 * float(right.double().mean()))


def test_the_seconds_are_those_of_reading_and_training_without_evaluation(data, monkeypatch):
    clock = [0.0]

    def takes(owner, name, seconds):
        original = getattr(owner, name)

        def replacement(*arguments):
            clock[0] += seconds
            return original(*arguments)

        monkeypatch.setattr(owner, name, replacement)

    takes(ResidentImages, "__getitems__", 1)
    takes(Classes, "losses", 100)
    takes(Classes, "sums", 10_000)
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    assert train(RECIPE, data, STREAM, arms([], repeats=True)[0]).processor_s == 40 + 40 * 100


def test_every_arm_is_trained_with_every_seed_on_a_stream_of_its_size(data, monkeypatch):
    made, used = [], set()

    def noted(recipe, part, *given):
        made.append((recipe.seed, len(part.train), *given))
        used.add(torch.get_num_threads())

    monkeypatch.setattr(module, "train", noted)
    streams, threads = [Stream("once", 64, 1), STREAM], torch.get_num_threads()
    measured(RECIPE.model_copy(update={"num_threads": 2}), data, streams, ratios=(0.5,), seeds=(0, 4))
    assert (used, torch.get_num_threads()) == ({2}, threads)
    assert made == [
        (seed, stream.num_samples, stream, arm)
        for stream in streams
        for seed in (0, 4)
        for arm in arms([0.5], repeats=stream.passes > 1)
    ]


def test_remembered_losses_choose_nothing_in_a_stream_that_is_seen_once():
    assert not any(arm.scores == "remembered" for arm in arms([0.5, 0.7], repeats=False))
    assert {arm.ratio for arm in arms([0.5, 0.7], repeats=False)} == {None, 0.5, 0.7}


def test_a_stream_gives_every_sample_once_a_pass_in_an_order_of_its_own(data):
    samples = DataPath(RECIPE, data, torch.device("cpu")).samples(data.train, "none")
    source = _Source(samples, 480, RECIPE)
    first, second = (torch.cat([ids for ids, _, _ in source]) for _ in range(2))
    assert torch.equal(first, second)
    assert sorted(first[:320].tolist()) == list(range(320))
    assert len(set(first[320:].tolist())) == len(first[320:]) == 160
    assert not torch.equal(first[:160], first[320:])
    for ids, inputs, labels in source:
        assert torch.equal(labels, data.train.labels[ids])
        assert torch.equal(inputs, samples.__getitems__(ids)[0])


def test_a_sample_that_comes_again_is_augmented_anew(data):
    streamed, samples = (DataPath(RECIPE, data, torch.device("cpu")).samples(data.train, "crop") for _ in range(2))
    for number, (ids, inputs, _) in enumerate(_Source(streamed, 640, RECIPE)):
        samples.set_epoch(number // 20)
        assert torch.equal(inputs, samples.__getitems__(ids)[0])


def test_the_table_pairs_each_orderdp_with_what_costs_as_much():
    accuracies = {
        "read in full": 90.0,
        "OrderDP, fresh losses": 80.0,
        "stopped early, equal cost": 81.0,
        "random choice, equal cost": 82.0,
        "OrderDP, remembered losses": 70.0,
        "stopped early, as many samples": 74.0,
        "random choice, as many samples": 67.0,
    }
    made = [
        Run(
            "s",
            name,
            0.0 if name == "read in full" else 0.5,
            seed,
            value + seed,
            100,
            0,
            50,
            4,
            cost=cost,
            processor_s=2.0,
        )
        for seed in (0, 1, 2)
        for (name, value), cost in zip(accuracies.items(), (100, 74, 74, 74, 50, 50, 50), strict=True)
    ]
    shown = show(made, 10_000)
    header, lines = shown.summary
    assert header[-2:] == ("minus stopped early", "minus random choice")
    of = {line[0]: line for line in lines}
    assert of["s, 50 %: OrderDP, fresh losses"][1:5] == ("81.00 ± 1.00", "74", "100", "4")
    assert [cell.split()[0] for cell in of["s, 50 %: OrderDP, fresh losses"][5:]] == ["−1.00", "−2.00"]
    assert [cell.split()[0] for cell in of["s, 50 %: OrderDP, remembered losses"][5:]] == ["−4.00", "+3.00"]
    assert of["s: read in full"][1:] == ("91.00 ± 1.00", "100", "100", "4", "", "")
    assert "over the seeds 0, 1, 2." in shown.note
    assert "support no conclusion" not in shown.note
    assert show([run for run in made if run.seed < 2], 10_000).note.endswith(
        "Fewer than 3 seeds support no conclusion."
    )


@pytest.mark.skipif(not KEPT.exists(), reason="the sdist holds no results")
def test_the_kept_table_is_made_of_the_kept_numbers(tmp_path):
    kinds = get_type_hints(Run)
    with (KEPT / "open_stream.csv").open(newline="") as file:
        kept = [Run(**{key: kinds[key](cell) for key, cell in row.items()}) for row in csv.DictReader(file)]
    show(kept, 10_000).write("open_stream", tmp_path)
    for ending in ("md", "csv"):
        assert (tmp_path / f"open_stream.{ending}").read_text() == (KEPT / f"open_stream.{ending}").read_text()


def test_the_full_size_finds_its_data_where_it_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="fashion_mnist"):
        open_stream(data_root=str(tmp_path))


def test_the_full_size_may_download_its_data(monkeypatch):
    def stop(name, **how):
        raise LookupError(name, how)

    monkeypatch.setattr(module, "load_dataset", stop)
    with pytest.raises(LookupError) as asked:
        open_stream(data_root="D", download=True)
    assert asked.value.args == ("fashion_mnist", {"data_root": Path("D"), "download": True})


def test_the_smallest_size_is_measured_on_the_test_set_of_digits(monkeypatch):
    monkeypatch.setattr(module, "measured", lambda recipe, data, *_, **how: (recipe.dataset, len(data.train), how))
    monkeypatch.setattr(module, "show", lambda *given: given)
    how = {"ratios": (0.5,), "seeds": (0, 1)}
    assert open_stream(smoke=True) == (("digits", 1_437, how), 360)


def test_an_arm_of_the_whole_stream_keeps_all_of_it():
    assert arms([], repeats=True) == [Arm("read in full", None, OrderDP(explore=1.0, exploit=1.0))]


def test_the_commit_is_that_of_the_start(tmp_path, monkeypatch):
    commits = ["0123456789ab"]

    def compute(*_, **__):
        commits.append("fedcba987654")
        return Shown({}, {}, (("a", "b"), [("x", "1")]), "")

    monkeypatch.setattr(studies, "compute", compute)
    monkeypatch.setattr(provenance, "commit", lambda: commits[-1])
    studies.run_computed(studies.find_study("open_stream"), tmp_path, "smoke")
    assert studies.origin_in(tmp_path, "open_stream")["commit"] == "0123456789ab"


def test_the_page_names_commit_and_machine_and_takes_the_runs_of_its_own_size_alone(tmp_path, monkeypatch):
    shown = Shown({}, {"open_stream": (("a",), [(1,)])}, (("a", "b"), [("x", "1")]), "A caption.")
    monkeypatch.setattr(studies, "compute", lambda *_, **__: shown)
    written = studies.run_computed(studies.find_study("open_stream"), tmp_path / "open_stream", "smoke")
    assert [file.name for file in written] == ["open_stream.csv", "open_stream.md", "open_stream.json"]
    assert find("cpu", tmp_path).computed == {}
    (exhibit,) = (each for each in page_of("smoke", find("smoke", tmp_path)).left_open if each.name == "open_stream")
    assert [table.name for table in exhibit.tables] == ["summary", "blocks"]
    assert (exhibit.state, exhibit.tables[0].note) == ("measured, on digits", "A caption.")
    origin = studies.origin_in(tmp_path / "open_stream", "open_stream")
    commit, machine, finished = exhibit.tables[1].lines[1]
    assert (commit, machine) == (origin["commit"] or "not recorded", origin["device"])
    assert origin["finished"].startswith(finished)
    written[-1].write_text("[1]")
    with pytest.raises(ValueError, match=r"the origin of open_stream must be in .* got a damaged file"):
        find("smoke", tmp_path)

"""Scores and subsets are those of the methods on the evidence of proxies; a killed call keeps what is finished."""

import re
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from pyarrow import parquet
from scipy.stats import spearmanr

from orderdp.coresets import CCS, EL2N, Evidence, Forgetting, Random, Scorer, registry
from orderdp.data.base import ImageArrays
from orderdp.output.subset_file import read_about
from orderdp.training import coreset_run, provenance
from orderdp.training.coreset_plan import CoresetPlan, Request, load_plan
from orderdp.training.coreset_run import load, resume, start
from orderdp.training.proxy import Proxy, proxy_recipe

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N = 200
METHODS = ("random", "el2n,epoch=1", "forgetting", "calibrated,scores=el2n-1")


@pytest.fixture
def make_plan(tmp_path, tiny):
    def made(*methods, **changes):
        recipe = proxy_recipe(tiny(model="small_cnn", prune_ratio=0.5), epochs=2, batch_size=64)
        requests = tuple(map(Request.parse, methods or METHODS))
        given = {"prune_ratios": (0.3, 0.7), "proxies": 2, "home": str(tmp_path / "proxies"), **changes}
        return CoresetPlan(recipe, requests, **given)

    return made


def raises(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def contents(coresets):
    subsets = {
        key: {ratio: [None if part is None else part.tolist() for part in kept] for ratio, kept in subsets.items()}
        for key, subsets in coresets.subsets.items()
    }
    return {key: scores.tolist() for key, scores in coresets.scores.items()}, subsets, coresets.labels


def test_scores_are_averaged_over_proxies_and_subsets_are_those_of_the_methods(make_plan, tmp_path, digits):
    plan = make_plan()
    found = start(plan, digits, tmp_path / "out", show=False)
    proxies = [
        Proxy(plan.recipe.model_copy(update={"seed": seed}), digits, tmp_path / "proxies", show=False)
        for seed in (1_000_000, 1_000_001)
    ]
    early = [proxy.evidence(("probabilities",), epoch=1) for proxy in proxies]
    late = [proxy.evidence(("presented",)) for proxy in proxies]
    expected = {"el2n-1": EL2N().score(early), "forgetting": Forgetting().score(late)}
    for key, scores in expected.items():
        assert found.scores[key].tolist() == scores.tolist()
    for ratio, size in ((0.3, 140), (0.7, 60)):
        assert found.subsets["el2n-1"][ratio].ids.tolist() == EL2N().choose(early, size).indices.tolist()
        labels = Evidence(labels=digits.train.labels)
        assert found.subsets["random"][ratio].ids.tolist() == Random().choose(labels, size).indices.tolist()
        ids, weights = found.subsets["calibrated-el2n-1"][ratio]
        assert len(ids) == size
        assert weights.sum() == pytest.approx(N)
    one, other = (EL2N().score(evidence) for evidence in early)
    assert found.between_proxies["el2n-1"] == pytest.approx(spearmanr(one, other).statistic)
    assert set(found.between_proxies) == {"el2n-1", "forgetting"}
    assert "calibrated-el2n-1" not in found.scores
    assert found.labels == {
        "random": "random",
        "el2n-1": "EL2N-1",
        "forgetting": "forgetting",
        "calibrated-el2n-1": "calibrated of EL2N-1",
    }


def test_the_metadata_say_what_each_method_was(make_plan, tmp_path, digits):
    start(make_plan(), digits, tmp_path / "out", show=False)
    about = read_about(tmp_path / "out" / "subsets.parquet")
    assert (about["num_samples"], about["seeds"], about["proxies"], about["quotas"]) == (N, [0], 2, "proportional")
    assert {key: row["proxies"] for key, row in about["methods"].items()} == {
        "random": 0,
        "el2n-1": 2,
        "forgetting": 2,
        "calibrated-el2n-1": 0,
    }
    assert {key: row["proxy_samples"] for key, row in about["methods"].items()} == {
        "random": 0,
        "el2n-1": 2 * N,  # two proxies, an epoch of each
        "forgetting": 4 * N,
        "calibrated-el2n-1": 2 * N,
    }
    assert about["methods"]["el2n-1"]["epoch"] == 1
    assert about["versions"]["orderdp"]
    assert 'model = "small_cnn"' in about["recipe"]


def test_the_commit_is_that_of_the_start(make_plan, tmp_path, digits, monkeypatch):
    provenance.commit.cache_clear()
    monkeypatch.setattr(provenance, "_git", lambda *_, cwd: "0123456789ab")
    plan = make_plan("random")

    def committed_meanwhile(_):
        monkeypatch.setattr(provenance, "_git", lambda *_, cwd: "fedcba987654")

    start(plan, digits, tmp_path / "scores", show=False, log=committed_meanwhile)
    provenance.commit.cache_clear()
    assert read_about(tmp_path / "scores" / "subsets.parquet")["commit"] == "0123456789ab"


def test_a_proxy_that_is_asked_before_it_trains_costs_nothing(make_plan):
    plan = make_plan("el2n,epoch=0", "el2n,epoch=1", "ccs,scores=el2n-0,hard_cutoff=0.2")
    assert list(map(plan.epochs_of_proxies, plan.requests)) == [0, 2, 0]


def test_a_plan_survives_its_folder(make_plan, tmp_path, digits):
    plan = make_plan("k_means,keep=near", "ccs,scores=k_means-keep-near,hard_cutoff=0.2", quotas="none", validation=0.2)
    plan.write(tmp_path)
    assert load_plan(tmp_path) == plan
    assert [request.key for request in plan.requests] == ["k_means-keep-near", "ccs-k_means-keep-near-hard_cutoff-0.2"]


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_killed_call_keeps_its_finished_methods_and_ends_the_same(
    make_plan, tmp_path, digits, in_child, kill_at, monkeypatch, number
):
    def work():
        kill_at(coreset_run, "_write_part", number)
        start(make_plan(), digits, tmp_path / "killed", show=False)

    assert in_child(work) == -signal.SIGKILL
    plan = load_plan(tmp_path / "killed")
    done = []
    original = coreset_run._carried_out
    monkeypatch.setattr(coreset_run, "_carried_out", lambda *given: done.append(given[0].key) or original(*given))
    resumed = resume(plan, digits, tmp_path / "killed", show=False)
    assert done == [request.key for request in plan.in_order()][number - 1 :]
    assert not (tmp_path / "killed" / "parts").exists()
    assert contents(resumed) == contents(start(make_plan(), digits, tmp_path / "whole", show=False))
    done.clear()
    assert contents(resume(plan, digits, tmp_path / "killed", show=False)) == contents(load(tmp_path / "killed"))
    assert done == []


@pytest.mark.parametrize("name", ["write_scores", "write_subsets"])
def test_a_call_killed_before_one_of_its_two_files_writes_both(make_plan, tmp_path, digits, in_child, kill_at, name):
    def work():
        kill_at(coreset_run, name)
        start(make_plan("random"), digits, tmp_path / "killed", show=False)

    assert in_child(work) == -signal.SIGKILL
    resumed = resume(load_plan(tmp_path / "killed"), digits, tmp_path / "killed", show=False)
    assert contents(resumed) == contents(start(make_plan("random"), digits, tmp_path / "whole", show=False))


def test_each_seed_has_its_own_proxies_draws_and_subsets(make_plan, tmp_path, digits):
    plan = make_plan(seeds=(2, 0))
    start(plan, digits, tmp_path / "both", show=False)
    seeds = {int(path.name.rpartition("-seed")[2]) for path in (tmp_path / "proxies").iterdir()}
    assert seeds == {1_000_000, 1_000_001, 1_000_004, 1_000_005}  # two proxies of each, none in common
    found = {seed: load(tmp_path / "both", seed) for seed in (2, 0)}
    for seed, both in found.items():
        alone = start(make_plan(seeds=(seed,)), digits, tmp_path / f"only-{seed}", show=False)
        assert contents(both) == contents(alone) == contents(load(tmp_path / f"only-{seed}"))
    for key, subsets in found[0].subsets.items():
        for ratio, kept in subsets.items():
            assert set(kept.ids) != set(found[2].subsets[key][ratio].ids), (key, ratio)
    scores = parquet.read_table(tmp_path / "both" / "scores.parquet")
    assert scores["seed"].to_pylist() == [2] * N + [0] * N
    assert read_about(tmp_path / "both" / "subsets.parquet")["seeds"] == [2, 0]


def test_a_draw_has_the_seed_of_its_subset(make_plan, tmp_path, digits):
    found = start(make_plan("random", "ccs,scores=random", seeds=(3,)), digits, tmp_path / "out", show=False)
    scores = Random().score(Evidence(labels=digits.train.labels), seed=3)
    expected = CCS().choose(Evidence(labels=digits.train.labels, scores=scores), 60, seed=3)
    assert found.subsets["ccs-random"][0.7].ids.tolist() == expected.indices.tolist()


def test_no_run_starts_from_the_weights_of_a_proxy(make_plan):
    plan = make_plan(seeds=(0, 1, 2))
    seeds = {plan.recipe_of_proxy(seed, number).seed for seed in plan.seeds for number in range(plan.proxies)}
    assert len(seeds) == 6
    assert seeds.isdisjoint(plan.seeds)


def test_more_seeds_leave_the_others_as_they_are(make_plan, tmp_path, digits, monkeypatch):
    start(make_plan(seeds=(0,)), digits, tmp_path / "out", show=False)
    before = contents(load(tmp_path / "out", 0))
    plan = replace(load_plan(tmp_path / "out"), seeds=(0, 1))
    done = []
    original = coreset_run._carried_out
    monkeypatch.setattr(coreset_run, "_carried_out", lambda *given: done.append(given[1]) or original(*given))
    resume(plan, digits, tmp_path / "out", show=False)
    assert done == [1] * len(METHODS)
    assert contents(load(tmp_path / "out", 0)) == before
    start(plan, digits, tmp_path / "whole", show=False)
    for name in ("scores.parquet", "subsets.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_processes_share_the_tasks(make_plan, tmp_path, digits, in_child, monkeypatch):
    plan = make_plan(seeds=(0, 1))
    first = start(plan, digits, tmp_path / "alone", show=False)
    shutil.rmtree(tmp_path / "proxies")
    (tmp_path / "shared").mkdir()
    load_plan(tmp_path / "alone").write(tmp_path / "shared")
    plan, done = load_plan(tmp_path / "shared"), tmp_path / "done"
    original = coreset_run._write_part

    def count(file, arrays):
        original(file, arrays)
        with done.open("a") as lines:
            lines.write(f"{file.name}\n")

    monkeypatch.setattr(coreset_run, "_write_part", count)
    monkeypatch.setattr(coreset_run, "_POLL_S", 0.05)

    def help_here():
        assert in_child(lambda: resume(plan, digits, tmp_path / "shared", show=False)) == 0

    helper = Thread(target=help_here)
    helper.start()
    assert contents(resume(plan, digits, tmp_path / "shared", show=False)) == contents(first)
    helper.join()
    names = done.read_text().splitlines()
    assert sorted(names) == sorted({f"{request.key}-seed{seed}.npz" for request in plan.requests for seed in (0, 1)})
    for name in ("scores.parquet", "subsets.parquet"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@dataclass(frozen=True)
class NeedsValidation(Scorer):
    """Scores by the probability of class 0; stands for a method that needs a validation set."""

    name = "needs_validation"
    label = "needs validation"
    needs = ("labels", "probabilities", "validation")

    def _score(self, evidence, work):
        assert evidence.validation.probabilities is not None
        return evidence.probabilities[:, 0]


def test_samples_that_are_held_out_have_no_score_and_are_not_kept(make_plan, tmp_path, digits, monkeypatch):
    monkeypatch.setitem(registry.BY_NAME, "needs_validation", NeedsValidation)
    plan = make_plan("random", "needs_validation", "ccs,scores=needs_validation", validation=0.1, quotas="equal")
    found = start(plan, digits, tmp_path / "out", show=False)
    held_out = np.flatnonzero(np.isnan(found.scores["needs_validation"]))
    assert len(held_out) == 20
    methods = read_about(tmp_path / "out" / "subsets.parquet")["methods"]
    assert [row["proxy_samples"] for row in methods.values()] == [0, 4 * (N - 20), 4 * (N - 20)]
    assert np.isfinite(found.scores["random"]).all()
    for key in ("needs_validation", "ccs-needs_validation"):
        for ratio, size in ((0.3, 140), (0.7, 60)):
            ids = found.subsets[key][ratio].ids
            assert len(ids) == size
            assert not set(ids) & set(held_out)
    with raises("validation needs a share that is held out, got none; write validation = 0.1"):
        start(make_plan("needs_validation"), digits, tmp_path / "none", show=False)
    with raises(
        "prune_ratio must keep 1 to 180 samples, got 0.05, which keeps 190; write another ratio, or a smaller "
        "validation"
    ):
        start(
            make_plan("needs_validation", validation=0.1, prune_ratios=(0.05,)), digits, tmp_path / "none", show=False
        )


PLANS = {
    "an epoch too late": (
        {"methods": ("el2n,epoch=3",)},
        "epoch must lie in 0 .. 2, the epochs of the proxy, got 3; write more epochs",
    ),
    "no epoch to present": (
        {"methods": ("forgetting,epoch=0",)},
        "presented needs at least one epoch, got epoch 0; write epoch 1 or later",
    ),
    "no sample kept": (
        {"prune_ratios": (0.999,)},
        "prune_ratio must keep 1 to 200 samples, got 0.999, which keeps 0; write another ratio",
    ),
    "no such quotas": ({"quotas": "equel"}, "no quotas named 'equel'; did you mean 'equal'?"),
    "equal methods": (
        {"methods": ("el2n", "el2n")},
        "methods must be given once each, got ['el2n', 'el2n']; leave the repeats out",
    ),
    "no ratios": ({"prune_ratios": ()}, "prune_ratio must be given, got none; write one at least"),
    "scores of a method that is not there": (
        {"methods": ("ccs,scores=el2n-2", "el2n,epoch=1")},
        "ccs needs the scores of a method asked for, got el2n-2; did you mean 'el2n-1'?",
    ),
    "scores of a method that gives none": (
        {"methods": ("ccs,scores=el2n", "el2n", "ccs,scores=ccs-el2n")},
        "ccs needs the scores of a method that scores, got ccs-el2n; write one of el2n",
    ),
    "equal seeds": ({"seeds": (1, 1)}, "seed must be given once each, got [1, 1]; leave the repeats out"),
    "no seed": ({"seeds": ("1",)}, "seed must be a whole number, got '1'; write seed = 0"),
    "no proxy": ({"proxies": 0}, "proxies must be at least 1, got 0; write a positive whole number"),
}


@pytest.mark.parametrize(("changes", "message"), list(PLANS.values()), ids=list(PLANS))
def test_what_does_not_fit_gets_one_line_before_anything_is_written(make_plan, tmp_path, digits, changes, message):
    methods = changes.get("methods", ())
    others = {name: value for name, value in changes.items() if name != "methods"}
    with raises(message):
        start(make_plan(*methods, **others), digits, tmp_path / "out", show=False)
    assert not list(tmp_path.iterdir())


def test_a_class_with_fewer_samples_than_its_quota_is_refused_before_anything_is_written(make_plan, tmp_path, digits):
    data = replace(digits, train=ImageArrays(digits.train.images, digits.train.labels.clamp(max=5)))
    with raises(
        "a quota must not exceed the samples of its class, got 24 for class 0 with 20 samples; "
        'write quotas="proportional"'
    ):
        start(make_plan(quotas="equal"), data, tmp_path / "out", show=False)
    assert not list(tmp_path.iterdir())


REQUESTS = {
    "el3n": "no static method named 'el3n'; did you mean 'el2n'?",
    "el2n,epoch=2.5": "epoch must be a whole number, got 2.5; write el2n,epoch=2",
    "random,epoch=2": "epoch does not apply to static method 'random', got 2; leave epoch out",
    "ccs": "static method 'ccs' needs the scores of another method, got None; write ccs,scores=el2n",
    "el2n,scores=random": "static method 'el2n' chooses by no scores, got random; leave scores out",
    "ccs,scores=el2n,hard_cutof=0.1": (
        "hard_cutof does not apply to static method 'ccs', got 0.1; did you mean 'hard_cutoff'?"
    ),
    "el2n,epoch=2,epoch=3": "epoch is given twice, as 2 and 3; write it once",
    "el2n,": "a setting is NAME=VALUE without spaces, got ''; leave out the last comma, or write epsilon=0.2",
}


@pytest.mark.parametrize(("text", "message"), list(REQUESTS.items()), ids=list(REQUESTS))
def test_a_request_that_is_none_gets_one_line(text, message):
    with raises(message):
        Request.parse(text)


def test_other_data_and_a_folder_of_something_else_are_refused(make_plan, tmp_path, digits):
    start(make_plan("random"), digits, tmp_path / "out", show=False)
    plan = load_plan(tmp_path / "out")
    other = replace(digits, train=ImageArrays(digits.train.images.flip(2), digits.train.labels))
    with raises(
        "the data must be that of the first call, got other images or labels; write the data_root of the first call"
    ):
        resume(plan, other, tmp_path / "out", show=False)
    with raises(
        f"the output folder must be new, got {tmp_path / 'out'}, which exists; write another --output, or --resume "
        f"{tmp_path / 'out'}",
        FileExistsError,
    ):
        start(make_plan("random"), digits, tmp_path / "out", show=False)
    with pytest.raises(ValueError, match=r"^the folder must be one of 'orderdp coreset', with recipe\.toml and"):
        load_plan(Path(tmp_path))

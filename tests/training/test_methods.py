"""Every method by its recipe: what it is built as, what tables call it, and that it trains and goes on."""

import json
import math
import re
import sys

import pytest
import torch

import orderdp
from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import resume, start
from orderdp.training.methods import METHODS, label_of, make_strategy, method_of, setting_of
from orderdp.training.optim import build_schedule
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, total_steps

N = 200
BUILT = {
    "dynamic_random": orderdp.DynamicRandom(prune_ratio=0.25),
    "repeated_random": orderdp.RepeatedRandom(prune_ratio=0.25),
    "infobatch": orderdp.InfoBatch(prune_probability=0.25),
    "epsilon_greedy": orderdp.EpsilonGreedy(prune_ratio=0.25),
    "ucb": orderdp.UCB(prune_ratio=0.25),
    "seta": orderdp.SeTa(prune_ratio=0.25, epochs=7),
    "kakurenbo": orderdp.Kakurenbo(hide=0.25, epochs=7),
    "ordered_sgd": orderdp.OrderedSGD(keep=0.75),
    "selective_backprop": orderdp.SelectiveBackprop(keep=0.75),
}
OPEN = ["infobatch", "seta", "kakurenbo"]


def test_every_method_is_built_with_its_ratio():
    assert set(BUILT) == set(METHODS) - {"orderdp", "full"}
    for name, strategy in BUILT.items():
        assert make_strategy(Recipe(strategy=name, prune_ratio=0.25, epochs=7, label_smoothing=0)) == strategy
    assert make_strategy(Recipe(strategy="full")) == orderdp.FullData()
    assert make_strategy(Recipe(prune_ratio=0.25)) == orderdp.OrderDP(prune_ratio=0.25)


def test_settings_reach_the_strategy_and_the_label():
    recipe = Recipe(strategy="ucb", prune_ratio=0.5, settings={"every": 3, "c": 2.0})
    assert make_strategy(recipe) == orderdp.UCB(prune_ratio=0.5, c=2.0, every=3)
    assert label_of(recipe) == "UCB 50 % c 2.0 every 3"
    annealed = Recipe(strategy="infobatch", prune_ratio=0.5, epochs=8, settings={"epochs": 8})
    assert make_strategy(annealed) == orderdp.InfoBatch(prune_probability=0.5, epochs=8)


def test_a_delta_of_infobatch_anneals_in_the_epochs_of_the_recipe():
    annealed = Recipe(strategy="infobatch", prune_ratio=0.5, epochs=8, settings={"delta": 0.5})
    assert make_strategy(annealed) == orderdp.InfoBatch(prune_probability=0.5, epochs=8, delta=0.5)
    longer = Recipe(strategy="infobatch", prune_ratio=0.5, epochs=8, settings={"delta": 0.5, "epochs": 10})
    assert make_strategy(longer) == orderdp.InfoBatch(prune_probability=0.5, epochs=10, delta=0.5)


@pytest.mark.parametrize(
    ("strategy", "settings", "line"),
    [
        ("ucb", {"epsilon": 0.1}, "got epsilon; it takes c, every, smoothing"),
        ("ucb", {"evry": 1}, r"got evry; did you mean 'every'\?; it takes c, every, smoothing"),
        ("infobatch", {"epoch": 1}, r"got epoch; did you mean 'epochs'\?; it takes delta, epochs"),
        ("dynamic_random", {"prune_ratio": 0.1}, "got prune_ratio; it takes none"),
    ],
)
def test_a_setting_that_the_method_does_not_take_gets_one_line(strategy, settings, line):
    rule = f"settings holds what strategy '{strategy}' takes beside the recipe's own keys, "
    with pytest.raises(ValueError, match=rf"^{rule}{line}$"):
        make_strategy(Recipe(strategy=strategy, prune_ratio=0.5, settings=settings))


@pytest.mark.parametrize("text", ["orderdp", "ucb", "epsilon_greedy", "full"])
def test_a_method_by_name_alone_is_its_strategy(text):
    assert method_of(text) == {"strategy": text}


def test_a_method_is_given_with_keys_of_the_recipe_and_settings_of_its_own():
    given = "orderdp,explore=0.9,exploit=0.5,initial_score=-inf,per=iteration,fresh=true"
    assert method_of(given) == {
        "strategy": "orderdp",
        "explore": 0.9,
        "exploit": 0.5,
        "initial_score": -math.inf,
        "per": "iteration",
        "fresh": True,
    }
    assert method_of("ucb,prune_ratio=0.5,c=2,every=1,smoothing=0.5") == {
        "strategy": "ucb",
        "prune_ratio": 0.5,
        "settings": {"c": 2, "every": 1, "smoothing": 0.5},
    }
    assert Recipe().with_method(method_of("ucb,prune_ratio=0.5,c=2")).settings == {"c": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("orderpd", "no method named 'orderpd'; did you mean 'orderdp'? ('orderdp methods' lists them)"),
        ("OrderDP,explore=0.5", "no method named 'OrderDP'; did you mean 'orderdp'? ('orderdp methods' lists them)"),
        ("xyz", "no method named 'xyz' ('orderdp methods' lists them)"),
        ("ucb,c", "a setting is NAME=VALUE without spaces, got 'c'; write epsilon=0.2"),
        ("ucb,", "a setting is NAME=VALUE without spaces, got ''; write epsilon=0.2"),
        ("ucb,c=", "a setting is NAME=VALUE without spaces, got 'c='; write epsilon=0.2"),
        ("ucb,=1", "a setting is NAME=VALUE without spaces, got '=1'; write epsilon=0.2"),
        ("", "no method named '' ('orderdp methods' lists them)"),
    ],
)
def test_a_method_that_is_none_gets_one_line(text, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        method_of(text)


def test_a_setting_is_a_number_a_truth_or_a_word():
    given = ["a=1", "a=1.5", "a=-inf", "a=1e-3", "a=true", "a=false", "a=per=x"]
    assert [setting_of(text) for text in given] == [
        ("a", value) for value in (1, 1.5, -math.inf, 0.001, True, False, "per=x")
    ]


OWN = """
from dataclasses import dataclass
from orderdp import DynamicRandom, Strategy

@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(DynamicRandom):
    epochs: int
    strength: float = 1.0

@dataclass(frozen=True, repr=False)
class WithoutRatio(Strategy):
    keep: float = 0.5

class NoStrategy:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of strategies in the working directory, which is not on the path."""
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("own_module", None)


@pytest.mark.usefixtures("own")
def test_a_strategy_of_one_s_own_is_a_method_by_module_and_class():
    method = method_of("own_module:Mine,strength=2.0,prune_ratio=0.25")
    recipe = Recipe(epochs=7).with_method(method)
    strategy = make_strategy(recipe)
    assert (type(strategy).__name__, strategy.prune_ratio, strategy.epochs, strategy.strength) == ("Mine", 0.25, 7, 2.0)
    assert label_of(recipe) == "Mine 25 % strength 2.0"
    assert recipe.method() == method


def test_what_tables_call_a_strategy_of_one_s_own_needs_no_module():
    assert label_of(Recipe(strategy="gone.module:Mine", prune_ratio=0.5)) == "Mine 50 %"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        (
            "own_modul:Mine",
            ValueError,
            "strategy must be of a module that can be imported, got 'own_modul:Mine' (No modul",
        ),
        ("own_module:Mien", ValueError, "no Mien in module own_module; did you mean 'Mine'?"),
        (
            "own_module:NoStrategy",
            TypeError,
            "strategy must be a class of orderdp.Strategy and a dataclass, got 'own_mod",
        ),
        ("own_module:OWN_NUMBER", ValueError, "no OWN_NUMBER in module own_module"),
        (
            "own_module:WithoutRatio",
            ValueError,
            "a strategy must take prune_ratio to be trained by name, got 'own_modul",
        ),
    ],
)
def test_what_is_no_strategy_of_one_s_own_gets_one_line(name, kind, line):
    with pytest.raises(kind, match=f"^{re.escape(line)}"):
        make_strategy(Recipe(strategy=name, prune_ratio=0.5))


def test_a_method_says_in_a_table_what_the_ratio_is_for_it():
    assert all(method.label and method.ratio for method in METHODS.values())
    assert len({method.label for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("strategy", sorted(set(METHODS) - {"full"}))
def test_every_method_trains(train, strategy):
    smoothing = {"label_smoothing": 0.0} if strategy == "kakurenbo" else {}
    folder = train(strategy=strategy, prune_ratio=0.5, epochs=3, **smoothing)
    result, metrics = folder.result(), folder.metrics()
    assert (result["epochs"], len(metrics)) == (3, 3)
    steps = total_steps(folder.recipe(), N)
    assert (steps is None) == (strategy in OPEN)
    if steps is None:
        assert metrics[0]["samples_forward"] <= result["samples_forward"] <= 3 * N
        assert result["steps"] <= most_steps(folder.recipe(), N) == 3 * math.ceil(N / 32)
        assert metrics[-1]["lr"] < 0.1 * max(line["lr"] for line in metrics)
    else:
        assert result["steps"] == steps
    batchwise = strategy in ("ordered_sgd", "selective_backprop")
    assert (result["samples_backward"] < result["samples_forward"]) == batchwise


def test_where_the_steps_are_open_the_rate_follows_the_share_of_the_run(train, tiny):
    """Each epoch's last rate is that of its end on a schedule over all the data's steps."""
    folder = train(strategy="infobatch", prune_ratio=0.9, epochs=4)
    recipe, metrics = folder.recipe(), folder.metrics()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    steps = most_steps(recipe, N)
    schedule = build_schedule(
        optimizer,
        total_steps=steps,
        max_lr=recipe.max_lr,
        pct_start=recipe.pct_start,
        div_factor=recipe.div_factor,
        final_div_factor=recipe.final_div_factor,
        name=recipe.schedule,
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    before = 0
    for epoch, line in enumerate(metrics):
        made, before = line["step"] - before, line["step"]
        assert line["lr"] == pytest.approx(rates[round((epoch + (made - 1) / made) / 4 * steps)], rel=1e-9)
    assert metrics[1]["step"] - metrics[0]["step"] < metrics[0]["step"]  # fewer steps an epoch


def test_a_fixed_number_of_steps_needs_epochs_of_known_length():
    with pytest.raises(
        ValueError, match=r"^max_steps needs epochs of known length, got 5 with strategy 'seta', whose ch"
    ):
        total_steps(Recipe(strategy="seta", prune_ratio=0.5, max_steps=5), N)


def test_the_shorter_schedule_takes_the_steps_that_the_method_made(tiny, tmp_path):
    path = tmp_path / "run"
    start(Comparison(tiny(strategy="infobatch", prune_ratio=0.8, epochs=3)), path, show=False)
    runs = {run["name"]: run for run in json.loads((path / "result.json").read_text())["runs"]}
    pruned, short = runs["InfoBatch-80-seed0"], runs["full-data-steps-of-InfoBatch-80-seed0"]
    assert short["steps"] == pruned["steps"] < runs["full-data-seed0"]["steps"]
    for name in ("full-data-steps-of-InfoBatch-80-seed0", "InfoBatch-80-seed0"):
        (path / name / "result.json").unlink()
    resume([path], show=False)
    again = {run["name"]: run for run in json.loads((path / "result.json").read_text())["runs"]}
    assert {name: run["digests"] for name, run in again.items()} == {name: run["digests"] for name, run in runs.items()}

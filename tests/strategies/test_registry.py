"""What each strategy declares, how it is found by name, and that its table makes it again."""

import ast
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orderdp
from orderdp import (
    UCB,
    DynamicRandom,
    EpsilonGreedy,
    FixedSubset,
    FullData,
    InfoBatch,
    Kakurenbo,
    OrderDP,
    OrderedSGD,
    Proportional,
    RepeatedRandom,
    SelectiveBackprop,
    SeTa,
    Strategy,
    citation,
)
from orderdp.coresets import Herding
from orderdp.output.custom import reason_of
from orderdp.strategies.registry import BY_NAME, find, from_table, parse, parse_setting, to_table

BUILT = {
    "orderdp": OrderDP(prune_ratio=0.25),
    "proportional": Proportional(prune_ratio=0.25),
    "dynamic_random": DynamicRandom(prune_ratio=0.25),
    "repeated_random": RepeatedRandom(prune_ratio=0.25),
    "infobatch": InfoBatch(prune_probability=0.25),
    "epsilon_greedy": EpsilonGreedy(prune_ratio=0.25),
    "ucb": UCB(prune_ratio=0.25),
    "seta": SeTa(prune_ratio=0.25, epochs=7),
    "kakurenbo": Kakurenbo(hide=0.25, epochs=7),
    "ordered_sgd": OrderedSGD(keep=0.75),
    "selective_backprop": SelectiveBackprop(keep=0.75),
}
WITHOUT_RATIO = {"full", "fixed_subset"}
OF_OTHERS = {"fixed", "scheduled", "per_class"}  # of a file or another method; each has a file of tests of its own


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_every_strategy_is_built_with_its_ratio():
    assert set(BUILT) == set(BY_NAME) - WITHOUT_RATIO - OF_OTHERS
    for name, strategy in BUILT.items():
        assert from_table({"name": name, "prune_ratio": 0.25}, epochs=7) == strategy
        assert strategy.asked_ratio == 0.25
        assert strategy.describe() == f"{strategy.label} 25 %"


@pytest.mark.parametrize("name", sorted(WITHOUT_RATIO))
def test_a_strategy_without_a_ratio_refuses_one(name):
    with pytest.raises(ValueError, match=rf"^prune_ratio does not apply to strategy '{name}', got 0\.5; "):
        from_table({"name": name, "prune_ratio": 0.5})
    assert find(name).ratio_setting is None


@pytest.mark.parametrize("name", sorted(set(BUILT) - {"orderdp"}))
def test_every_other_strategy_needs_a_ratio_and_takes_no_setting_of_orderdp(name):
    with raises(ValueError, f"prune_ratio is needed by strategy '{name}', got None; write prune_ratio = 0.5"):
        from_table({"name": name}, epochs=3)
    with pytest.raises(ValueError, match=rf"^explore does not apply to strategy '{name}', got 0\.5; "):
        from_table({"name": name, "prune_ratio": 0.5, "explore": 0.5}, epochs=3)


def test_names_and_labels_differ_and_say_what_the_ratio_is():
    classes = BY_NAME.values()
    assert len({cls.label for cls in classes}) == len(BY_NAME)
    assert all(cls.ratio_means != Strategy.ratio_means for cls in classes)
    assert [cls.name for cls in classes if not cls.prunes] == ["full"]
    assert next(iter(BY_NAME)) == "orderdp"


def test_what_others_ask_of_a_strategy():
    in_batch = {OrderDP(per="iteration", fresh=True), OrderedSGD(keep=0.5), SelectiveBackprop(keep=0.5)}
    others = {OrderDP(), OrderDP(per="iteration"), *BUILT.values()} - {
        BUILT[n] for n in BUILT if "_b" in n or "sgd" in n
    }
    assert all(strategy.chooses_in_batch for strategy in in_batch)
    assert not any(strategy.chooses_in_batch for strategy in others)
    assert [name for name, strategy in BUILT.items() if strategy.needs_plain_losses] == ["kakurenbo"]
    assert not Kakurenbo(epochs=7, confidence=0.53).needs_plain_losses
    assert [name for name, strategy in BUILT.items() if strategy.surrogate_sizes(1000)] == ["orderdp"]
    assert OrderDP(prune_ratio=0.5).surrogate_sizes(1000) == (707, 500)
    assert OrderDP(prune_ratio=0.5, uniform_share=0.1).surrogate_sizes(1000) is None
    assert OrderDP(prune_ratio=0.5, per="iteration").surrogate_sizes(1000) is None
    assert [strategy.asked_ratio for strategy in (OrderDP(), OrderDP(exploit=0.5), FullData())] == [0.7, 0.75, None]


LABELS = [
    (OrderDP(), "OrderDP"),
    (OrderDP(prune_ratio=0.3000001), "OrderDP 30.00001 %"),
    (OrderDP(explore=1, exploit=0.5), "OrderDP explore 1 exploit 0.5"),
    (OrderDP(exploit=0.5), "OrderDP explore 0.5 exploit 0.5"),
    (OrderDP(initial_score=-math.inf, uniform_share=0.1), "OrderDP unseen at -inf uniform share 0.1"),
    (OrderDP(prune_ratio=0.5, per="iteration"), "OrderDP 50 % per iteration"),
    (OrderDP(prune_ratio=0.5, per="iteration", fresh=True), "OrderDP 50 % per iteration, fresh"),
    (InfoBatch(prune_probability=0.3), "InfoBatch 30 %"),
    (InfoBatch(prune_probability=0.3, epochs=20), "InfoBatch 30 % delta 0.875"),
    (InfoBatch(prune_probability=0.99, least_kept=0.1), "InfoBatch 99 % least_kept 0.1"),
    (InfoBatch(prune_probability=0.3, epochs=30, delta=0.5), "InfoBatch 30 % delta 0.5 epochs 30"),
    (EpsilonGreedy(prune_ratio=0.3, every=1), "ε-greedy 30 % every 1"),
    (UCB(prune_ratio=0.3, c=2, every=1), "UCB 30 % c 2 every 1"),
    (SeTa(prune_ratio=0.3, epochs=20), "SeTa 30 %"),
    (Kakurenbo(hide=0.7, epochs=20, confidence=0.53), "KAKURENBO 70 % confidence 0.53"),
    (OrderedSGD(keep=0.7), "ordered SGD 30 %"),
    (OrderedSGD(keep=1 / 3), "ordered SGD 66.6666666667 %"),
    (SelectiveBackprop(keep=1 - 0.7), "selective backprop 70 %"),
    (FixedSubset([3, 0, 7]), "fixed subset of 3 samples, 9fc3c9ea"),
    (FullData(), "full data"),
]


@pytest.mark.parametrize(("strategy", "label"), LABELS, ids=[label for _, label in LABELS])
def test_a_strategy_has_its_label_and_survives_its_table(strategy, label):
    assert strategy.describe(20) == label
    assert strategy.describe() == label.removesuffix(" epochs 30")
    assert from_table(to_table(strategy)) == strategy
    assert from_table(to_table(strategy, epochs=20), epochs=20) == strategy
    assert from_table(to_table(strategy, epochs=5), epochs=5) == strategy


def test_a_table_holds_the_size_and_what_is_not_at_its_default():
    assert to_table(OrderDP()) == {"name": "orderdp"}
    assert to_table(InfoBatch()) == {"name": "infobatch", "prune_ratio": 0.5}
    assert to_table(InfoBatch(epochs=8), epochs=8) == {"name": "infobatch", "prune_ratio": 0.5, "delta": 0.875}
    assert to_table(SeTa(prune_ratio=0.5, epochs=8), epochs=9) == {"name": "seta", "prune_ratio": 0.5, "epochs": 8}
    assert to_table(OrderedSGD(keep=1 - 0.3)) == {"name": "ordered_sgd", "prune_ratio": 0.3}
    assert to_table(OrderedSGD(keep=1 / 3)) == {"name": "ordered_sgd", "keep": 1 / 3}


def test_infobatch_anneals_where_delta_or_epochs_are_given():
    table = {"name": "infobatch", "prune_ratio": 0.5}
    assert from_table(table, epochs=8) == InfoBatch()
    assert from_table({**table, "delta": 0.5}, epochs=8) == InfoBatch(epochs=8, delta=0.5)
    assert from_table({**table, "epochs": 10}, epochs=8) == InfoBatch(epochs=10)


def test_the_epochs_of_a_strategy_follow_those_of_its_run():
    for strategy in (SeTa(prune_ratio=0.5, epochs=8), InfoBatch(epochs=8)):
        assert strategy.for_epochs(3, instead_of=8).epochs == 3
        assert strategy.for_epochs(3, instead_of=7) == strategy
    assert InfoBatch().for_epochs(3, instead_of=8) == InfoBatch()
    assert UCB(prune_ratio=0.5).for_epochs(3, instead_of=8) == UCB(prune_ratio=0.5)


TAKES = "prune_ratio, c, smoothing, every"
REFUSED = [
    ({"name": "ucb", "epsilon": 0.1}, f"epsilon does not apply to strategy 'ucb', got 0.1; it takes {TAKES}"),
    ({"name": "ucb", "evry": 1}, "evry does not apply to strategy 'ucb', got 1; did you mean 'every'?"),
    ({"name": "infobatch", "epoch": 1}, "epoch does not apply to strategy 'infobatch', got 1; did you mean 'epochs'?"),
    ({"name": "full", "x": 1}, "x does not apply to strategy 'full', got 1; leave x out"),
    (
        {"name": "ordered_sgd", "prune_ratio": 50},
        "prune_ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5",
    ),
    (
        {"name": "ordered_sgd", "prune_ratio": 0.5, "keep": 0.5},
        "prune_ratio excludes keep, got 0.5 and 0.5; write one",
    ),
    ({"name": "fixed_subset"}, "indices is needed by strategy 'fixed_subset', got None; write indices = ..."),
    ({"name": "seta", "prune_ratio": 0.5}, "epochs is needed by strategy 'seta', got None; write epochs = ..."),
    ({"prune_ratio": 0.5}, "strategy must have a name, got {'prune_ratio': 0.5}; write name = \"orderdp\""),
    ({"name": 3}, "no strategy named 3 ('orderdp methods' lists them; a class of yours is MODULE:CLASS)"),
]


@pytest.mark.parametrize(("table", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_table_that_makes_no_strategy_gets_one_line(table, message):
    with raises(ValueError, message):
        from_table(table)


@pytest.mark.parametrize("text", ["orderdp", "ucb", "epsilon_greedy", "full"])
def test_a_method_by_name_alone_is_its_table(text):
    assert parse(text) == {"name": text}


def test_a_method_is_given_with_its_settings():
    given = "orderdp,explore=0.9,exploit=0.5,initial_score=-inf,per=iteration,fresh=true"
    settings = {"explore": 0.9, "exploit": 0.5, "initial_score": -math.inf, "per": "iteration", "fresh": True}
    assert parse(given) == {"name": "orderdp", **settings}
    assert parse("ucb,prune_ratio=0.5,c=2,every=1") == {"name": "ucb", "prune_ratio": 0.5, "c": 2, "every": 1}


LISTED = "('orderdp methods' lists them; a class of yours is MODULE:CLASS)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("orderpd", f"no strategy named 'orderpd'; did you mean 'orderdp'? {LISTED}"),
        ("OrderDP,explore=0.5", f"no strategy named 'OrderDP'; did you mean 'orderdp'? {LISTED}"),
        ("xyz", f"no strategy named 'xyz' {LISTED}"),
        ("ucb,c", "a setting is NAME=VALUE without spaces, got 'c'; write epsilon=0.2"),
        (
            "ucb,",
            "a setting is NAME=VALUE without spaces, got ''; leave out the last comma, or write epsilon=0.2",
        ),
        ("ucb,c=", "a setting is NAME=VALUE without spaces, got 'c='; write epsilon=0.2"),
        ("ucb, c=1", "a setting is NAME=VALUE without spaces, got ' c=1'; write epsilon=0.2"),
        ("ucb,=1", "a setting is NAME=VALUE without spaces, got '=1'; write epsilon=0.2"),
        ("", f"no strategy named '' {LISTED}"),
        ("scheduled:orderdp,start=0.5,start=0.7", "start is given twice, as 0.5 and 0.7; write it once"),
        ("scheduled:orderdp,inner=ucb", "inner is given twice, as orderdp and ucb; write it once"),
        ("ucb,c=1,c=1", "c is given twice, as 1 and 1; write it once"),
    ],
)
def test_a_method_that_is_none_gets_one_line(text, line):
    with raises(ValueError, line):
        parse(text)


def test_a_setting_is_a_number_a_truth_or_a_word():
    given = ["a=1", "a=1.5", "a=-inf", "a=1e-3", "a=true", "a=false", "a=per=x"]
    assert [parse_setting(text) for text in given] == [
        ("a", value) for value in (1, 1.5, -math.inf, 0.001, True, False, "per=x")
    ]


CUSTOM = """
from dataclasses import dataclass
from orderdp import DynamicRandom, EpsilonGreedy, OrderedSGD, Strategy

@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(DynamicRandom):
    epochs: int
    strength: float = 1.0

@dataclass(frozen=True, kw_only=True, repr=False)
class Batchwise(OrderedSGD):
    pass

@dataclass(frozen=True, repr=False)
class WithoutRatio(Strategy):
    keep: float = 0.5

@dataclass(frozen=True, repr=False)
class Renamed(DynamicRandom):
    name = "dynamic_random"

@dataclass(frozen=True, repr=False)
class WithoutSelect(Strategy):
    prune_ratio: float = 0.5

@dataclass(frozen=True, kw_only=True)
class NeedsMore(DynamicRandom):
    def __init__(self, prune_ratio, strength):
        object.__setattr__(self, "prune_ratio", prune_ratio)

@dataclass(frozen=True, kw_only=True)
class TakesMore(DynamicRandom):
    def __init__(self, prune_ratio, *more, **rest):
        object.__setattr__(self, "prune_ratio", prune_ratio)

class Refuses(EpsilonGreedy):
    def __post_init__(self):
        super().__post_init__()
        if self.every > 5:
            raise ValueError(f"every must be at most 5, got {self.every}; write 5")

class NoStrategy:
    pass
"""


@pytest.fixture
def custom(tmp_path, monkeypatch):
    """A module of strategies in the working directory, which is not on the path."""
    (tmp_path / "custom_module.py").write_text(CUSTOM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("custom_module", None)


@pytest.mark.usefixtures("custom")
def test_a_custom_strategy_is_found_by_module_and_class():
    table = parse("custom_module:Mine,strength=2.0,prune_ratio=0.25")
    assert "custom_module" not in sys.modules
    strategy = from_table(table, epochs=7)
    assert (strategy.label, strategy.prune_ratio, strategy.epochs, strategy.strength) == ("Mine", 0.25, 7, 2.0)
    assert strategy.describe(7) == "Mine 25 % strength 2"
    assert to_table(strategy, epochs=7) == table
    assert citation(strategy) == citation(DynamicRandom(prune_ratio=0.5))


@pytest.mark.usefixtures("custom")
def test_a_custom_strategy_may_be_held_by_another_method_and_have_an_init_of_its_own():
    held = from_table(parse("per_class:custom_module:Mine,prune_ratio=0.25"), epochs=7)
    assert (held.describe(7), held.strategy.epochs) == ("Mine 25 % per class", 7)
    assert from_table({"name": "custom_module:TakesMore", "prune_ratio": 0.25}).prune_ratio == 0.25
    message = (
        "the method of 'scheduled' must hold no other method, got per_class; write scheduled:orderdp, or per_class:"
    )
    with pytest.raises(ValueError, match=f"^{message}orderdp alone$"):
        from_table(parse("scheduled:per_class:custom_module:Mine,start=0.5"), epochs=7)
    message = "the method of 'scheduled' must hold no other method, got scheduled; write scheduled:orderdp"
    with raises(ValueError, message):
        from_table(parse("scheduled:scheduled:custom_module:Mine,start=0.5"), epochs=7)
    message = "a strategy is named without its file here, got 'fixed:a.parquet'; write fixed, and file=a.parquet beside"
    with raises(ValueError, f"{message} it"):
        from_table(parse("scheduled:fixed:a.parquet,start=0.5"), epochs=7)


@pytest.mark.usefixtures("custom")
@pytest.mark.parametrize(
    ("every", "kind", "line"),
    [
        (9, ValueError, "every must be at most 5, got 9; write 5"),
        ("often", TypeError, "every must be a whole number, got 'often'; write an int"),
    ],
)
def test_a_setting_that_a_custom_strategy_refuses_is_no_fault_of_its_code(every, kind, line):
    with raises(kind, line):
        from_table({"name": "custom_module:Refuses", "prune_ratio": 0.5, "every": every})


def test_a_method_of_orderdp_may_be_named_as_a_custom_one_and_its_code_is_not():
    assert from_table({"name": "orderdp:OrderDP", "prune_ratio": 0.5}) == OrderDP(prune_ratio=0.5)
    with raises(ValueError, "explore is a fraction and must lie in (0, 1], got 50; for 50 % write 0.5") as caught:
        OrderDP(explore=50)
    assert reason_of(caught.value) == str(caught.value)


@pytest.mark.usefixtures("custom")
def test_a_custom_strategy_inherits_what_its_ratio_sets():
    strategy = from_table({"name": "custom_module:Batchwise", "prune_ratio": 0.25})
    assert (strategy.keep, strategy.describe()) == (0.75, "Batchwise 25 %")
    assert citation(strategy) == citation(OrderedSGD(keep=0.5))


@pytest.mark.usefixtures("custom")
@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("custom_modul:Mine", ValueError, "strategy must be of a module that can be imported, got 'custom_modul:Mine'"),
        ("custom_module:Mien", ValueError, "no Mien in module custom_module; did you mean 'Mine'?"),
        ("custom_module:NUMBER", ValueError, "no NUMBER in module custom_module"),
        (
            "custom_module:NoStrategy",
            TypeError,
            "strategy must be a class of orderdp.Strategy and a dataclass, got",
        ),
        (
            "custom_module:WithoutRatio",
            ValueError,
            "a strategy must take prune_ratio to be trained by name, got",
        ),
        (
            "custom_module:WithoutSelect",
            TypeError,
            "a strategy must define num_selected and select, got 'custom_module:WithoutSelect' without; see docs/ext",
        ),
        (
            "custom_module.py:Mine",
            ValueError,
            "strategy must be of a module that can be imported, got 'custom_module.py:Mine' (No module named "
            "'custom_module.py'; 'custom_module' is not a package); write custom_module:Mine",
        ),
        (
            "custom_module:NeedsMore",
            ValueError,
            "a strategy's settings must be fields of its dataclass, got strength of 'custom_module:NeedsMore' in "
            "__init__ alone; write strength: float in the class",
        ),
        (
            "per_class:custom_module:Mine",
            ValueError,
            "a strategy is named without its inner here, got 'per_class:custom_module:Mine'; write per_class, and "
            "inner=custom_module:Mine beside it",
        ),
        (  # else its files would name the method that it is not
            "custom_module:Renamed",
            ValueError,
            "name must be left out of a custom strategy, which files call MODULE:CLASS, got 'dynamic_random'",
        ),
    ],
)
def test_what_is_no_custom_strategy_gets_one_line(name, kind, line):
    with pytest.raises(kind, match=f"^{re.escape(line)}"):
        from_table({"name": name, "prune_ratio": 0.5})


BROKEN = {
    "number = 1\n1 / 0": "ZeroDivisionError: division by zero, in broken_module.py, line 2",
    "import not_there": "ModuleNotFoundError: No module named 'not_there', in broken_module.py, line 1",
    "def f(:": "SyntaxError: invalid syntax (broken_module.py, line 1)",
    "raise RuntimeError": "RuntimeError, in broken_module.py, line 1",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_module_that_fails_is_named_with_the_line(code, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    message = f"got 'broken_module:Mine' ({BROKEN[code]}); mend it, or install what it needs"
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        find("broken_module:Mine")


ENTRY = r"@(inproceedings|article|misc)\{([a-z0-9]+),\n((?:  [a-z]+ = \{.*\},\n)+)\}"


@pytest.mark.parametrize("strategy", [*BUILT.values(), FullData(), FixedSubset([0])], ids=repr)
def test_a_citation_is_bibtex(strategy):
    entries = citation(strategy).split("\n\n")
    parsed = [re.fullmatch(ENTRY, entry) for entry in entries]
    assert all(parsed), entries
    for entry in parsed:
        keys = re.findall(r"^  ([a-z]+) = ", entry[3], flags=re.MULTILINE)
        assert len(set(keys)) == len(keys)
        assert {"title", "author"} <= set(keys)
        assert entry[3].count("{") == entry[3].count("}")
    assert parsed[-1][2] == "orderdp"
    assert orderdp.__version__ in entries[-1]


def test_each_published_strategy_cites_its_publication():
    cited = {name: re.findall(r"@\w+\{(\w+),", citation(strategy))[:-1] for name, strategy in BUILT.items()}
    assert cited.pop("dynamic_random") == []
    assert all(len(keys) == 1 for keys in cited.values())
    assert len({keys[0] for keys in cited.values()}) == len(cited) - 1  # ε-greedy and UCB are of one paper
    ours = citation(OrderDP())
    authors = "Jin, Chenhan and Xu, Shengze and Wang, Qingsong and Jia, Fan and Chen, Dingshuo and Zeng, Tieyong"
    assert all(part in ours for part in (authors, "2606.08574", "2026", "theoretically guaranteed lossless"))


TITLES = {
    "orderdp": "{OrderDP}: ",
    "repeated_random": "Repeated random sampling ",
    "infobatch": "{InfoBatch}: ",
    "epsilon_greedy": "Accelerating deep learning with dynamic data pruning",
    "ucb": "Accelerating deep learning with dynamic data pruning",
    "seta": "Scale efficient training ",
    "kakurenbo": "{KAKURENBO}: ",
    "ordered_sgd": "Ordered {SGD}: ",
    "selective_backprop": "Accelerating deep learning by focusing on the biggest losers",
}


@pytest.mark.parametrize(("name", "title"), list(TITLES.items()), ids=list(TITLES))
def test_a_strategy_cites_its_own_publication(name, title):
    assert f"  title = {{{title}" in citation(BUILT[name]).split("\n\n")[0]


def test_a_citation_is_of_a_method():
    rule = "method must be a strategy or a static method, got"
    for wrong, shown in (("orderdp", "'orderdp'"), (OrderDP, "<class 'orderdp.strategies.orderdp.OrderDP'>")):
        with raises(TypeError, f"{rule} {shown}; write citation(OrderDP())"):
            citation(wrong)


def test_a_citation_may_be_of_a_static_method():
    assert "Herding" in citation(Herding()).partition("\n\n")[0]


ROOT = Path(__file__).parents[2]
STEPS = [
    "src/orderdp/strategies/",
    "src/orderdp/strategies/registry.py",
    "tests/strategies/test_laws.py",
    "docs/strategies.md",
]
NEWEST = """
from dataclasses import dataclass
from orderdp.strategies.dynamic_random import DynamicRandom

@dataclass(frozen=True, kw_only=True, repr=False)
class Newest(DynamicRandom):
    name = "newest"
    label = "the newest"
"""
ASK = """
import orderdp, sys
from orderdp.cli import main
from orderdp.training.recipe import Recipe
assert "Newest" in orderdp.__all__ and "Newest" in orderdp.strategies.__all__
assert Recipe(strategy={"name": "newest", "prune_ratio": 0.5}).strategy == orderdp.Newest(prune_ratio=0.5)
sys.exit(main(["methods"]))
"""


def test_the_documented_steps_are_a_file_a_row_a_law_and_a_card():
    for document, heading in (
        ("docs/extend.md", "## Adding a method to the library"),
        ("CONTRIBUTING.md", "### A strategy"),
    ):
        text = (ROOT / document).read_text(encoding="utf-8").partition(f"{heading}\n\n")[2].partition("\n\n")[0]
        listed = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
        assert [re.findall(r"`(\w+/[\w/.]+)`", step) for step in listed] == [[step] for step in STEPS], document


@pytest.mark.slow
def test_a_file_and_a_row_are_all_that_a_new_strategy_needs_to_be_used_and_the_tests_ask_for_the_rest(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    folder, registry = tmp_path / STEPS[0], tmp_path / STEPS[1]
    (folder / "newest.py").write_text(NEWEST)
    text = registry.read_text(encoding="utf-8")
    text = text.replace("\n__all__", "from orderdp.strategies.newest import Newest\n\n__all__", 1)
    registry.write_text(text.replace('    "FullData",\n', '    "FullData",\n    "Newest",\n'), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    done = python("-c", ASK)
    assert done.returncode == 0, done.stderr
    assert "newest              the newest" in done.stdout
    law = "tests/strategies/test_laws.py::test_every_public_strategy_has_a_row"
    card = "tests/test_documents.py::test_every_strategy_has_a_card_whose_calls_are_valid"
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", law, card)
    assert [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")] == [
        f"FAILED {law}",
        f"FAILED {card}",
    ]


def test_nothing_outside_their_folder_asks_which_strategy_it_holds():
    # Not the package, the reference of a comparison, a kind of quotas, and a field of saved states.
    names = set(BY_NAME) - {"orderdp", "full", "proportional", "scheduled"}
    classes = {cls.__name__ for cls in BY_NAME.values()}
    for path in (ROOT / "src").rglob("*.py"):
        if path.parent.name == "strategies":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in names, (path, node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                assert not asked & classes, (path, node.lineno)
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                compared = {side.value for side in sides if isinstance(side, ast.Constant)}
                strategy = any(isinstance(side, ast.Attribute) and side.attr in ("strategy", "name") for side in sides)
                assert not (strategy and compared & set(BY_NAME)), (path, node.lineno)

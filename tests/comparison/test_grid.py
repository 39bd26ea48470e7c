"""Which runs a plan lists, and that its folder gives it back."""

import math
import re

import pytest

from orderdp import UCB, OrderDP, Pruner
from orderdp.comparison.grid import Comparison, grid, load_comparison, with_method
from orderdp.comparison.planned import Sizes
from orderdp.strategies.registry import parse
from orderdp.training.recipe import Recipe
from orderdp.training.steps import total_steps

N = 200


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


class Mine(UCB):
    label = "UCB"


class One(OrderDP):
    label = "Méthode à"


class Other(OrderDP):
    label = "Méthode é"


def orderdp(*ratios):
    return tuple({"name": "orderdp", "prune_ratio": ratio} for ratio in ratios)


# Comparison, then label, folder and exact steps of each run in order. Batches of 32 of 200 samples, 3 epochs.
MEMBERS = {
    "a recipe's own sizes": (
        {"explore": 0.5, "exploit": 0.6},
        {},
        [
            ("OrderDP explore 0.5 exploit 0.6", "OrderDP-explore-0.5-exploit-0.6-seed0", 6),
            ("full data", "full-data-seed0", 21),
            (
                "full data, steps of OrderDP explore 0.5 exploit 0.6",
                "full-data-steps-of-OrderDP-explore-0.5-exploit-0.6-seed0",
                6,
            ),
        ],
    ),
    "the default sizes": ({}, {"against": ()}, [("OrderDP", "OrderDP-seed0", 6)]),
    "one size of two": (
        {"exploit": 0.6, "per": "iteration", "fresh": True},
        {"against": ("short",)},
        [
            (
                "OrderDP explore 0.5 exploit 0.6 per iteration, fresh",
                "OrderDP-explore-0.5-exploit-0.6-per-iteration-fresh-seed0",
                12,
            ),
            (
                "full data, steps of OrderDP explore 0.5 exploit 0.6 per iteration, fresh",
                "full-data-steps-of-OrderDP-explore-0.5-exploit-0.6-per-iteration-fresh-seed0",
                12,
            ),
        ],
    ),
    "ratios and seeds": (
        {"prune_ratio": 0.9},
        {"methods": orderdp(0.3, 0.075), "seeds": (4, 1)},
        [
            ("OrderDP 30 %", "OrderDP-30-seed4", 15),
            ("OrderDP 7.5 %", "OrderDP-7.5-seed4", 18),
            ("full data", "full-data-seed4", 21),
            ("full data, steps of OrderDP 30 %", "full-data-steps-of-OrderDP-30-seed4", 15),
            ("full data, steps of OrderDP 7.5 %", "full-data-steps-of-OrderDP-7.5-seed4", 18),
            ("OrderDP 30 %", "OrderDP-30-seed1", 15),
            ("OrderDP 7.5 %", "OrderDP-7.5-seed1", 18),
            ("full data", "full-data-seed1", 21),
            ("full data, steps of OrderDP 30 %", "full-data-steps-of-OrderDP-30-seed1", 15),
            ("full data, steps of OrderDP 7.5 %", "full-data-steps-of-OrderDP-7.5-seed1", 18),
        ],
    ),
    "ratios that differ in the eighth digit": (
        {},
        {"methods": orderdp(0.30000001, 0.30000002), "against": ()},
        [
            ("OrderDP 30.000001 %", "OrderDP-30.000001-seed0", 15),
            ("OrderDP 30.000002 %", "OrderDP-30.000002-seed0", 15),
        ],
    ),
    "dynamic random": (
        {"strategy": "dynamic_random", "prune_ratio": 0.5, "drop_last": True},
        {},
        [
            ("dynamic random 50 %", "dynamic-random-50-seed0", 9),
            ("full data", "full-data-seed0", 18),
            ("full data, steps of dynamic random 50 %", "full-data-steps-of-dynamic-random-50-seed0", 9),
        ],
    ),
    "max_steps": (
        {"prune_ratio": 0.5, "max_steps": 8},
        {"against": ()},
        [("OrderDP 50 %", "OrderDP-50-seed0", 8)],
    ),
    "full data": ({"strategy": "full"}, {"seeds": (0, 1)}, [("full data", f"full-data-seed{i}", 21) for i in (0, 1)]),
}


@pytest.mark.parametrize(("settings", "plan", "expected"), list(MEMBERS.values()), ids=list(MEMBERS))
def test_a_plan_lists_its_runs_with_exact_steps(tiny, settings, plan, expected):
    members = Comparison(tiny(**settings), **plan).members(N)
    assert [(member.label, member.name, total_steps(member.recipe, N)) for member in members] == expected
    names = [member.name for member in members]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", name) for name in names)


@pytest.mark.parametrize("epochs", [7, 11])  # 2 steps each, where full data has 7: 2 whole epochs, and 4 cut short
def test_a_short_schedule_has_the_pruned_runs_steps_and_no_method(tiny, epochs):
    common = {"epochs": epochs, "augment": "crop", "seed": 2}
    recipe = tiny(explore=0.7, exploit=0.4, uniform_share=0.1, initial_score=3.0, **common)
    pruned, full, short = Comparison(recipe, seeds=(2,)).members(N)
    assert pruned.recipe == recipe
    assert Pruner(OrderDP(explore=0.7, exploit=0.4), N).total_steps(epochs, 32) == 2 * epochs
    assert full.recipe == tiny(strategy="full", **common)
    cut = {"epochs": {7: 2, 11: 4}[epochs], "max_steps": 2 * epochs}
    assert short.recipe == tiny(strategy="full", **{**common, **cut})


def test_a_limit_of_steps_is_refused_where_it_would_make_all_runs_alike():
    with raises(
        ValueError,
        "max_steps cuts the pruned run and its references equally, got 8; leave it out, or compare against nothing",
    ):
        Comparison(Recipe(max_steps=8))


REFUSED = {
    "mistyped reference": ({"against": ("ful",)}, "no reference named 'ful'; did you mean 'full'?"),
    "unknown reference": (
        {"against": ("xyz",)},
        "no reference named 'xyz'; choose from full, short, or give none of them",
    ),
    "method twice": (
        {"methods": orderdp(0.5, 0.25, 0.5)},
        "methods must be given once each, got ['OrderDP 50 %', 'OrderDP 25 %', 'OrderDP 50 %']; leave the repeats out",
    ),
    "method twice, in other words": (
        {"methods": (*orderdp(0.5), {"name": "orderdp", "prune_ratio": 0.5, "initial_score": math.inf})},
        "methods must be given once each, got ['OrderDP 50 %', 'OrderDP 50 %']; leave the repeats out",
    ),
    "seed twice": ({"seeds": (1, 2, 1)}, "seed must be given once each, got [1, 2, 1]; leave the repeats out"),
    "reference twice": (
        {"against": ("full", "full")},
        "against must be given once each, got ['full', 'full']; leave the repeats out",
    ),
}


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_plan_that_cannot_be_is_refused(settings, message):
    with raises(ValueError, message):
        Comparison(Recipe(), **settings)


def members_of(plan):
    return {member.label: member for member in plan.members(N)}


OPEN = {"name": "infobatch", "prune_ratio": 0.5}  # how many samples an epoch has depends on the losses
BATCHWISE = {"name": "ordered_sgd", "prune_ratio": 0.5}  # forwards all the data, so makes full data's steps


def test_methods_of_equal_steps_share_a_shorter_schedule(tiny):
    random = {"name": "dynamic_random", "prune_ratio": 0.5}
    members = members_of(Comparison(tiny(), methods=(*orderdp(0.5, 0.3), random)))
    assert list(members) == [
        "OrderDP 50 %",
        "OrderDP 30 %",
        "dynamic random 50 %",
        "full data",
        "full data, steps of OrderDP 50 %",
        "full data, steps of OrderDP 30 %",
    ]
    assert {label: member.short for label, member in members.items()} == {
        "OrderDP 50 %": "full data, steps of OrderDP 50 %",
        "OrderDP 30 %": "full data, steps of OrderDP 30 %",
        "dynamic random 50 %": "full data, steps of OrderDP 50 %",
        "full data": None,
        "full data, steps of OrderDP 50 %": None,
        "full data, steps of OrderDP 30 %": None,
    }
    for label, member in members.items():
        if member.short is not None:
            assert total_steps(members[member.short].recipe, N) == total_steps(member.recipe, N), label
    assert all(member.steps_of is None for member in members.values())


def test_a_shared_shorter_schedule_has_the_ratio_of_the_run_that_it_is_named_after(tiny):
    table = Comparison(tiny(), methods=orderdp(0.5, 0.501)).table(Sizes(N, 360))
    runs = {run["label"]: run for run in table["runs"]}
    short = runs["full data, steps of OrderDP 50 %"]
    assert {run.get("short") for run in runs.values() if not run["reference"]} == {short["label"]}
    assert (short["ratio"], short["method"]) == (0.5, "full data, steps of OrderDP")


@pytest.mark.parametrize(
    ("size", "start", "ratio", "method"),
    [
        ({"prune_ratio": 0.5}, 0.5, 0.5, "OrderDP, epochs 50–100 %"),
        ({"prune_ratio": 0.3}, 0.5, 0.3, "OrderDP, epochs 50–100 %"),
        ({"explore": 0.5, "exploit": 1.0}, 0.5, 0.5, "OrderDP explore 0.5 exploit 1, epochs 50–100 %"),
    ],
)
def test_shares_of_a_schedule_are_not_taken_for_the_ratio(tiny, size, start, ratio, method):
    given = {"name": "scheduled", "inner": "orderdp", "start": start, **size}
    plan = Comparison(tiny(), methods=(given,))
    pruned, _, short = plan.table(Sizes(N, 360))["runs"]
    assert (pruned["method"], pruned["ratio"]) == (method, ratio)
    assert (short["method"], short["ratio"]) == (f"full data, steps of {method}", ratio)
    assert plan.members(N)[0].title == pruned["label"] + ("" if "prune_ratio" in size else " (prunes 50 %)")


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_a_shorter_schedule_has_the_pruned_runs_steps_on_several_ranks(tiny, num_ranks):
    members = {member.label: member for member in Comparison(tiny(), methods=orderdp(0.3)).members(N, num_ranks)}
    pruned = members["OrderDP 30 %"]
    assert pruned.short == "full data, steps of OrderDP 30 %"
    short = members[pruned.short].recipe
    assert total_steps(short, N, num_ranks) == total_steps(pruned.recipe, N, num_ranks)
    assert short.epochs == math.ceil(short.max_steps / math.ceil(N / (32 * num_ranks)))


def test_full_data_is_the_shorter_schedule_of_what_forwards_everything(tiny):
    members = members_of(Comparison(tiny(), methods=(BATCHWISE, *orderdp(0.5))))
    assert members["ordered SGD 50 %"].short == "full data"
    assert total_steps(members["full data"].recipe, N) == total_steps(members["ordered SGD 50 %"].recipe, N)
    assert list(members)[2:] == ["full data", "full data, steps of OrderDP 50 %"]


def test_without_full_data_what_forwards_everything_has_a_reference_of_its_own(tiny):
    members = members_of(Comparison(tiny(), methods=(BATCHWISE,), against=("short",)))
    short = members["ordered SGD 50 %"].short
    assert (short, list(members)[1:]) == ("full data, steps of ordered SGD 50 %", [short])
    assert total_steps(members[short].recipe, N) == 21


@pytest.mark.parametrize("seed", [0, 3])
def test_an_open_number_of_steps_is_taken_from_the_run_that_makes_them(tiny, seed):
    other = {**OPEN, "delta": 0.5}
    members = members_of(Comparison(tiny(), methods=(OPEN, other), seeds=(seed,)))
    labels = ["InfoBatch 50 %", "InfoBatch 50 % delta 0.5"]
    shorts = [f"full data, steps of {label}" for label in labels]
    assert list(members) == [*labels, "full data", *shorts]
    for label, short in zip(labels, shorts, strict=True):
        assert members[label].short == short
        assert members[short].steps_of == members[label].name
        assert members[short].name.endswith(f"-seed{seed}")
        assert (members[short].recipe, members[short].short) == (tiny(strategy="full", seed=seed), None)


def test_nothing_is_shortened_where_the_plan_does_not_ask_for_it(tiny):
    members = members_of(Comparison(tiny(), methods=(OPEN, *orderdp(0.5)), against=("full",)))
    assert list(members) == ["InfoBatch 50 %", "OrderDP 50 %", "full data"]
    assert all(member.short is None for member in members.values())


def test_full_data_among_the_methods_is_made_once(tiny):
    for against in (("full", "short"), ("full",), ("short",), ()):
        plan = Comparison(tiny(), methods=({"name": "full"}, *orderdp(0.5)), against=against)
        labels = [member.label for member in plan.members(N)]
        assert labels.count("full data") == 1
        assert len(set(labels)) == len(labels)


TITLES = {
    "orderdp": "OrderDP (prunes 70 %)",
    "orderdp,prune_ratio=0.5": "OrderDP 50 %",
    "orderdp,explore=0.9": "OrderDP explore 0.9 exploit 0.6 (prunes 46 %)",
    "orderdp,per=iteration": "OrderDP per iteration (prunes 70 %)",
    "ucb,prune_ratio=0.5,c=2": "UCB 50 % c 2",
    "full": "full data",
}


@pytest.mark.parametrize("method", list(TITLES))
def test_the_line_of_a_run_says_what_it_prunes(tiny, method):
    member = Comparison(tiny(), methods=(parse(method),)).members(N)[0]
    assert member.title == TITLES[method]


NAMES = {
    "orderdp,prune_ratio=0.5,initial_score=-1": "OrderDP-50-unseen-at-minus-1-seed0",
    "orderdp,prune_ratio=0.5,initial_score=1": "OrderDP-50-unseen-at-1-seed0",
    "orderdp,prune_ratio=0.5,initial_score=-inf": "OrderDP-50-unseen-at-minus-inf-seed0",
    "orderdp,prune_ratio=0.5,initial_score=1e-30": "OrderDP-50-unseen-at-1e-30-seed0",
    "orderdp,prune_ratio=0.5,initial_score=1e30": "OrderDP-50-unseen-at-1e30-seed0",
    "epsilon_greedy,prune_ratio=0.5,epsilon=0.2": "epsilon-greedy-50-epsilon-0.2-seed0",
    "epsilon_greedy,prune_ratio=0.5": "epsilon-greedy-50-seed0",
    "ucb,prune_ratio=0.5,c=2": "UCB-50-c-2-seed0",
    "orderdp,per=iteration,fresh=true": "OrderDP-per-iteration-fresh-seed0",
    "orderdp,explore=0.9,exploit=0.5,uniform_share=0.1": "OrderDP-explore-0.9-exploit-0.5-uniform-share-0.1-seed0",
}


def test_folders_have_plain_names_that_differ(tiny):
    plan = Comparison(tiny(), methods=tuple(map(parse, NAMES)))
    names = [member.name for member in plan.members(N)]
    assert names[: len(NAMES)] == list(NAMES.values())
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", name) for name in names)


def test_a_grid_has_every_method_at_every_ratio_a_ratio_at_a_time(tiny):
    methods = grid(tiny(), [{"name": "orderdp"}, parse("ucb,every=1")], [0.3, 0.7])
    assert [with_method(tiny(), method).label for method in methods] == [
        "OrderDP 30 %",
        "UCB 30 % every 1",
        "OrderDP 70 %",
        "UCB 70 % every 1",
    ]


def test_a_grid_has_each_method_once_and_those_with_sizes_of_their_own_at_those(tiny):
    random = {"name": "dynamic_random"}
    own = ["orderdp,explore=0.9,exploit=0.5", "infobatch,prune_ratio=0.99", "dynamic_random,prune_ratio=0.3"]
    methods = grid(tiny(), [*map(parse, own), random, random], [0.3, 0.5, 0.3])
    assert [with_method(tiny(), method).label for method in methods] == [
        "OrderDP explore 0.9 exploit 0.5",
        "InfoBatch 99 %",
        "dynamic random 30 %",
        "dynamic random 50 %",
    ]
    assert len({recipe.label for recipe in Comparison(tiny(), methods).pruned()}) == 4


def test_a_grid_leaves_the_recipes_own_method_aside(tiny):
    (method,) = grid(tiny(explore=0.5, exploit=0.4, uniform_share=0.2), [{"name": "orderdp"}], [0.5])
    assert method == {"name": "orderdp", "prune_ratio": 0.5}
    (recipe,) = Comparison(tiny(explore=0.5, exploit=0.4, uniform_share=0.2), (method,)).pruned()
    assert recipe == tiny(prune_ratio=0.5)


def test_a_grid_refuses_what_the_recipe_refuses(tiny):
    with raises(ValueError, "prune_ratio is a fraction and must lie in [0, 1), got 1.5; for 1.5 % write 0.015"):
        grid(tiny(), [{"name": "orderdp"}], [0.5, 1.5])


@pytest.mark.parametrize(
    ("methods", "what"),
    [
        (["ucb", Mine.name], f"'UCB 50 %' of ucb and {Mine.name}"),
        ([Mine.name, "ucb"], f"'UCB 50 %' of {Mine.name} and ucb"),
    ],
)
def test_a_grid_leaves_out_no_method_that_has_the_label_of_another(tiny, methods, what):
    advice = "write another label in a class of yours, or compare them apart"
    with raises(ValueError, f"methods must have labels of their own, got {what}; {advice}"):
        grid(tiny(), map(parse, methods), [0.5])


def test_methods_whose_folders_would_be_the_same_are_refused_before_any_is_trained(tiny):
    line = (
        "methods must have labels that differ in letters from a to z or digits, which name their folders, got "
        "['Méthode à 50 %', 'Méthode é 50 %']; write another label in a class of yours"
    )
    with raises(ValueError, line):
        Comparison(tiny(), grid(tiny(), map(parse, [One.name, Other.name]), [0.5]))


PLANS_TO_KEEP = {
    "the recipe's own method": {},
    "seeds and references": {"seeds": (5, 2**62), "against": ()},
    "methods": {
        "methods": (
            *orderdp(0.5),
            OPEN,
            {"name": "ucb", "prune_ratio": 0.5, "every": 1, "c": 0.5},
            {"name": "orderdp", "explore": 0.5, "exploit": 0.25, "initial_score": -math.inf},
            {"name": "orderdp", "per": "iteration", "fresh": True},
        ),
        "against": ("short",),
    },
}


@pytest.mark.parametrize("settings", list(PLANS_TO_KEEP.values()), ids=list(PLANS_TO_KEEP))
def test_a_plan_that_was_written_reads_back_equal(tmp_path, tiny, settings):
    plan = Comparison(tiny(data_root="data"), **settings)
    plan.write(tmp_path, Sizes(200, 360))
    assert load_comparison(tmp_path) == (plan, Sizes(200, 360))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.toml", "recipe.toml"]


def test_the_number_of_ranks_is_read_back(tmp_path, tiny):
    Comparison(tiny()).write(tmp_path, Sizes(200, 360, 2))
    assert load_comparison(tmp_path)[1] == Sizes(200, 360, 2)


WHOLE = "seeds = [0]\nagainst = []\nnum_samples = 200\nnum_test_samples = 360\n"
PLANS = {
    "no folder": (None, None),
    "not TOML": ("{", ".*"),
    "without a key": (WHOLE.replace("against = []\n", ""), "'against'"),
    "without its sizes": ("seeds = [0]\nagainst = []\n", "'num_samples'"),
    "not a list": (WHOLE.replace("[0]", "1"), "'int' object is not iterable"),
    "sizes in words": (WHOLE.replace("200", "'few'"), r"invalid literal for int\(\) with base 10: 'few'"),
}


@pytest.mark.parametrize(("text", "reason"), list(PLANS.values()), ids=list(PLANS))
def test_a_folder_without_a_plan_is_refused(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "comparison.toml").write_text(text)
    why = "" if reason is None else rf" \({reason}\)"
    message = (
        r"^the folder of a comparison must hold recipe\.toml and comparison\.toml, got "
        rf"{re.escape(str(tmp_path))}{why}; "
        r"write the folder of an earlier 'orderdp train' or 'orderdp compare'$"
    )
    with pytest.raises(ValueError, match=message):
        load_comparison(tmp_path)
    assert len(list(tmp_path.iterdir())) == (text is not None)

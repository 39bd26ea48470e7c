import pickle
import re
import sys
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp import UCB, DynamicRandom, FullData, InfoBatch, Kakurenbo, OrderDP, SeTa
from orderdp.data.registry import DATASETS
from orderdp.output.suggestions import did_you_mean
from orderdp.training.recipe import Recipe, find_recipe, gathered, load_recipe, read_recipe, shipped_recipes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLISHED = sorted(shipped_recipes().values())
ONECYCLE = {
    "schedule": "onecycle",
    "pct_start": 0.3,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
    "label_smoothing": 0.1,
}
CIFAR = {
    "epochs": 200,
    "batch_size": 128,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "strategy": OrderDP(prune_ratio=0.5),
    "augment": "flip_crop",
    "initialization": "torch",
    **ONECYCLE,
}
IMAGENET = {
    "epochs": 90,
    "optimizer": "lars",
    "weight_decay": 1e-5,
    "image_size": 224,
    "augment": "flip_crop",
    "initialization": "model",
    **ONECYCLE,
}

fractions = st.floats(0, 1, exclude_max=True)
shares = st.floats(0, 1, exclude_min=True)
counts = st.integers(1, 2**63 - 1)
factors = st.floats(1, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
sizes = st.one_of(
    st.fixed_dictionaries({"prune_ratio": fractions}),
    st.fixed_dictionaries({}, optional={"explore": shares, "exploit": shares}),
)
iterations = st.one_of(
    st.just({}), st.fixed_dictionaries({"per": st.just("iteration")}, optional={"fresh": st.booleans()})
)
orderdp = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    sizes,
    iterations,
    st.fixed_dictionaries({}, optional={"initial_score": st.floats(allow_nan=False), "uniform_share": fractions}),
).filter(lambda settings: not (settings.get("fresh") and settings.get("uniform_share")))
strategies = st.one_of(
    st.builds(lambda settings: OrderDP(**settings), orderdp),
    st.builds(lambda ratio: DynamicRandom(prune_ratio=ratio), fractions),
    st.builds(lambda ratio, **given: InfoBatch(prune_probability=ratio, **given), fractions, epochs=counts),
    st.builds(lambda ratio, **given: SeTa(prune_ratio=ratio, **given), fractions, epochs=counts),
    st.just(FullData()),
)
data_sets = st.one_of(
    st.fixed_dictionaries({"dataset": st.just("folder")}, optional={"image_size": counts}),
    st.fixed_dictionaries({"dataset": texts.filter(lambda name: name != "folder")}),
)
others = st.fixed_dictionaries(
    {},
    optional={
        "data_root": texts,
        "download": st.booleans(),
        "train_size": counts,
        "data_path": st.sampled_from(["auto", "resident", "loader"]),
        "num_workers": st.integers(0, 64),
        "augment": st.sampled_from(["none", "crop", "flip_crop"]),
        "model": texts,
        "channels_last": st.booleans(),
        "compile": st.booleans(),
        "precision": st.sampled_from(["float32", "bf16"]),
        "device": st.sampled_from(["auto", "cpu", "cuda"]),
        "num_threads": counts,
        "epochs": counts,
        "max_steps": counts,
        "batch_size": counts,
        "drop_last": st.booleans(),
        "optimizer": st.sampled_from(["sgd", "adamw", "lars", "lamb", "lars_release", "lamb_release"]),
        "max_lr": st.floats(0, exclude_min=True, allow_infinity=False),
        "momentum": fractions,
        "weight_decay": st.floats(0, allow_infinity=False),
        "schedule": st.sampled_from(["onecycle", "cosine", "constant"]),
        "ema": fractions,
        "clip_norm": st.none() | factors,
        "pct_start": fractions,
        "div_factor": factors,
        "final_div_factor": factors,
        "label_smoothing": fractions,
        "seed": st.integers(0, 2**63 - 1),
        "checkpoint_steps": counts,
        "eval_batch_size": counts,
        "evaluations": st.integers(0, 1000),
        "held_out": fractions,
    },
)


def message_of(**settings):
    with pytest.raises(ValueError, match=r".") as caught:
        Recipe(**settings)
    assert type(caught.value) is ValueError
    return str(caught.value)


@pytest.fixture
def recipe_file(tmp_path):
    def write(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@given(data=data_sets, strategy=strategies, rest=others)
def test_a_written_recipe_reads_back_equal(tmp_path_factory, data, strategy, rest):
    recipe = Recipe(**data, strategy=strategy, **rest)
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    recipe.write(path)
    assert load_recipe(path) == recipe


def test_the_toml_holds_every_key_that_is_set():
    recipe = Recipe(strategy=OrderDP(prune_ratio=0.5), data_root="data")
    keys, _, strategy = recipe.to_toml().partition("\n[strategy]\n")
    left_out = {"num_threads", "train_size", "image_size", "max_steps", "checkpoint_steps", "clip_norm"}
    left_out |= {"finetune", "strategy"}
    assert {line.split(" = ")[0] for line in keys.splitlines()} == set(Recipe.model_fields) - left_out
    assert strategy.splitlines() == ['name = "orderdp"', "prune_ratio = 0.5"]


def test_there_is_a_recipe_for_each_published_setting():
    cifar = {f"cifar{classes}_resnet{depth}" for classes in (10, 100) for depth in (18, 50)}
    imagenet = {"imagenet_resnet18", "imagenet_resnet50"}
    assert {path.stem for path in PUBLISHED} == set(DATASETS) - {"folder", "cifar100"} | cifar | imagenet


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_recipe_loads_and_its_header_names_its_source(path):
    header, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    assert all(line.startswith("# ") for line in header.splitlines())
    assert "Source: " in header
    assert load_recipe(path).model_fields_set >= {"dataset", "model", "strategy", "epochs", "batch_size", "max_lr"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10_resnet18", {**CIFAR, "max_lr": 0.2}),
        ("cifar10_resnet50", {**CIFAR, "max_lr": 0.03}),
        ("cifar100_resnet18", {**CIFAR, "max_lr": 0.2}),
        ("cifar100_resnet50", {**CIFAR, "max_lr": 0.03}),
        (
            "imagenet_resnet18",
            {**IMAGENET, "batch_size": 512, "max_lr": 1.98, "strategy": OrderDP(explore=0.8, exploit=0.9)},
        ),
        (
            "imagenet_resnet50",
            {**IMAGENET, "batch_size": 1024, "max_lr": 6.4, "strategy": OrderDP(explore=0.75, exploit=0.8)},
        ),
    ],
)
def test_a_published_recipe_has_the_papers_settings(name, expected):
    (path,) = (path for path in PUBLISHED if path.stem == name)
    recipe = load_recipe(path)
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("dataset", "model", "expected"),
    [
        ("cifar10", "resnet18", "cifar10_resnet18"),
        ("cifar10", None, "cifar10"),
        ("cifar10", "vit_tiny_patch16_224", "cifar10"),
        ("digits", None, "digits"),
    ],
)
def test_the_recipe_for_a_data_set_and_model_is_found(dataset, model, expected):
    assert find_recipe(dataset, model).stem == expected


def test_there_may_be_no_recipe_for_a_data_set():
    assert find_recipe("folder", "resnet50") is None


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_every_key_has_a_description_of_one_line(name):
    description = Recipe.model_fields[name].description
    assert description
    assert "\n" not in description


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_the_range_in_a_description_is_the_range_that_is_checked(name):
    field = Recipe.model_fields[name]
    bounds = {
        key: getattr(part, key) for part in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(part, key)
    }
    stated = re.search(r"in ([\[(])(.+?), (.+?)([\])])", field.description)
    if not bounds:
        assert stated is None
        return
    opening, low, high, closing = stated.groups()
    assert bounds["ge" if opening == "[" else "gt"] == float(low)
    upper = 2**63 if high == "2**63" else float(high)
    assert bounds.get("le" if closing == "]" else "lt", inf) == upper


def test_a_recipe_is_frozen_and_hashable_and_survives_pickle():
    recipe = Recipe(strategy=OrderDP(prune_ratio=0.5))
    with pytest.raises(ValueError, match="frozen"):
        recipe.epochs = 3
    copy = pickle.loads(pickle.dumps(recipe))
    assert copy == recipe
    assert hash(copy) == hash(recipe)


def test_the_strategy_is_a_value_or_a_table():
    recipe = Recipe(strategy={"name": "ucb", "prune_ratio": 0.5, "every": 3})
    assert recipe.strategy == UCB(prune_ratio=0.5, every=3)
    assert recipe == Recipe(strategy=recipe.strategy)
    assert recipe.label == "UCB 50 % every 3"
    assert Recipe(**tomllib.loads(recipe.to_toml())) == recipe
    assert hash(recipe) != hash(recipe.model_copy(update={"strategy": UCB(prune_ratio=0.5)}))


def strategy_in(recipe):
    return tomllib.loads(recipe.to_toml())["strategy"]


def test_the_epochs_of_a_strategy_are_those_of_the_recipe():
    recipe = Recipe(strategy={"name": "seta", "prune_ratio": 0.5}, epochs=7)
    assert recipe.strategy.epochs == 7
    assert "epochs" not in strategy_in(recipe)
    assert recipe.model_copy(update={"epochs": 9}).strategy.epochs == 9
    assert recipe.model_copy(update={"seed": 9}).strategy.epochs == 7
    other = Recipe(strategy=SeTa(prune_ratio=0.5, epochs=20), epochs=7)
    assert strategy_in(other)["epochs"] == 20
    assert other.model_copy(update={"epochs": 9}).strategy.epochs == 20


def test_annealing_survives_the_file(recipe_file):
    for strategy in (InfoBatch(epochs=8), InfoBatch(epochs=8, delta=0.5), InfoBatch(epochs=30), InfoBatch()):
        recipe = Recipe(strategy=strategy, epochs=8)
        assert ("delta" in strategy_in(recipe)) == (strategy.epochs is not None)
        assert load_recipe(recipe_file(recipe.to_toml())).strategy == strategy
    assert Recipe(strategy=InfoBatch(epochs=8), epochs=8).model_copy(update={"epochs": 6}).strategy.epochs == 6
    assert Recipe(strategy=InfoBatch(), epochs=8).model_copy(update={"epochs": 6}).strategy.epochs is None


SMOOTHED = (
    "kakurenbo needs plain losses, and label smoothing keeps them high, got label_smoothing 0.1; write "
    "label_smoothing = 0, or set a lower confidence (0.53 for 0.1 on ten classes)"
)


def test_kakurenbo_needs_losses_that_tell_how_sure_the_model_is():
    kakurenbo = Kakurenbo(hide=0.3, epochs=30)
    assert message_of(strategy=kakurenbo) == SMOOTHED
    assert Recipe(strategy=kakurenbo, label_smoothing=0).label_smoothing == 0
    assert Recipe(strategy=Kakurenbo(hide=0.3, epochs=30, confidence=0.53)).label_smoothing == 0.1
    with pytest.raises(ValueError, match=f"^{re.escape(SMOOTHED)}$"):
        Recipe().model_copy(update={"strategy": kakurenbo})


def test_a_class_that_a_file_cannot_name_is_refused():
    class Local(DynamicRandom):
        pass

    assert message_of(strategy=Local(prune_ratio=0.5)).startswith(f"no strategy named '{__name__}:")


@given(strategy=strategies, other=strategies, rest=others)
def test_a_recipe_with_another_strategy_keeps_the_rest(strategy, other, rest):
    changed = Recipe(strategy=strategy, **rest).model_copy(update={"strategy": other})
    assert changed == Recipe(strategy=other, **rest)


def test_a_whole_number_stands_for_a_float():
    assert type(Recipe(max_lr=1).max_lr) is float


LISTED = "('orderdp methods' lists them; a class of yours is MODULE:CLASS)"
A_STRATEGY = "strategy must be a Strategy, or a table of name and settings, "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "no recipe key 'epoch'; did you mean 'epochs'?"),
        ({"max-lr": 0.1}, "no recipe key 'max-lr'; did you mean 'max_lr'?"),
        ({"zzz": 3}, "no recipe key 'zzz'; 'orderdp train --help' lists the keys"),
        ({"self": 3}, "no recipe key 'self'; 'orderdp train --help' lists the keys"),
        ({"prune_ratio": 0.5}, "no recipe key 'prune_ratio'; write it in the table [strategy]"),
        (
            {"strategy": {"name": "ucb", "prune_ratio": 50}},
            "prune_ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5",
        ),
        (
            {"strategy": {"name": "orderdp", "prune_ratio": "0.5"}},
            "prune_ratio is a fraction and must lie in [0, 1), got '0.5'; write a number such as 0.5",
        ),
        (
            {"strategy": {"name": "orderdp", "initial_score": nan}},
            "initial_score must be a number that can be compared, got nan; write inf for unseen first",
        ),
        ({"strategy": {"name": "orderdp", "fresh": 1}}, "fresh must be True or False, got 1; write fresh=True"),
        (
            {"strategy": {"name": "orderdp", "fresh": True}},
            "fresh scores need a choice at each step, got per='epoch'; write per='iteration'",
        ),
        (
            {"strategy": {"name": "orderdp", "prune_ratio": 0.5, "explore": 0.6}},
            "prune_ratio excludes explore and exploit, got prune_ratio=0.5, explore=0.6, exploit=None; "
            "give the ratio or the other two",
        ),
        (
            {"strategy": {"name": "full", "prune_ratio": 0.5}},
            "prune_ratio does not apply to strategy 'full', got 0.5; leave prune_ratio out",
        ),
        (
            {"strategy": {"prune_ratio": 0.5}},
            "strategy must have a name, got {'prune_ratio': 0.5}; write name = \"orderdp\"",
        ),
        ({"strategy": {"name": "orderpd"}}, "no strategy named 'orderpd'; did you mean 'orderdp'? " + LISTED),
        ({"strategy": 3}, A_STRATEGY + 'got 3; write {"name": "orderdp"}'),
        ({"strategy": "ucb"}, A_STRATEGY + 'got \'ucb\'; write {"name": "orderdp"}'),
        ({"epochs": "30"}, "epochs must be a whole number, got '30'; write epochs = 30"),
        ({"epochs": 1e3}, "epochs must be a whole number, got 1000.0; write epochs = 1000"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5; write epochs = 30"),
        ({"epochs": True}, "epochs must be a whole number, got True; write epochs = 30"),
        ({"epochs": None}, "epochs must be a whole number, got None; write epochs = 30"),
        ({"epochs": 0}, "epochs must lie in [1, inf), got 0; write epochs = 30"),
        ({"max_steps": 0}, "max_steps must lie in [1, inf), got 0; write max_steps = 1000"),
        ({"max_lr": inf}, "max_lr must lie in (0, inf), got inf; write max_lr = 0.1"),
        ({"seed": -1}, "seed must lie in [0, 2**63), got -1; write seed = 0"),
        ({"seed": 2**63}, "seed must lie in [0, 2**63), got 9223372036854775808; write seed = 0"),
        ({"download": 1}, "download must be true or false, got 1; write download = false"),
        ({"model": 18}, 'model must be text, got 18; write model = "small_cnn"'),
        ({"optimizer": "sdg"}, "no optimizer named 'sdg'; did you mean 'sgd'?"),
        ({"device": "gpu"}, "no device named 'gpu'; did you mean 'cuda'?"),
        ({"precision": "fp32"}, "no precision named 'fp32'; did you mean 'float32'?"),
        ({"precision": "bfloat16"}, "no precision named 'bfloat16'; did you mean 'bf16'?"),
        ({"optimizer": "SGD"}, "no optimizer named 'SGD'; did you mean 'sgd'?"),
        (
            {"nesterov": True, "optimizer": "adamw"},
            "nesterov needs sgd with momentum, got optimizer adamw and momentum 0.9; write nesterov = false",
        ),
        (
            {"nesterov": True, "momentum": 0.0},
            "nesterov needs sgd with momentum, got optimizer sgd and momentum 0; write nesterov = false",
        ),
        ({"precision": "half"}, "no precision named 'half'; choose from float32, bf16"),
        ({"image_size": 224}, "image_size applies to data set 'folder' only, got 224 for 'digits'; leave it out"),
        ({"epochs": 0, "seed": -1, "zzz": 1}, "epochs must lie in [1, inf), got 0; write epochs = 30 (and 2 more)"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(settings, message):
    assert message_of(**settings) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"^no recipe key 'epoch'; did you mean 'epochs'\?$"),
        ('epochs = "3"', r"^epochs must be a whole number, got '3'; write epochs = 30$"),
        ("prune_ratio = true", r"^prune_ratio is a fraction and must lie in \[0, 1\), got True; write a number"),
        (
            '[strategy]\nname = "ucb"\nevry = 1',
            r"^evry does not apply to strategy 'ucb', got 1; did you mean 'every'\?$",
        ),
        (
            'prune_ratio = 0.5\n[strategy]\nname = "orderdp"',
            r"^no recipe key 'prune_ratio'; write it in the table \[strategy\]$",
        ),
        ("max_lr = 2020-01-01", r"^max_lr must be a number, got datetime\.date\(2020, 1, 1\); write max_lr = 0\.1$"),
        ("seed = 1\nmodel = resnet18", r"^a recipe must be valid TOML, got '.*recipe\.toml': .*at line 2, column 9"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(recipe_file, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe_file(text))


def test_a_path_that_is_no_recipe_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^a recipe must be a readable file, got '.*none\.toml' \(No such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"^a recipe must be a file, got the directory '"):
        load_recipe(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"^a recipe must be a readable file, got '.*binary' \(not UTF-8 text\)"):
        load_recipe(tmp_path / "binary")


def test_overrides_replace_the_files_keys(recipe_file):
    path = recipe_file('epochs = 5\n[strategy]\nname = "seta"\nprune_ratio = 0.3')
    assert load_recipe(path, epochs=7) == Recipe(epochs=7, strategy=SeTa(prune_ratio=0.3, epochs=7))
    assert load_recipe(path, strategy=OrderDP()) == Recipe(epochs=5)


def test_overrides_are_checked_too(recipe_file):
    path = recipe_file("epochs = 5")
    with pytest.raises(ValueError, match=r"^no recipe key 'epoch'; did you mean 'epochs'\?$"):
        load_recipe(path, epoch=3)
    with pytest.raises(ValueError, match=r"^prune_ratio does not apply to strategy 'full', got 0\.3; leave"):
        load_recipe(path, strategy={"name": "full", "prune_ratio": 0.3})


def test_a_changed_copy_is_checked_too():
    recipe = Recipe(strategy=OrderDP(prune_ratio=0.3))
    assert recipe.model_copy(update={"seed": 1}) == Recipe(strategy=OrderDP(prune_ratio=0.3), seed=1)
    with pytest.raises(ValueError, match=r"^epochs must lie in \[1, inf\), got 0; write epochs = 30$"):
        recipe.model_copy(update={"epochs": 0})


def test_a_name_that_is_near_none_gets_no_suggestion():
    assert did_you_mean("zzz", ["sgd", "lars"]) == ""


# Files of release 0.1, whose method is written in flat keys: as shipped, and as written by a run.
WRITTEN = """\
dataset = "cifar10"
label_smoothing = 0.1
initial_score = inf
uniform_share = 0.0
per = "epoch"
fresh = false
epochs = 20
"""
OLD = {
    "shipped": ('strategy = "orderdp"\nprune_ratio = 0.5\n\nepochs = 20', OrderDP(prune_ratio=0.5)),
    "shipped, explore and exploit": (
        'strategy = "orderdp"\nexplore = 0.8\nexploit = 0.9',
        OrderDP(explore=0.8, exploit=0.9),
    ),
    "without a strategy": ("epochs = 20\nprune_ratio = 0.5", OrderDP(prune_ratio=0.5)),
    "by name alone": ('strategy = "full"', FullData()),
    "full data": (WRITTEN + 'strategy = "full"', FullData()),
    "orderdp": (
        WRITTEN.replace("inf", "3.0").replace("0.0", "0.2") + 'strategy = "orderdp"\nexplore = 1.0\nexploit = 0.3',
        OrderDP(explore=1.0, exploit=0.3, initial_score=3.0, uniform_share=0.2),
    ),
    "orderdp, fresh": (
        WRITTEN.replace('"epoch"', '"iteration"').replace("false", "true") + "prune_ratio = 0.5",
        OrderDP(prune_ratio=0.5, per="iteration", fresh=True),
    ),
    "kakurenbo": (
        WRITTEN + 'strategy = "kakurenbo"\nprune_ratio = 0.3\n\n[settings]\nconfidence = 0.53',
        Kakurenbo(hide=0.3, epochs=20, confidence=0.53),
    ),
    "infobatch": (WRITTEN + 'strategy = "infobatch"\nprune_ratio = 0.3', InfoBatch(prune_probability=0.3)),
    "infobatch, annealed": (
        WRITTEN + 'strategy = "infobatch"\nprune_ratio = 0.3\n\n[settings]\ndelta = 0.875',
        InfoBatch(prune_probability=0.3, epochs=20),
    ),
}


@pytest.mark.parametrize(("text", "strategy"), list(OLD.values()), ids=list(OLD))
def test_a_recipe_of_the_first_release_is_read(recipe_file, text, strategy):
    recipe = load_recipe(recipe_file(text))
    assert recipe.strategy == strategy
    assert load_recipe(recipe_file(recipe.to_toml())) == recipe


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_recipe_is_what_it_was_in_flat_keys(recipe_file, path):
    keys = read_recipe(path)
    flat = {**{key: value for key, value in keys.items() if key != "strategy"}, **keys["strategy"]}
    flat["strategy"] = flat.pop("name")
    assert gathered(flat) == keys
    assert gathered(keys) == keys


def test_an_old_setting_of_another_method_is_refused():
    with pytest.raises(ValueError, match=r"^explore does not apply to strategy 'ucb', got 0\.5; it takes prune_ratio"):
        Recipe(**gathered({"strategy": "ucb", "prune_ratio": 0.5, "explore": 0.5}))
    assert gathered({"settings": 3}) == {"settings": 3}

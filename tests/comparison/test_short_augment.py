"""A second shorter schedule with another augmentation, beside each one."""

import re

import pytest
import torch

from orderdp.comparison.checks import check_recipes
from orderdp.comparison.grid import Comparison, load_comparison
from orderdp.comparison.planned import Sizes, read_planned
from orderdp.comparison.records import read_folder
from orderdp.comparison.results import read_results
from orderdp.comparison.workers import resume, start
from orderdp.data.base import DataSets, Texts
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder

METHODS = ({"name": "orderdp", "prune_ratio": 0.5}, {"name": "infobatch", "prune_ratio": 0.5})


def test_each_shorter_schedule_has_one_beside_it(tiny, tmp_path):
    plan = Comparison(tiny(), METHODS, short_augment="crop")
    found = start(plan, tmp_path / "run", log=lambda _: None)
    assert not found.failed
    results = read_results(tmp_path / "run")
    for method in ("OrderDP", "InfoBatch"):
        label = f"full data, steps of {method}, augment crop"
        name = f"full-data-steps-of-{method}-50-augment-crop-seed0" if method == "OrderDP" else None
        (entry,) = [entry for entry in results.entries.values() if entry.method == label]
        (first,) = [entry for entry in results.entries.values() if entry.method == label.removesuffix(", augment crop")]
        assert entry.ratio == first.ratio == 0.5
        assert entry.results[0]["steps"] == first.results[0]["steps"]
        assert entry.results[0]["digests"]["model"] != first.results[0]["digests"]["model"]
        if name is not None:
            assert RunFolder(tmp_path / "run" / name).recipe().augment == "crop"
    (pruned,) = [entry for entry in results.entries.values() if entry.method == "OrderDP"]
    assert pruned.short == "full data, steps of OrderDP 50 %"


def test_it_is_read_back_and_resumed(tiny, tmp_path):
    plan = Comparison(tiny(), METHODS[:1], short_augment="crop")
    start(plan, tmp_path / "run", log=lambda _: None)
    assert load_comparison(tmp_path / "run")[0] == plan
    augments = [run.augment for run in read_planned(tmp_path / "run").runs]
    assert augments == [None, None, None, "crop"]
    assert not resume([tmp_path / "run"], log=lambda _: None)[0].open
    file = tmp_path / "run" / "full-data-steps-of-OrderDP-50-augment-crop-seed0" / "recipe.toml"
    file.write_text(file.read_text().replace('augment = "crop"', 'augment = "none"'))
    with pytest.raises(ValueError, match="with augment 'none' instead of 'crop'"):
        read_folder(tmp_path / "run")


@pytest.mark.parametrize(("own", "kept"), [({}, "none"), ({"augment": "flip_crop"}, "flip_crop")])
def test_fine_tuning_keeps_its_augmentation(own, kept, tmp_path):
    recipe = Recipe(model="tiny_vit", train_size=200, finetune={"epochs": 2, **own})
    plan = Comparison(recipe, METHODS[:1], short_augment="crop")
    (beside,) = [member for member in plan.members(200) if member.beside is not None]
    assert beside.recipe.augment == "crop"
    assert beside.recipe.finetuning().augment == kept
    plan.write(tmp_path, Sizes(200, 200))
    RunFolder(tmp_path / beside.name).begin(beside.recipe)
    read_folder(tmp_path)  # takes its recipe for the planned one


def test_texts_refuse_it_by_its_own_name():
    texts = Texts(torch.ones(200, 3, dtype=torch.int64), torch.arange(200) % 2)
    comparison = Comparison(Recipe(model="text_bag"), METHODS[:1], short_augment="crop")
    message = "short_augment is for images, got crop for texts; leave it out"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_recipes(comparison, Sizes(200, 200), data=DataSets(texts, texts, num_classes=2, vocabulary=2))


REFUSED = {
    "an unknown one": ({"short_augment": "crp"}, "no augment named 'crp'; did you mean 'crop'?"),
    "the same": (
        {"short_augment": "none"},
        "short_augment is of a second shorter schedule, other than the first, got none beside augment none and "
        "against full short; leave it out",
    ),
    "no shorter schedule": (
        {"short_augment": "crop", "against": ("full",)},
        "short_augment is of a second shorter schedule, other than the first, got crop beside augment none and "
        "against full; leave it out",
    ),
}


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Comparison(Recipe(), **settings)

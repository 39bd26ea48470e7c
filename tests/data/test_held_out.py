"""Training images that are held out to be evaluated on."""

import re
from pathlib import Path

import pytest
import torch

from orderdp.comparison import checks
from orderdp.comparison.checks import LoadedData
from orderdp.data.registry import load_dataset
from orderdp.training.recipe import Recipe


def rows(part):
    return {(*image.flatten().tolist(), int(label)) for image, label in zip(part.images, part.labels, strict=True)}


def test_a_share_of_each_class_moves_from_the_training_images_to_the_test_part():
    data = load_dataset("digits")
    held = data.holding_out(0.1)
    assert (len(held.train), len(held.test)) == (len(data.train) - 144, 144)
    assert rows(held.train).isdisjoint(rows(held.test))
    assert rows(held.train) | rows(held.test) == rows(data.train)
    assert rows(held.test).isdisjoint(rows(data.test))
    counts = torch.bincount(held.test.labels, minlength=10)
    assert int(counts.max() - counts.min()) <= 1
    assert (held.mean, held.std, held.num_classes) == (data.mean, data.std, data.num_classes)


def test_it_is_the_same_share_each_time():
    first, second = (load_dataset("digits").holding_out(0.1) for _ in range(2))
    assert torch.equal(first.test.images, second.test.images)


def test_a_recipe_asks_for_it_beside_the_whole_data():
    loaded = LoadedData()
    whole, held = (loaded.of(Recipe(train_size=200, held_out=share)) for share in (0, 0.25))
    assert (len(whole.train), len(whole.test)) == (200, 360)
    assert (len(held.train), len(held.test)) == (150, 50)


def test_data_are_loaded_once_for_each_place_and_size(monkeypatch):
    asked = []
    monkeypatch.setattr(checks, "load_dataset", lambda name, **given: asked.append((name, given)) or object())
    changes = [{"data_root": "D"}, {"image_size": 16}, {"train_size": 90}, {"seed": 1}]
    first = {"dataset": "folder", "data_root": "C", "image_size": 8, "train_size": 80}
    recipes = [Recipe(**{**first, **change}) for change in [{}, *changes]]
    loaded = LoadedData()
    found = [loaded.of(recipe) for recipe in [*recipes, *recipes]]
    assert found[:5] == found[5:]
    assert found[4] is found[0]  # the seed is of the run
    assert [(name, given["data_root"], given["image_size"], given["train_size"]) for name, given in asked] == [
        ("folder", Path(recipe.data_root), recipe.image_size, recipe.train_size) for recipe in recipes[:4]
    ]


def test_rows_are_positions_in_the_whole_training_part():
    data = load_dataset("digits")
    held = data.with_train_size(200).holding_out(0.25)
    assert torch.equal(held.train.images, data.train.images[held.rows])
    assert torch.equal(held.train.labels, data.train.labels[held.rows])


@pytest.mark.parametrize("share", [1e-4, 0.9999])
def test_a_share_that_leaves_a_part_empty_is_refused(share):
    message = f"held_out must leave samples on both sides, got {share} of 1437; write 0.1, or 0 for the test set"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_dataset("digits").holding_out(share)

"""What a recipe is refused for before anything is built."""

import re

import pytest
import torch

from orderdp import InfoBatch, OrderDP
from orderdp.data import imports
from orderdp.data.base import DataSets, ImageFiles
from orderdp.training import check, loop, models, optim
from orderdp.training.check import check_recipe
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import num_epochs

FILES = DataSets(
    *2 * (ImageFiles(("a.png",), torch.tensor([0])),),
    num_classes=1,
    in_channels=3,
    image_size=8,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)
REFUSED = {
    "an unknown model": (
        {"model": "smallcnn"},
        "no model named 'smallcnn'; did you mean 'small_cnn'? (model_names() and timm.list_models() list them)",
    ),
    "more steps than there are": (
        {"max_steps": 1000},
        "max_steps must be within the 240 steps of 30 epochs, got 1000; write more epochs",
    ),
    "an empty epoch": (
        {"strategy": OrderDP(prune_ratio=0.9999)},
        "the sizes must keep at least one of the 1000 samples, got q = 0 from prune_ratio=0.9999; "
        "write larger fractions to keep, or a smaller prune ratio",
    ),
    "no batch": (
        {"batch_size": 2000, "drop_last": True},
        "drop_last leaves no batch, got 1000 selected samples for 1 x 2000 a step; "
        "give more samples, or write a smaller batch_size or drop_last=False",
    ),
    "no batch of full data, which sizes an open schedule": (
        {"strategy": InfoBatch(), "batch_size": 2000, "drop_last": True},
        "drop_last leaves no batch, got 1000 selected samples for 1 x 2000 a step; "
        "give more samples, or write a smaller batch_size or drop_last=False",
    ),
    "resident files": (
        {"data_path": "resident"},
        "data_path 'resident' is for samples in memory, got files; write data_path = \"loader\"",
    ),
}


def recipe_of(**settings):
    return Recipe(**{"strategy": OrderDP(explore=1, exploit=1), "device": "cpu", **settings})


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_does_not_fit_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_recipe(recipe_of(**settings), 1000, data=FILES)


def test_the_steps_that_must_fit_are_those_of_all_ranks():
    check_recipe(recipe_of(max_steps=200), 1000)
    message = "max_steps must be within the 120 steps of 30 epochs, got 200; write more epochs"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_recipe(recipe_of(max_steps=200), 1000, num_ranks=2)


@pytest.mark.parametrize(("max_steps", "epochs"), [(1, 1), (8, 1), (9, 2), (16, 2), (None, 30)])
def test_a_run_begins_no_epoch_after_its_last_step(max_steps, epochs):
    assert num_epochs(recipe_of(max_steps=max_steps), 1000) == epochs  # of 8 steps each


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match=r"^device must exist on this machine, got cuda; write cpu or auto$"):
        check_recipe(recipe_of(device="cuda"), 1000)


@pytest.mark.parametrize("settings", [{"model": "resnet18"}, {"optimizer": "lars"}, {"optimizer": "lamb"}], ids=str)
def test_timm_must_be_there_where_it_is_needed(monkeypatch, settings):
    def lacking(name):
        raise ImportError(name)

    for module in (models, optim, imports):
        monkeypatch.setattr(module, "import_image_library", lacking)
    for without in ({}, {"optimizer": "lars_release"}, {"optimizer": "lamb_release"}):
        check_recipe(recipe_of(**without), 1000)
    with pytest.raises(ImportError, match=r"^timm"):
        check_recipe(recipe_of(**settings), 1000)


def test_what_fits_passes_and_builds_nothing(monkeypatch):
    monkeypatch.setattr(models, "build_model", None)
    monkeypatch.setattr(torch, "manual_seed", None)
    for settings in ({}, {"model": "resnet50"}, {"model": "vit_tiny_patch16_224"}, {"optimizer": "lamb"}):
        check_recipe(recipe_of(**settings), 1000)


def test_a_run_is_checked_before_its_model_is_built(tmp_path, tiny, digits, monkeypatch):
    monkeypatch.setattr(loop, "learning", None)
    with pytest.raises(ValueError, match=r"^max_steps must be within the 21 steps of 3 epochs, got 99; write more"):
        Run(tiny(strategy="full", max_steps=99), digits, RunFolder(tmp_path), show=False)


def test_bf16_on_a_processor_without_instructions_for_it_is_warned_of_once(tiny, monkeypatch, caplog):
    def warned(capability, **settings):
        check._warn_of_slow_bf16.cache_clear()
        caplog.clear()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        for _ in range(2):
            check_recipe(tiny(**settings), 200)
        return caplog.messages

    (line,) = warned("AVX2", precision="bf16")
    assert line.startswith("this processor (AVX2) has no instructions for bf16: convolutions take many times")
    assert warned("AVX512", precision="bf16") == warned("AVX2") == []

"""Masked autoencoders: the loss of each image, and a run whose evaluation is a second stage."""

import os
import re
import signal

import pytest
import torch

from orderdp import OrderDP
from orderdp.stopping import Stopped
from orderdp.training.check import check_recipe
from orderdp.training.learning import learning
from orderdp.training.loop import Run
from orderdp.training.masked import MaskedAutoencoder, VisionTransformer, num_patches
from orderdp.training.objective import EVALUATED, OF_CLASSES, Patches
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.views import Masks

MASKED = {
    "model": "tiny_vit",
    "optimizer": "adamw",
    "max_lr": 0.003,
    "epochs": 2,
    "prune_ratio": 0.5,
    "batch_size": 50,
    "finetune": {"epochs": 1, "batch_size": 100},
}


@pytest.fixture
def built():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield MaskedAutoencoder("tiny_vit", in_channels=3, image_size=32)


def test_the_mean_of_the_losses_is_the_loss_of_transformers(built):
    rng = torch.Generator().manual_seed(1)
    images = torch.randn((4, 3, 32, 32), generator=rng)
    noise = torch.rand((4, num_patches("tiny_vit", 32)), generator=rng)
    losses = built(images, noise)
    whole = built.autoencoder(images, noise=noise)
    torch.testing.assert_close(losses.mean(), whole.loss)
    assert whole.mask.sum(1).tolist() == [48] * 4  # of 64 patches
    hidden = noise >= noise.sort(1).values[:, 16:17]
    assert torch.equal(whole.mask.bool(), hidden)
    alone = torch.stack([built.autoencoder(images[[i]], noise=noise[[i]]).loss for i in range(4)])
    torch.testing.assert_close(losses, alone)
    assert built(images).shape == (4,)  # without noise, the masks are drawn


def test_the_classifier_begins_with_the_encoder(built):
    classifier = VisionTransformer("tiny_vit", num_classes=7, in_channels=3, image_size=32)
    state, start = classifier.state_dict(), built.encoder()
    assert set(state) - set(start) == {"classifier.classifier.weight", "classifier.classifier.bias"}
    assert set(start) < set(state)
    assert all(state[name].shape == tensor.shape for name, tensor in start.items())
    assert classifier(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_masked_patches_have_a_loss_and_no_accuracy():
    losses, noise = torch.tensor([1.0, 2.0, 6.0]), torch.zeros(3, 4)
    assert Patches().losses(losses, noise) is losses
    found = Patches().evaluation((Patches().sums(losses[:1], noise) + Patches().sums(losses[1:], noise)).tolist())
    assert found == dict(zip(EVALUATED, (None,) * len(EVALUATED), strict=True)) | {"test_loss": 3.0}


def test_a_run_is_evaluated_by_its_second_stage_and_resumes_within_it(
    tmp_path, tiny, digits, train, outcome, in_child, kill_at
):
    whole = train("unbroken", **MASKED)
    lines, result = whole.metrics(), whole.result()
    assert [line["accuracy"] for line in lines][:1] == [None]
    assert (result["steps"], result["samples_backward"]) == (4, 200)  # of the first stage alone
    second = RunFolder(whole.path / "finetune")
    assert second.result()["accuracy_last"] == result["accuracy_last"] == lines[-1]["accuracy"]
    assert result["digests"]["finetune"] == second.result()["digests"]
    assert (second.result()["steps"], second.recipe().strategy.name, second.recipe().finetune) == (2, "full", None)
    folder = RunFolder.create(tmp_path / "run", tiny(**MASKED))

    def work():
        # Metrics are written after each epoch: of the first stage once, then of the second.
        kill_at(RunFolder, "write_metrics", 2)
        Run(folder.recipe(), digits, folder, show=False).train()

    in_child(work)
    assert (folder.path / "finetune" / "checkpoint").exists()
    assert folder.result() is None
    assert outcome(train()) == outcome(whole)


def test_the_second_stage_begins_with_the_encoder_of_the_first(tmp_path, tiny, digits, monkeypatch):
    recipe = tiny(**MASKED)
    run = Run(recipe, digits, RunFolder.create(tmp_path / "run", recipe), show=False)
    torch.nn.init.normal_(run.model.autoencoder.vit.layernorm.weight)  # as if trained: fresh ones are 1
    begun = []
    result = {"accuracy_last": 1.0, **dict.fromkeys(OF_CLASSES)}
    monkeypatch.setattr(Run, "train", lambda stage: begun.append(stage.model.state_dict()) or result)
    run._fine_tune()
    (state,) = begun
    for name, tensor in run.model.encoder().items():
        assert torch.equal(state[name], tensor), name


def test_masks_follow_the_seed_of_the_run(tiny, digits):
    index, images = torch.arange(3), torch.zeros(3, 1, 8, 8)
    masks = {seed: learning(tiny(**MASKED, seed=seed), digits)[2](index, (images, index), 1)[1] for seed in (0, 5)}
    assert torch.equal(masks[5], Masks(num_patches("tiny_vit", 8), seed=5)(index, (images, index), 1)[1])
    assert not torch.equal(masks[5], masks[0])


def test_a_signal_after_the_last_step_of_the_first_stage_stops_the_second(
    tmp_path, tiny, digits, train, outcome, monkeypatch
):
    whole = train("unbroken", **MASKED)
    folder = RunFolder.create(tmp_path / "run", tiny(**MASKED))
    before, evaluate = signal.getsignal(signal.SIGTERM), Run._evaluate

    def signalled(run):
        if run.recipe.finetune is not None and run._finished():
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", signalled)
        with pytest.raises(Stopped):
            Run(folder.recipe(), digits, folder, show=False).train()
    assert RunFolder(folder.path / "finetune").result() is None
    assert signal.getsignal(signal.SIGTERM) == before
    assert outcome(train()) == outcome(whole)


REFUSED = {
    "mixing": ({"mixup": 0.8}, "mixup is for labels, got 0.8 beside finetune; write it in [finetune]"),
    "alignment": (
        {"alignment": 3},
        "alignment is not measured without labels, got 3 beside finetune; write alignment = 0",
    ),
    "the model of a stage": (
        {"finetune": {"model": "cnn"}},
        "finetune changes how the second stage trains, got model; write it outside the table [finetune]",
    ),
    "an unknown key": ({"finetune": {"epoch": 2}}, "in [finetune], no recipe key 'epoch'; did you mean 'epochs'?"),
    "a value": (
        {"finetune": {"epochs": 0}},
        "in [finetune], epochs must lie in [1, inf), got 0; write epochs = 30",
    ),
    "no epochs": (
        {"finetune": {"max_lr": 0.001}},
        "finetune needs epochs of its own, got none; write [finetune] epochs = 20",
    ),
    "first weights, which come from the first stage": (
        {"finetune": {"epochs": 2, "initialization": "torch"}},
        "finetune changes how the second stage trains, got initialization; write it outside the table [finetune]",
    ),
    "no table": ({"finetune": 3}, "finetune must be a table, got 3; write [finetune] epochs = 20"),
    "probabilities": (
        {"strategy": "kakurenbo", "prune_ratio": 0.3, "label_smoothing": 0.0},
        "kakurenbo reads probabilities off its losses, got errors of masked patches; choose another",
    ),
}


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_does_not_fit_a_run_without_labels_is_refused(tiny, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tiny(**{**MASKED, **settings})


def test_only_a_masked_autoencoder_has_a_second_stage(tiny, digits):
    with pytest.raises(ValueError, match=r"^finetune is for a masked autoencoder, got model 'small_cnn'; choose from "):
        check_recipe(tiny(**{**MASKED, "model": "small_cnn"}), 200, data=digits)


def test_the_second_stage_has_the_keys_that_change_for_it():
    recipe = Recipe(
        model="tiny_vit", epochs=9, max_steps=5, max_lr=0.1, strategy=OrderDP(), finetune={"epochs": 2, "mixup": 0.8}
    )
    second = recipe.finetuning()
    assert (second.epochs, second.mixup, second.max_steps, second.max_lr) == (2, 0.8, None, 0.1)
    assert (second.strategy.name, second.finetune) == ("full", None)
    assert Recipe(**recipe.model_dump()) == recipe


def test_patches_must_fill_the_image():
    with pytest.raises(
        ValueError, match=r"^images of tiny_vit must be a multiple of 4 pixels, the side of a patch, got"
    ):
        VisionTransformer("tiny_vit", num_classes=2, in_channels=1, image_size=30)

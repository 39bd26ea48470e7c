"""Mixed batches and masks: timm's own mixing under seeds of ours, the score of a mixed sample, masks by sample."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from orderdp.data.augment import Purpose, draws
from orderdp.data.imports import import_image_library
from orderdp.training.views import Masks, Mixed

CLASSES = 5


def batch_of(size):
    rng = torch.Generator().manual_seed(0)
    return torch.randn((size, 3, 8, 8), generator=rng), torch.randint(CLASSES, (size,), generator=rng)


def mixed_of(mixup, cutmix, *, seed=3):
    return Mixed(mixup, cutmix, num_classes=CLASSES, label_smoothing=0.1, seed=seed)


def view_of(view, batch, *, index=None, epoch=2):
    images, labels = batch
    return view(torch.arange(7, 7 + len(labels)) if index is None else index, (images.clone(), labels), epoch)


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_batches_are_mixed_as_by_timm_whatever_the_global_generators(mixup, cutmix):
    (images, labels), before = batch_of(6), global_states()
    got = view_of(mixed_of(mixup, cutmix), (images, labels))
    assert global_states() == before
    bits = int(draws(3, 2, [7], Purpose.MIX)[0])
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed([bits & 0xFFFFFFFF, bits >> 32])  # noqa: NPY002
    own = import_image_library("timm.data.mixup").Mixup(mixup, cutmix, label_smoothing=0.0, num_classes=CLASSES)
    expected = own(images.clone(), labels)
    np.random.set_state(state)  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert not torch.equal(got[0], images)


def test_the_loss_of_a_mixed_batch_is_timms():
    images, labels = batch_of(6)
    _, targets = view_of(mixed_of(0.8, 1.0), (images, labels))
    outputs = torch.randn((6, CLASSES), generator=torch.Generator().manual_seed(1))
    smoothed = targets * 0.9 + 0.1 / CLASSES  # as timm mixes targets that are smoothed before
    expected = import_image_library("timm.loss").SoftTargetCrossEntropy()(outputs, smoothed)
    losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(losses.mean(), expected)


def test_the_draw_depends_on_epoch_and_first_sample_and_seed():
    batch, view = batch_of(6), mixed_of(0.8, 0.0)
    again, *others = (
        view_of(view, batch)[0],
        view_of(view, batch, epoch=3)[0],
        view_of(view, batch, index=torch.arange(6))[0],
        view_of(mixed_of(0.8, 0.0, seed=4), batch)[0],
    )
    assert torch.equal(view_of(view, batch)[0], again)
    assert not any(torch.equal(other, again) for other in others)


def test_an_odd_batch_leaves_its_middle_sample_as_it_is():
    images, labels = batch_of(7)
    mixed, targets = view_of(mixed_of(0.8, 0.0), (images, labels))
    assert [i for i in range(7) if torch.equal(mixed[i], images[i])] == [3]
    assert torch.equal(targets[3], F.one_hot(labels, CLASSES)[3].float())
    torch.testing.assert_close(targets.sum(1), torch.ones(7))
    share = float(targets[0, labels[0]])
    torch.testing.assert_close(mixed[0], share * images[0] + (1 - share) * images[6])
    single = view_of(mixed_of(0.8, 0.0), (images[:1], labels[:1]))[0]
    assert torch.equal(single, images[:1])


@pytest.mark.parametrize("share", [0.9, 0.2])
@pytest.mark.parametrize("size", [6, 7])
def test_a_score_is_of_the_mixed_image_in_which_the_sample_has_the_larger_share(share, size):
    labels = torch.tensor([0, 1, 2, 3, 2, 4, 1])[:size]  # samples 2 and 4 of seven are of one class
    outputs = torch.randn((size, CLASSES), generator=torch.Generator().manual_seed(1))
    each = F.one_hot(labels, CLASSES).float()
    targets = share * each + (1 - share) * each.flip(0)
    scores = mixed_of(0.8, 0.0).scores(outputs, labels, targets)
    for i in range(size):
        partner = size - 1 - i
        shown = i if share > 0.5 or labels[i] == labels[partner] else partner
        expected = F.cross_entropy(outputs[shown][None], labels[i][None], label_smoothing=0.1)
        torch.testing.assert_close(scores[i], expected)


def test_the_order_of_the_patches_depends_on_the_sample_and_the_epoch_alone():
    masks, images = Masks(16, seed=0), torch.zeros(4, 1, 8, 8)
    index = torch.tensor([9, 2, 5, 0])
    same, noise = masks(index, (images, index), 1)
    assert torch.equal(same, images)
    assert noise.shape == (4, 16)
    assert noise.dtype == torch.float32
    assert ((noise >= 0) & (noise < 1)).all()
    assert torch.equal(masks(index[[2, 0]], (images[:2], index[:2]), 1)[1], noise[[2, 0]])
    assert not torch.equal(masks(index, (images, index), 2)[1], noise)
    assert len(noise.unique()) == 64

import random
from math import sqrt

import numpy as np
import pytest
import torch

from orderdp.data.augment import Purpose, draw_views, draws, erase, normalize, padding_of, source_pixels
from orderdp.data.imports import import_image_library

GAMMA = 0x9E3779B97F4A7C15


def splitmix64(state):
    """The published generator's output for one state, in plain integers."""
    z = state % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def plain_draw(seed, epoch, sample, purpose):
    state = 0
    for word in (seed, epoch, purpose):
        state = splitmix64((state ^ word % 2**64) + GAMMA)
    return splitmix64(state + GAMMA * (sample + 1))


def stored_images(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def augmented(images, views):
    height, width = images.shape[-2:]
    pixels = source_pixels(torch.from_numpy(views), height, width)
    return images.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def assert_frequencies(values, expected):
    """Each value occurs as often as expected, within five standard deviations of the binomial count."""
    for value, chance in expected.items():
        count = int((values == value).sum())
        assert abs(count - len(values) * chance) < 5 * sqrt(len(values) * chance * (1 - chance)), (value, count)
    assert set(np.unique(values).tolist()) == set(expected)


def test_the_plain_generator_gives_the_published_numbers():
    assert [splitmix64(1234567 + GAMMA * i) for i in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 199), (2**63 - 1, 3), (-1, 1)])
def test_draws_are_those_of_the_plain_generator(seed, epoch):
    ids = [0, 1, 49_999, 2**40]
    for purpose in Purpose:
        assert draws(seed, epoch, ids, purpose).tolist() == [plain_draw(seed, epoch, i, purpose) for i in ids]


def test_views_under_seed_0_are_the_golden_ones():
    views = draw_views("flip_crop", range(8), seed=0, epoch=1, padding=4)
    assert views.tolist() == [
        [-4, 0, -3, 1, 4, -1, -1, 4],
        [1, 0, 2, -1, -1, 2, -2, 2],
        [1, 0, 1, 0, 1, 0, 0, 1],
    ]


def test_a_draw_changes_with_seed_epoch_sample_and_purpose():
    cases = [(seed, epoch, p) for seed in range(4) for epoch in range(4) for p in Purpose]
    numbers = np.concatenate([draws(seed, epoch, range(100), p) for seed, epoch, p in cases])
    assert len(np.unique(numbers)) == len(cases) * 100


def test_a_view_does_not_depend_on_the_company_it_is_asked_for_in():
    whole = draw_views("flip_crop", range(1000), seed=3, epoch=2, padding=4)
    some = np.array([999, 0, 5, 5, 17])
    assert draw_views("flip_crop", some, seed=3, epoch=2, padding=4).tolist() == whole[:, some].tolist()


@pytest.mark.parametrize("padding", [2, 4])
def test_moves_and_flips_are_uniform_over_samples(padding):
    down, right, flips = draw_views("flip_crop", range(200_000), seed=0, epoch=0, padding=padding)
    moves = dict.fromkeys(range(-padding, padding + 1), 1 / (2 * padding + 1))
    assert_frequencies(down, moves)
    assert_frequencies(right, moves)
    assert_frequencies(flips, {0: 0.5, 1: 0.5})


def test_moves_and_flips_of_one_sample_are_jointly_uniform_over_epochs():
    views = [draw_views("flip_crop", [123], seed=0, epoch=epoch, padding=2)[:, 0] for epoch in range(20_000)]
    down, right, flip = np.array(views).T
    assert_frequencies((down + 2) * 10 + (right + 2) * 2 + flip, dict.fromkeys(range(50), 1 / 50))


def test_flips_of_neighbouring_seeds_epochs_and_samples_are_independent():
    def flips(seed, epoch, ids):
        return draw_views("flip_crop", ids, seed=seed, epoch=epoch, padding=4)[2]

    ids = np.arange(100_000)
    first = flips(0, 0, ids)
    for other in (flips(1, 0, ids), flips(0, 1, ids), flips(1, 1, ids), flips(0, 0, ids + 1)):
        assert_frequencies(2 * first + other, dict.fromkeys(range(4), 1 / 4))


def test_crop_moves_as_flip_crop_does_and_never_flips():
    crop, both = (draw_views(augment, range(500), seed=1, epoch=1, padding=4) for augment in ("crop", "flip_crop"))
    assert crop[:2].tolist() == both[:2].tolist()
    assert not crop[2].any()
    assert both[2].any()


def test_none_leaves_every_pixel_where_it_is():
    images = stored_images(5, 3, 9, 12)
    assert torch.equal(augmented(images, draw_views("none", range(5), seed=0, epoch=0, padding=2)), images)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 16, 21)])
def test_the_batch_equals_torchvision_sample_by_sample(shape):
    functional = import_image_library("torchvision.transforms.functional")
    images = stored_images(300, *shape)
    padding = padding_of(*shape[1:])
    views = draw_views("flip_crop", range(300), seed=0, epoch=4, padding=padding)
    for image, got, (down, right, flip) in zip(images, augmented(images, views), views.T.tolist(), strict=True):
        padded = functional.pad(image, padding, padding_mode="reflect")
        expected = functional.crop(padded, padding + down, padding + right, *shape[1:])
        assert torch.equal(got, functional.hflip(expected) if flip else expected)


@pytest.mark.parametrize(("size", "padding"), [(8, 2), (15, 2), (16, 4), (32, 4)])
def test_images_smaller_than_16_are_padded_by_2_pixels(size, padding):
    assert padding_of(size, 40) == padding_of(40, size) == padding


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalize_agrees_with_torchvision_up_to_rounding(channels_last):
    functional = import_image_library("torchvision.transforms.functional")
    images = stored_images(4, 3, 8, 8)
    mean, std = (0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025)
    scaled = (255 * torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    got = normalize(images, *scaled, channels_last=channels_last)
    # Three roundings of numbers up to 255 / (255 std) ~ 5: within 5 * 3 * 2**-23.
    torch.testing.assert_close(got, functional.normalize(images / 255, mean, std), rtol=0, atol=5 * 3 * 2**-23)
    assert got.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_global_generators_are_not_moved():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    draw_views("flip_crop", range(10), seed=0, epoch=0, padding=4)
    assert states() == before


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (7, 12)])
def test_a_square_of_half_the_side_around_any_pixel_is_erased(height, width):
    masks = erase(torch.ones(20_000, 1, height, width), range(20_000), seed=0, epoch=0)[:, 0] == 0
    down, right = masks.any(2), masks.any(1)
    assert torch.equal(masks, down[:, :, None] & right[:, None, :])  # rectangles
    for inside, side in ((down, height), (right, width)):
        half = side // 2
        firsts = torch.arange(side) - side // 4  # of a square with its centre at each pixel
        lengths = firsts.add(half).clamp(max=side) - firsts.clamp(min=0)
        counts = torch.bincount(inside.sum(1), minlength=half + 1)
        for length in range(1, half + 1):
            expected = 20_000 * float((lengths == length).double().mean())
            assert abs(int(counts[length]) - expected) < 5 * max(expected, 1) ** 0.5
        assert int(counts[1:].sum()) == 20_000


def test_what_is_erased_depends_on_seed_epoch_and_id_alone():
    def erased(ids, seed=0, epoch=0):
        return erase(torch.ones(len(ids), 2, 8, 8), ids, seed=seed, epoch=epoch)

    whole = erased(range(50))
    assert torch.equal(erased([7, 3]), whole[[7, 3]])
    assert not torch.equal(erased(range(50), seed=1), whole)
    assert not torch.equal(erased(range(50), epoch=1), whole)
    assert torch.equal(whole[:, 0], whole[:, 1])  # of all channels

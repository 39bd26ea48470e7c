"""Data sets of texts, and data sets whose labels are numbers to predict or wrong."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from orderdp.comparison.checks import LoadedData
from orderdp.data import rotated, sst2
from orderdp.data.base import DataSets, Features, ImageArrays, Texts, from_arrays
from orderdp.data.registry import load_dataset
from orderdp.data.texts import ResidentTexts
from orderdp.training.recipe import Recipe

TRAIN = 'sentence\tlabel\na fine film \t1\na " dull film \t0\nfine , a fine dull end \t1\n'
DEV = "sentence\tlabel\na fine\x85surprise \t1\n"  # only a line feed ends a line


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """A folder of a small SST-2, taken for GLUE's."""
    home = tmp_path / "SST-2"
    home.mkdir()
    for name, content in {"train.tsv": TRAIN, "dev.tsv": DEV}.items():
        (home / name).write_text(content)
        monkeypatch.setitem(sst2.MD5, name, hashlib.md5(content.encode(), usedforsecurity=False).hexdigest())
    return tmp_path


def test_the_tokens_are_the_words_of_the_training_texts_by_frequency(reviews):
    data = load_dataset("sst2", data_root=reviews)
    # fine and a three times each, dull and film twice; the rest once, in alphabetical order
    assert data.train.tokens.tolist() == [[2, 3, 5, 0, 0, 0], [2, 6, 4, 5, 0, 0], [3, 7, 2, 3, 4, 8]]
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.test.tokens.tolist() == [[2, 3, 1]]  # 1: a word that no training text has
    assert (data.vocabulary, data.num_classes, len(data.test)) == (9, 2, 1)


def test_the_files_may_lie_in_the_folder_itself(reviews):
    assert len(load_dataset("sst2", data_root=reviews / "SST-2").train) == 3


def test_a_missing_or_changed_file_of_texts_is_refused(reviews):
    path = reviews / "SST-2" / "dev.tsv"
    path.write_text("sentence\tlabel\nother \t1\n")
    with pytest.raises(
        ValueError, match=f"^sst2: the file {re.escape(str(path))} must have md5 .*; delete it and fetch"
    ):
        load_dataset("sst2", data_root=reviews)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^data_root must hold sst2, got .* without dev.tsv; unpack GLUE's"):
        load_dataset("sst2", data_root=reviews)
    with pytest.raises(FileNotFoundError, match=r"^data_root must hold sst2, got None without train.tsv; unpack"):
        load_dataset("sst2")


def test_a_batch_of_texts_is_cut_to_its_longest():
    texts = Texts(torch.tensor([[2, 0, 0, 0], [3, 4, 5, 0], [6, 7, 0, 0], [0, 0, 0, 0]]), torch.tensor([0, 1, 0, 1]))
    samples = ResidentTexts(texts)
    tokens, labels = samples.__getitems__([2, 1])
    assert (tokens.tolist(), labels.tolist()) == ([[6, 7, 0], [3, 4, 5]], [0, 1])
    assert [len(samples[i][0]) for i in range(4)] == [1, 3, 2, 1]


def test_zeros_before_or_within_a_text_cut_off_none_of_its_tokens():
    texts = Texts(torch.tensor([[0, 0, 2, 3, 0], [4, 0, 5, 0, 0]]), torch.tensor([0, 1]))
    samples = ResidentTexts(texts)
    assert samples.__getitems__([0, 1])[0].tolist() == [[0, 0, 2, 3], [4, 0, 5, 0]]
    assert samples[1][0].tolist() == [4, 0, 5]


def test_turning_by_a_right_angle_moves_the_top_to_the_right():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 1, 4] = 200
    turned = rotated.turn(image, torch.tensor([np.pi / 2]))
    assert turned[0, 0].nonzero().tolist() == [[4, 7]]
    assert int(turned.max()) == 200


@pytest.fixture
def turned(monkeypatch):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (6000, 1, 8, 8), dtype=np.uint8))
    parts = [ImageArrays(part, torch.zeros(len(part), dtype=torch.int64)) for part in (images, images[:500])]
    monkeypatch.setattr(rotated, "load_fashion_mnist", lambda **_: from_arrays(*parts))
    return images, load_dataset("rotated_fashion_mnist")


def test_the_labels_are_the_angles_in_standard_deviations(turned):
    images, data = turned
    assert data.num_classes == 0
    assert data.train.labels.dtype == torch.float32
    assert float(data.train.labels.abs().max()) <= np.sqrt(3)
    assert abs(float(data.train.labels.std()) - 1) < 0.03
    assert abs(float(data.train.labels.mean())) < 0.05
    angles = data.train.labels.double() * np.deg2rad(60) / np.sqrt(3)
    assert torch.equal(rotated.turn(images[5990:], angles[5990:]), data.train.images[5990:])  # of the second block
    assert not torch.equal(data.train.labels[:500], data.test.labels)  # the same images, turned otherwise


def test_a_subset_of_samples_with_numbers_is_a_uniform_one_in_which_smaller_are_part_of_larger(turned):
    _, data = turned
    small, large = (set(data.with_train_size(size).train.labels.tolist()) for size in (300, 600))
    assert (len(small), small < large) == (300, True)
    assert len(set(data.train.labels[:300].tolist()) & small) < 60


def test_noise_gives_a_share_of_the_labels_another_class():
    data = load_dataset("digits")
    noisy = data.with_label_noise(0.2)
    wrong = data.train.labels != noisy.train.labels
    assert int(wrong.sum()) == round(0.2 * len(data.train))
    moves = (noisy.train.labels - data.train.labels)[wrong] % 10
    assert torch.bincount(moves, minlength=10)[1:].min() > 15  # of about 32 each
    assert torch.equal(noisy.test.labels, data.test.labels)
    more = data.train.labels != data.with_label_noise(0.4).train.labels
    assert bool(more[wrong].all())
    everything = data.with_label_noise(1.0).train.labels != data.train.labels
    assert bool(everything.all())


def test_a_recipe_asks_for_noise_and_holds_out_noisy_labels():
    loaded = LoadedData()
    plain, noisy = (loaded.of(Recipe(train_size=400, held_out=0.5, label_noise=share)) for share in (0.0, 0.5))
    for data in (plain, noisy):
        assert (len(data.train), len(data.test)) == (200, 200)
    where = {
        bytes(image.numpy()): int(label) for image, label in zip(plain.test.images, plain.test.labels, strict=True)
    }
    where |= {
        bytes(image.numpy()): int(label) for image, label in zip(plain.train.images, plain.train.labels, strict=True)
    }
    held = [
        where[bytes(image.numpy())] != int(label)
        for image, label in zip(noisy.test.images, noisy.test.labels, strict=True)
    ]
    assert 0.35 < np.mean(held) < 0.65


def test_imbalance_leaves_one_sample_in_n_of_the_classes_of_the_second_half():
    data = load_dataset("digits")
    counts = torch.bincount(data.train.labels)
    uneven = data.with_imbalance(10)
    left = torch.bincount(uneven.train.labels)
    assert torch.equal(left[:5], counts[:5])
    assert left[5:].tolist() == [round(int(count) / 10) for count in counts[5:]]
    assert uneven.rare_classes == (5, 6, 7, 8, 9)
    assert torch.equal(uneven.test.labels, data.test.labels)
    assert torch.equal(data.train.labels[torch.from_numpy(uneven.rows)], uneven.train.labels)
    assert set(data.with_imbalance(20).rows) < set(uneven.rows) < set(data.with_imbalance(2).rows)
    assert torch.bincount(data.with_imbalance(1e9).train.labels)[5:].tolist() == [1] * 5
    odd = replace(data, num_classes=9, train=data.train.subset(np.flatnonzero(data.train.labels < 9)))
    assert torch.equal(torch.bincount(odd.with_imbalance(10).train.labels)[:5], counts[:5])


def test_which_samples_are_kept_and_mislabelled_is_the_same_in_every_release():
    """Archived runs are compared with new ones."""
    data = load_dataset("digits").with_train_size(400)
    noisy = data.with_label_noise(0.02)
    wrong = np.flatnonzero(noisy.train.labels != data.train.labels)
    assert wrong.tolist() == [17, 162, 185, 203, 215, 258, 344, 358]
    assert noisy.train.labels[wrong].tolist() == [7, 0, 8, 2, 4, 7, 7, 1]
    assert data.rows[:8].tolist() == [7, 8, 10, 11, 15, 16, 17, 22]
    uneven = data.with_imbalance(40)
    assert uneven.rows[uneven.train.labels > 4].tolist() == [607, 760, 822, 1221, 1330]


def test_a_class_is_rare_below_half_of_its_even_share():
    labels = torch.tensor([0] * 21 + [1] * 4 + [2] * 5)
    rows = Features(torch.zeros(30, 1), labels)
    assert DataSets(rows, rows, num_classes=3).rare_classes == (1,)
    assert DataSets(rows, rows, num_classes=4).rare_classes == (3,)  # a class without a sample; 4 of 30 / 4 are enough


def test_a_recipe_asks_for_imbalance_before_wrong_labels_and_held_out_samples():
    loaded = LoadedData()
    uneven = loaded.of(Recipe(train_size=400, imbalance=10))
    assert (len(uneven.train), len(uneven.test)) == (220, 360)
    noisy = loaded.of(Recipe(train_size=400, imbalance=10, label_noise=0.5, held_out=0.5))
    assert (len(noisy.train), len(noisy.test)) == (110, 110)
    before = dict(zip(uneven.rows.tolist(), uneven.train.labels.tolist(), strict=True))
    wrong = [before[row] != label for row, label in zip(noisy.rows.tolist(), noisy.train.labels.tolist(), strict=True)]
    assert 0.35 < np.mean(wrong) < 0.65
    with pytest.raises(ValueError, match=r"^imbalance must lie in \[1, inf\), got 0.5; write imbalance = 10.0$"):
        Recipe(imbalance=0.5)


def test_numbers_cannot_have_wrong_classes(turned):
    _, data = turned
    with pytest.raises(ValueError, match=r"^label_noise needs labels of several classes, got 0.2 for numbers; leave"):
        data.with_label_noise(0.2)
    with pytest.raises(
        ValueError, match=r"^imbalance needs labels of several classes, got 10 for numbers; leave it out$"
    ):
        data.with_imbalance(10)
    with pytest.raises(ValueError, match=r"^label_noise needs labels of several classes, got 0.2 for one class; leave"):
        replace(data, num_classes=1).with_label_noise(0.2)
    with pytest.raises(
        ValueError, match=r"^label_noise is a fraction and must lie in \[0, 1\], got 2; for 2 % write 0.02$"
    ):
        Recipe(label_noise=2)


def test_texts_can_be_noisy_and_held_out_as_images_can(reviews):
    data = load_dataset("sst2", data_root=reviews)
    assert data.with_label_noise(1.0).train.labels.tolist() == [0, 1, 0]
    held = replace(data, train=data.train).holding_out(1 / 3)
    assert (len(held.train), len(held.test), held.vocabulary) == (2, 1, 9)

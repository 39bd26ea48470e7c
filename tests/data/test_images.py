import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from orderdp.data.augment import Purpose, draws
from orderdp.data.base import ImageArrays, ImageFiles
from orderdp.data.images import FileImages, ResidentImages, SampleImages
from orderdp.data.imports import import_image_library

COLOUR = {"mean": (0.5074, 0.4867, 0.4411), "std": (0.2011, 0.1987, 0.2025)}
GREY = {"mean": (0.3,), "std": (0.37,)}
AUGMENTS = ("none", "crop", "flip_crop", "flip_crop_erase", "flip_crop_random_erase")


def arrays(n=60, channels=3, size=32):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return ImageArrays(torch.from_numpy(images), torch.from_numpy(rng.integers(0, 10, n)))


@pytest.fixture
def files(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return ImageFiles(tuple(paths), torch.arange(6))


def whole(batch):
    return batch


def epoch_of(dataset, **arguments):
    """All images and labels of a pass over the data set in order."""
    batches = list(DataLoader(dataset, batch_size=7, **arguments))
    return tuple(torch.cat(part) for part in zip(*batches, strict=True))


def assert_same(got, expected):
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize(("channels", "size", "normal"), [(3, 32, COLOUR), (1, 28, GREY), (1, 8, GREY)])
def test_the_resident_path_and_the_sample_path_give_the_same_bits(augment, channels, size, normal):
    source = arrays(60, channels, size)
    resident, samples = (kind(source, augment=augment, seed=5, **normal) for kind in (ResidentImages, SampleImages))
    for epoch in (0, 3):
        resident.set_epoch(epoch)
        samples.set_epoch(epoch)
        assert_same(epoch_of(resident, collate_fn=whole), epoch_of(samples))


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize(("channels", "size", "normal"), [(3, 32, COLOUR), (1, 28, GREY), (1, 8, GREY)])
def test_a_processor_shows_the_same_bits_as_an_accelerator(augment, channels, size, normal, monkeypatch):
    source = arrays(60, channels, size)
    here = ResidentImages(source, augment=augment, seed=5, **normal)
    monkeypatch.setattr(ResidentImages, "_copies_windows", lambda self: False)
    there = ResidentImages(source, augment=augment, seed=5, **normal)
    assert_same(here.__getitems__(list(range(60))), there.__getitems__(list(range(60))))
    assert len(pickle.dumps(here)) < 2.5 * len(pickle.dumps(there))  # of images of 8 pixels with borders of 2


def test_without_augmentation_the_stored_images_are_shown_normalised():
    source = arrays()
    images, labels = ResidentImages(source, **COLOUR).__getitems__([3, 0, 59])
    mean, std = (torch.tensor(COLOUR[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert torch.equal(((images * std + mean) * 255).round().to(torch.uint8), source.images[[3, 0, 59]])
    assert torch.equal(labels, source.labels[[3, 0, 59]])
    assert images.dtype == torch.float32


def test_a_resident_image_does_not_depend_on_its_batch():
    dataset = ResidentImages(arrays(), augment="flip_crop", **COLOUR)
    images, labels = dataset.__getitems__(list(range(60)))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert_same(dataset.__getitems__(order.tolist()), (images[order], labels[order]))
    assert_same(dataset.__getitems__(order), (images[order], labels[order]))
    assert_same(dataset[17], (images[17], labels[17]))


@pytest.mark.parametrize("kind", [ResidentImages, SampleImages])
def test_epochs_and_seeds_show_different_views_and_an_epoch_set_again_the_same(kind):
    def images(seed, epoch):
        dataset = kind(arrays(), augment="flip_crop", seed=seed, **COLOUR)
        dataset.set_epoch(epoch)
        return torch.stack([dataset[i][0] for i in range(60)])

    first = images(0, 1)
    assert torch.equal(first, images(0, 1))
    for other in (images(0, 2), images(1, 1), images(1, 0)):
        # A view recurs with chance 1 / (9 * 9 * 2): of 60, five would be beyond ten standard deviations.
        assert (first == other).flatten(1).all(1).sum() < 5


def test_channels_last_changes_the_layout_and_no_value():
    plain, last = (
        ResidentImages(arrays(), augment="flip_crop", channels_last=flag, **COLOUR).__getitems__([4, 2])
        for flag in (False, True)
    )
    assert_same(plain, last)
    assert plain[0].is_contiguous()
    assert last[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_nothing_that_a_batch_sends_to_the_device_waits_for_it(augment, monkeypatch):
    monkeypatch.setattr(ResidentImages, "_copies_windows", lambda self: False)  # as on an accelerator
    samples, sent, to = ResidentImages(arrays(), augment=augment, **COLOUR), [], torch.Tensor.to

    def noted(tensor, *arguments, **named):
        if any(isinstance(argument, torch.device) for argument in arguments):
            sent.append(named.get("non_blocking", False))
        return to(tensor, *arguments, **named)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    samples.__getitems__([4, 2])
    assert set(sent) == {True}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("kind", "collate"), [(ResidentImages, whole), (SampleImages, None)])
def test_two_workers_give_the_batches_of_none(kind, collate):
    dataset = kind(arrays(), augment="flip_crop", **COLOUR)
    dataset.set_epoch(2)
    in_workers = epoch_of(dataset, num_workers=2, collate_fn=collate)
    assert_same(in_workers, epoch_of(dataset, collate_fn=collate))


@pytest.mark.parametrize("kind", [ResidentImages, SampleImages])
def test_images_in_memory_survive_pickling(kind):
    dataset = kind(arrays(), augment="flip_crop", seed=4, **COLOUR)
    dataset.set_epoch(9)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == 60
    assert_same([copy[i][0] for i in range(5)], [dataset[i][0] for i in range(5)])


@pytest.mark.parametrize("kind", [ResidentImages, SampleImages])
def test_an_id_beyond_the_end_is_an_index_error(kind):
    dataset = kind(arrays(), augment="flip_crop", **COLOUR)
    with pytest.raises(IndexError, match="out of"):
        dataset[60]


@pytest.mark.parametrize("kind", [ResidentImages, SampleImages, FileImages])
def test_an_unknown_augmentation_is_refused(kind, files):
    source = files if kind is FileImages else arrays()
    message = f"augment must be one of {', '.join(map(repr, AUGMENTS))}, got 'flip'; write augment='none' for none"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind(source, augment="flip", **COLOUR)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_made_on_the_gpu_has_the_bits_of_one_made_on_the_processor():
    there, here = (ResidentImages(arrays(), augment="flip_crop", device=d, **COLOUR) for d in ("cuda", "cpu"))
    got = there.__getitems__(list(range(60)))
    assert all(part.is_cuda for part in got)
    assert_same([part.cpu() for part in got], here.__getitems__(list(range(60))))


def test_files_are_evaluated_at_the_centre_of_the_resized_image(files):
    from PIL import Image

    transforms = import_image_library("torchvision.transforms")
    by_hand = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(28),
            transforms.ToTensor(),
            transforms.Normalize(*COLOUR.values()),
        ]
    )
    dataset = FileImages(files, image_size=28, **COLOUR)
    for i, path in enumerate(files.paths):
        with Image.open(path) as image:
            assert_same((dataset[i][0],), (by_hand(image.convert("RGB")),))
        assert dataset[i][1] == i


def test_erasing_changes_a_square_of_an_image_that_is_flipped_and_cropped_alike(files):
    sources = [(ResidentImages, arrays(), {}), (SampleImages, arrays(), {}), (FileImages, files, {"image_size": 32})]
    for kind, source, more in sources:
        plain, erased = (kind(source, augment=a, **more, **COLOUR) for a in ("flip_crop", "flip_crop_erase"))
        for i in range(len(source)):
            before, after = plain[i][0], erased[i][0]
            where = (after == 0).all(0)
            assert torch.equal(after[:, ~where], before[:, ~where])
            assert 8 * 8 <= int(where.sum()) <= 16 * 16


def test_random_erasing_puts_noise_into_a_rectangle_of_a_quarter_of_the_images():
    plain, erased = (
        epoch_of(ResidentImages(arrays(), augment=augment, **COLOUR), collate_fn=whole)[0]
        for augment in ("flip_crop", "flip_crop_random_erase")
    )
    changed = (plain != erased).any(1)  # (60, 32, 32)
    of_image = changed.flatten(1).sum(1)
    assert 6 <= int((of_image > 0).sum()) <= 24
    for image in changed[of_image > 0]:
        rows, columns = (int(image.any(side).sum()) for side in (1, 0))
        assert int(image.sum()) == rows * columns <= 32 * 32 / 3 + 32
    noise = erased.permute(0, 2, 3, 1)[changed]
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1


@pytest.mark.parametrize("augment", ["crop", "flip_crop"])
def test_files_are_trained_on_by_torchvisions_transforms_under_the_samples_own_seed(augment, files):
    from PIL import Image

    transforms = import_image_library("torchvision.transforms")
    steps = [transforms.RandomResizedCrop(24), transforms.ToTensor(), transforms.Normalize(*COLOUR.values())]
    if augment == "flip_crop":
        steps.insert(1, transforms.RandomHorizontalFlip())
    dataset = FileImages(files, image_size=24, augment=augment, seed=2, **COLOUR)
    dataset.set_epoch(7)
    for i, path in enumerate(files.paths):
        with Image.open(path) as image, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(draws(2, 7, [i], Purpose.TRANSFORM)[0]))
            assert_same((dataset[i][0],), (transforms.Compose(steps)(image.convert("RGB")),))


def test_files_show_different_views_by_epoch_and_seed(files):
    def images(seed, epoch):
        dataset = FileImages(files, image_size=24, augment="flip_crop", seed=seed, **COLOUR)
        dataset.set_epoch(epoch)
        return [dataset[i][0] for i in range(len(dataset))]

    first = images(0, 1)
    assert_same(first, images(0, 1))
    for other in (images(0, 2), images(1, 1), images(1, 0)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_workers_read_the_files_as_none_do(files):
    dataset = FileImages(files, image_size=24, augment="flip_crop", **COLOUR)
    dataset.set_epoch(2)
    assert_same(epoch_of(dataset, num_workers=2), epoch_of(dataset))


def test_pickled_files_do_not_ask_for_torchvision_when_read_back(files):
    dataset = FileImages(files, image_size=24, augment="flip_crop", **COLOUR)
    first = dataset[0]
    pickled = pickle.dumps(dataset)
    assert b"torchvision" not in pickled
    assert torch.equal(pickle.loads(pickled)[0][0], first[0])


@pytest.fixture
def damaged(files):
    """Twelve files of two labels, even and odd; those at 2, 4 and 11 cannot be decoded."""
    from PIL import Image

    rng, paths = np.random.default_rng(1), list(files.paths)
    for place in range(6, 12):
        paths.append(paths[0].replace("0.png", f"{place}.jpg"))
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(paths[-1])
    Path(paths[2]).write_text("no image")
    Path(paths[4]).write_bytes(b"")
    Path(paths[11]).write_bytes(Path(paths[11]).read_bytes()[:300])
    return ImageFiles(tuple(paths), torch.arange(12) % 2)


def test_in_the_place_of_an_image_that_cannot_be_decoded_the_next_of_its_label_is_read(damaged, caplog):
    dataset = FileImages(damaged, image_size=24, **COLOUR)
    shown = [dataset[i] for i in range(12)]
    assert [label for _, label in shown] == [0, 1] * 6
    for bad, instead in ((2, 6), (4, 6), (11, 1)):
        assert torch.equal(shown[bad][0], shown[instead][0])
    assert dataset.unreadable == [damaged.paths[place] for place in (2, 4, 11)]
    # The file at 2 is met first, on the way to 6 that at 4 too; each is named once, also in later epochs.
    dataset.set_epoch(1)
    assert torch.equal(dataset[2][0], shown[6][0])
    assert len(caplog.messages) == 3
    assert caplog.messages[1] == (
        f"{damaged.paths[4]} cannot be decoded (cannot identify image file); "
        f"{damaged.paths[6]} of the same class is read in its place in every epoch; replace or remove the file"
    )


def test_the_image_that_is_read_instead_has_the_view_of_the_sample(damaged):
    dataset, good = FileImages(damaged, image_size=24, augment="flip_crop", **COLOUR), list(damaged.paths)
    good[2] = good[6]
    whole = FileImages(ImageFiles(tuple(good), damaged.labels), image_size=24, augment="flip_crop", **COLOUR)
    for images in (dataset, whole):
        images.set_epoch(3)
    assert torch.equal(dataset[2][0], whole[2][0])
    assert not torch.equal(dataset[2][0], dataset[6][0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_replace_the_same_images_and_tell_the_first_process_which(damaged):
    alone, shared = (FileImages(damaged, image_size=24, augment="flip_crop", **COLOUR) for _ in range(2))
    assert_same(epoch_of(shared, num_workers=2), epoch_of(alone))
    assert shared.unreadable == alone.unreadable != []


def test_an_error_that_is_no_decoders_ends_the_run(damaged, monkeypatch):
    def killed(path):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    monkeypatch.setattr(import_image_library("torchvision.datasets.folder"), "default_loader", killed)
    dataset = FileImages(damaged, image_size=24, **COLOUR)
    with pytest.raises(RuntimeError, match="killed by signal"):
        dataset[0]
    assert dataset.unreadable == []


def test_of_many_files_ten_are_named_and_all_are_listed(files, caplog):
    bad = Path(files.paths[0]).with_name("bad.png")
    bad.write_text("no image")
    dataset = FileImages(ImageFiles((*[str(bad)] * 12, files.paths[1]), torch.zeros(13)), image_size=24, **COLOUR)
    dataset[0]
    assert len(dataset.unreadable) == 12
    assert len(caplog.messages) == 10
    assert [message.endswith("; further files are counted, not named") for message in caplog.messages] == [
        False
    ] * 9 + [True]


def test_a_class_without_an_image_that_can_be_decoded_is_refused(damaged):
    only = FileImages(ImageFiles(damaged.paths, torch.arange(12)), image_size=24, **COLOUR)
    message = f"a class must have an image that can be decoded, got none beside {damaged.paths[2]} (cannot identify"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*; add one, or remove the class$"):
        only[2]


def test_a_file_that_was_removed_is_an_error_and_not_replaced(damaged):
    dataset = FileImages(damaged, image_size=24, **COLOUR)
    Path(damaged.paths[3]).unlink()
    with pytest.raises(FileNotFoundError, match=r"3\.png"):
        dataset[3]


def test_no_path_reads_or_moves_the_global_generators(files):
    datasets = [kind(arrays(), augment="flip_crop", **COLOUR) for kind in (ResidentImages, SampleImages)]
    datasets.append(FileImages(files, image_size=24, augment="flip_crop", **COLOUR))
    before = global_states()
    first = [dataset[1][0] for dataset in datasets]
    assert global_states() == before
    torch.rand(1)
    assert_same([dataset[1][0] for dataset in datasets], first)

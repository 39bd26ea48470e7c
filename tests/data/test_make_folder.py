"""A folder of JPEG files made from images in memory."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from orderdp.data.base import DataSets, ImageArrays, from_arrays
from orderdp.data.folder import make_folder
from orderdp.data.registry import load_dataset


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def colours():
    """Twelve classes of smooth colour images of 8 pixels, of which the last occurs once."""
    rng = np.random.default_rng(0)

    def part(n):
        corners = torch.from_numpy(rng.integers(0, 256, (n, 3, 2, 2))).float()
        images = torch.nn.functional.interpolate(corners, size=8, mode="bilinear", align_corners=True)
        return ImageArrays(images.round().to(torch.uint8), torch.tensor([*np.arange(n - 1) % 11, 11]))

    return from_arrays(part(56), part(34))


def test_it_is_read_back_with_the_same_labels_at_the_size_asked_for(colours, tmp_path):
    from PIL import Image
    from PIL.JpegImagePlugin import get_sampling

    assert make_folder(colours, tmp_path / "made", image_size=16) == (56, 34)
    sets = load_dataset("folder", data_root=tmp_path / "made", image_size=14)
    assert sets.num_classes == 12
    for found, source in ((sets.train, colours.train), (sets.test, colours.test)):
        places = [int(Path(path).stem) for path in found.paths]
        assert sorted(places) == list(range(len(source)))
        assert found.labels.equal(source.labels[places])
        for place, path in zip(places, found.paths, strict=True):
            plain = Image.fromarray(source.images[place].permute(1, 2, 0).numpy())
            resized = np.asarray(plain.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
            with Image.open(path) as image:
                assert (image.format, image.size, image.mode) == ("JPEG", (16, 16), "RGB")
                assert get_sampling(image) == 0  # colours at full resolution
                assert np.abs(np.asarray(image, dtype=int) - resized).mean() < 3


def test_equal_arguments_write_equal_bytes(colours, tmp_path):
    for name in ("one", "two"):
        make_folder(colours, tmp_path / name, image_size=16, classes=3, train_size=9)
    one, two = files_in(tmp_path / "one"), files_in(tmp_path / "two")
    assert one == two
    assert sorted({name.rsplit("/", 1)[0] for name in one}) == [
        f"{p}/{c:02}" for p in ("train", "val") for c in range(3)
    ]
    counts = [sum(name.startswith(f"train/{c:02}/") for name in one) for c in range(3)]
    assert counts == [3, 3, 3]
    assert sum(name.startswith("val/") for name in one) == 9  # all of these classes


def test_grey_images_stay_grey(tmp_path):
    from PIL import Image

    digits = load_dataset("digits", train_size=20)
    make_folder(digits, tmp_path / "grey", image_size=8)
    assert {path.name for path in (tmp_path / "grey" / "val").iterdir()} == set("0123456789")  # no longer than needed
    with Image.open(next((tmp_path / "grey" / "train").rglob("*.jpg"))) as image:
        assert image.mode == "L"


def test_what_is_stopped_leaves_nothing(colours, tmp_path, monkeypatch):
    from PIL import Image

    saved = Image.Image.save

    def full_disk(image, file, **named):
        if file.stem == "000020":
            raise OSError(28, "No space left on device")
        saved(image, file, **named)

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        make_folder(colours, tmp_path / "made", image_size=8)
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "size": ({"image_size": 0}, "image_size must be a whole number from 1, got 0; write 64"),
    "broken size": ({"image_size": 1.5}, "image_size must be a whole number from 1, got 1.5; write 64"),
    "no class": ({"classes": 0}, "classes must be a whole number from 1, got 0; write 10"),
    "a word": ({"classes": "ten"}, "classes must be a whole number from 1, got 'ten'; write 10"),
    "too many classes": ({"classes": 13}, "classes must lie in [1, 12], got 13; leave it out to take all"),
    "too many images": (
        {"classes": 2, "train_size": 11},
        "train_size must lie in [1, 10], the number of samples, got 11; leave it out to take all",
    ),
}


@pytest.mark.parametrize(("given", "message"), list(WRONG.values()), ids=list(WRONG))
def test_an_argument_out_of_range_is_refused(colours, tmp_path, given, message):
    with raises(ValueError, message):
        make_folder(colours, tmp_path / "made", **{"image_size": 8, **given})
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_an_image_is_refused(colours, tmp_path):
    with raises(ValueError, "every class must have an image in both parts, got none of 11 in train; take more images"):
        make_folder(colours, tmp_path / "made", image_size=8, train_size=11)
    assert list(tmp_path.iterdir()) == []


def test_other_data_than_images_and_classes_is_refused(colours, tmp_path):
    message = "dataset must hold images in memory and their classes, got other inputs or labels; write cifar100"
    numbers = ImageArrays(colours.train.images, torch.zeros(56))
    make_folder(colours, tmp_path / "made", image_size=8)
    for data in (DataSets(numbers, numbers, 0), load_dataset("folder", data_root=tmp_path / "made")):
        with raises(ValueError, message):
            make_folder(data, tmp_path / "again", image_size=8)


def test_a_folder_that_exists_is_left_alone(colours, tmp_path):
    message = f"output must be a new folder, got {tmp_path}, which exists; write another, or remove it"
    with raises(FileExistsError, message):
        make_folder(colours, tmp_path, image_size=8)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_that_no_jpeg_file_can_hold_are_refused(channels, colours, tmp_path):
    part = ImageArrays(colours.test.images[:, :1].expand(-1, channels, -1, -1), colours.test.labels)
    message = (
        f"images must be grey or have three colours to be JPEG files, got {channels} channels; choose three of them"
    )
    with raises(ValueError, message):
        make_folder(DataSets(part, part, 12), tmp_path / "made", image_size=8)
    assert list(tmp_path.iterdir()) == []

import gzip
import hashlib
import os
import pickle
import re
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from orderdp.data import fashion_mnist
from orderdp.data.base import ImageArrays, from_arrays
from orderdp.data.imports import import_image_library
from orderdp.data.registry import load_dataset
from orderdp.data.subsets import stratified_order

REAL_ROOT = Path(os.environ["ORDERDP_DATA_ROOT"]) if "ORDERDP_DATA_ROOT" in os.environ else None
FASHION_FILES = tuple(fashion_mnist.MD5)
CIFAR_FILES = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "batches.meta"),
    "cifar100": ("cifar-100-python", ["train"], "test", "meta"),
}


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def fashion(monkeypatch, tmp_path):
    """Contents of a small Fashion-MNIST by file name, taken for the published one; no installed one is found."""
    rng = np.random.default_rng(0)
    contents = {}
    for part, n in (("train", 40), ("t10k", 20)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (n, 28, 28))
        contents[f"{part}-images-idx3-ubyte"] = header + pixels.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = b"\0\0\x08\x01" + n.to_bytes(4, "big") + labels.tobytes()
    monkeypatch.setattr(fashion_mnist, "MD5", {name: md5(contents[name]) for name in FASHION_FILES})
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not installed")
    return contents


def write_fashion(folder, contents, *, zipped):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, monkeypatch, tmp_path):
    """Name, folder and pixels of a small CIFAR, whose checksums torchvision takes for the published ones."""
    folder, train, test, meta = CIFAR_FILES[request.param]
    home = tmp_path / "root" / folder
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {file: rng.integers(0, 256, (20, 3072), dtype=np.uint8) for file in [*train, test]}
    kind = "labels" if request.param == "cifar10" else "fine_labels"
    for file, data in pixels.items():
        (home / file).write_bytes(pickle.dumps({"data": data, kind: [i % 10 for i in range(20)]}))
    names = {"label_names": list("abcdefghij"), "fine_label_names": list("abcdefghij")}
    (home / meta).write_bytes(pickle.dumps(names))
    published = getattr(import_image_library("torchvision.datasets"), request.param.upper())
    sums = {path.name: md5(path.read_bytes()) for path in home.iterdir()}
    monkeypatch.setattr(published, "train_list", [[file, sums[file]] for file in train])
    monkeypatch.setattr(published, "test_list", [[test, sums[test]]])
    monkeypatch.setattr(published, "meta", published.meta | {"md5": sums[meta]})
    return request.param, home, [pixels[file] for file in train], pixels[test]


def write_images(folder, classes, *, n=2):
    from PIL import Image

    for shade, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (9, 7), (shade, i, 0)).save(folder / name / f"{i}.png")


def test_digits_are_split_class_by_class_into_1437_and_360():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert (digits.num_classes, digits.in_channels, digits.image_size) == (10, 1, 8)
    together = torch.cat([digits.train.images, digits.test.images]).flatten(1).numpy()
    assert sorted(map(bytes, together)) == sorted(map(bytes, np.rint(pixels * 255 / 16).astype(np.uint8)))
    test_counts = np.bincount(digits.test.labels.numpy())
    assert (np.abs(test_counts - np.bincount(labels) * 360 / 1797) <= 1).all()


def test_the_split_of_the_digits_is_the_golden_one():
    digits = load_dataset("digits")
    assert digits.test.labels[:20].tolist() == [0, 1, 6, 7, 2, 4, 8, 9, 5, 5, 4, 7, 1, 6, 4, 6, 6, 8, 0, 2]
    assert md5(digits.test.images.numpy().tobytes()) == "0885ed5229eadfa7a256623247747e87"


def test_normalisation_is_measured_on_the_whole_training_set():
    digits = load_dataset("digits", train_size=10)
    scaled = load_dataset("digits").train.images.numpy() / 255
    assert digits.mean == pytest.approx((scaled.mean(),), rel=1e-12)
    assert digits.std == pytest.approx((scaled.std(),), rel=1e-12)


@pytest.mark.parametrize("given", [{}, {"mean": (0.25,)}, {"std": (0.75,)}, {"mean": (0.25,), "std": (0.75,)}])
def test_of_mean_and_deviation_those_not_given_are_measured_on_the_training_images(given):
    digits = load_dataset("digits")
    found = from_arrays(digits.train, digits.test, **given)
    assert {"mean": found.mean, "std": found.std} == {"mean": digits.mean, "std": digits.std, **given}


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 1437])
def test_a_subset_has_the_size_asked_for_and_each_class_in_proportion(size):
    whole = load_dataset("digits").train
    part = load_dataset("digits", train_size=size).train
    assert len(part) == len(part.images) == size
    counts, expected = (np.bincount(labels, minlength=10) for labels in (part.labels, whole.labels))
    assert (np.abs(counts - expected * size / 1437) <= 1).all()


@pytest.mark.parametrize("rare", [1, 10, 45])
def test_every_subset_of_two_classes_has_the_number_of_the_rare_one_that_is_nearest_to_its_proportion(rare):
    labels = (torch.arange(100) < rare).long()
    found = np.cumsum(labels.numpy()[stratified_order(labels)])
    assert (2 * np.abs(100 * found - rare * np.arange(1, 101)) <= 100).all()


def test_subsets_are_the_same_each_time_and_a_smaller_one_is_part_of_a_larger_one():
    small, again, large = (load_dataset("digits", train_size=size).train.images for size in (200, 200, 500))
    assert torch.equal(small, again)
    assert set(map(bytes, small.flatten(1).numpy())) <= set(map(bytes, large.flatten(1).numpy()))


def test_a_subset_is_drawn_from_the_whole_set_and_not_from_its_beginning(fashion, tmp_path):
    write_fashion(tmp_path, fashion, zipped=False)
    whole = load_dataset("fashion_mnist", data_root=tmp_path).train
    part = load_dataset("fashion_mnist", data_root=tmp_path, train_size=20).train
    assert np.bincount(part.labels).tolist() == [2] * 10
    assert not torch.equal(part.images, whole.images[:20])


@pytest.mark.parametrize("size", [0, -3, 1438])
def test_a_train_size_that_the_set_cannot_give_is_refused(size):
    message = f"train_size must lie in [1, 1437], the number of samples, got {size}; leave it out to take all"
    with raises(ValueError, message):
        load_dataset("digits", train_size=size)


@pytest.mark.parametrize(
    ("name", "near"), [("cifar", "cifar10"), ("FashionMNIST", "fashion_mnist"), ("folders", "folder")]
)
def test_an_unknown_name_is_answered_with_the_nearest_one(name, near):
    with raises(ValueError, f"no data set named {name!r}; did you mean {near!r}?"):
        load_dataset(name)


def test_a_data_root_that_does_not_exist_is_refused(tmp_path):
    message = f"data_root must be a folder that exists, got {tmp_path / 'no'}; create it or correct it"
    with raises(FileNotFoundError, message):
        load_dataset("cifar10", data_root=tmp_path / "no")


def test_a_data_root_may_begin_at_home(fashion, monkeypatch, tmp_path):
    write_fashion(tmp_path / "sets", fashion, zipped=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_dataset("fashion_mnist", data_root=Path("~/sets")).train) == 40


def test_an_image_size_is_refused_for_a_set_that_has_its_own():
    message = "image_size applies to data set 'folder' only, got 32 for 'digits'; leave it out"
    with raises(ValueError, message):
        load_dataset("digits", image_size=32)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", ["torchvision", "files in data_root", "installed"])
def test_fashion_mnist_is_read_wherever_it_may_lie(layout, zipped, fashion, monkeypatch, tmp_path):
    folder = {"torchvision": tmp_path / "FashionMNIST" / "raw", "files in data_root": tmp_path}.get(
        layout, tmp_path / "d"
    )
    write_fashion(folder, fashion, zipped=zipped)
    if layout == "installed":
        monkeypatch.setattr(fashion_mnist, "DEBIAN", folder)
    sets = load_dataset("fashion_mnist", data_root=None if layout == "installed" else tmp_path)
    assert sets.train.images.shape == (40, 1, 28, 28)
    assert sets.train.images.numpy().tobytes() == fashion["train-images-idx3-ubyte"][16:]
    assert sets.test.images.numpy().tobytes() == fashion["t10k-images-idx3-ubyte"][16:]
    assert sets.test.labels.tolist() == list(range(10)) * 2
    assert (sets.num_classes, sets.in_channels, sets.image_size) == (10, 1, 28)


@pytest.mark.parametrize("missing", FASHION_FILES)
def test_half_a_fashion_mnist_is_refused_by_the_name_of_what_is_missing(missing, fashion, tmp_path):
    del fashion[missing]
    write_fashion(tmp_path, fashion, zipped=True)
    message = f"fashion_mnist lacks the file {missing} in {tmp_path}; put it there, or write download=True"
    with raises(FileNotFoundError, message):
        load_dataset("fashion_mnist", data_root=tmp_path)


def test_a_fashion_mnist_file_with_other_content_is_refused_by_name(fashion, tmp_path):
    write_fashion(tmp_path, fashion, zipped=False)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    right, got = md5(fashion[path.name]), md5(path.read_bytes())
    message = (
        f"fashion_mnist: the file {path} must have content of md5 {right}, got {got}; delete it and fetch it again"
    )
    with raises(ValueError, message):
        load_dataset("fashion_mnist", data_root=tmp_path)


@pytest.mark.parametrize(
    ("damage", "why"),
    [(lambda raw: raw[:-20], "Compressed file ended"), (lambda raw: b"<html>" + raw, "Not a gzipped file")],
)
def test_a_fashion_mnist_file_that_cannot_be_unzipped_is_refused_by_name(damage, why, fashion, tmp_path):
    write_fashion(tmp_path, fashion, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=rf"^fashion_mnist: the file {re.escape(str(path))} cannot be unzipped \({why}"
    ):
        load_dataset("fashion_mnist", data_root=tmp_path)


@pytest.mark.parametrize("given", [False, True])
def test_no_fashion_mnist_at_all_is_refused_with_the_ways_to_get_it(given, fashion, tmp_path):
    root = tmp_path if given else None
    message = (
        f"data_root must hold fashion_mnist, got {root} without train-images-idx3-ubyte; install Debian's "
        "dataset-fashion-mnist, or name a data_root and write download=True"
    )
    with raises(FileNotFoundError, message):
        load_dataset("fashion_mnist", data_root=root)


def test_fashion_mnist_is_downloaded_only_where_asked_and_only_if_it_is_not_there(fashion, monkeypatch, tmp_path):
    calls = []

    def download(dataset):
        calls.append(dataset.root)
        write_fashion(Path(dataset.raw_folder), fashion, zipped=False)

    monkeypatch.setattr(import_image_library("torchvision.datasets").FashionMNIST, "download", download)
    with pytest.raises(FileNotFoundError, match="must hold fashion_mnist"):
        load_dataset("fashion_mnist", data_root=tmp_path)
    assert calls == []
    for _ in range(2):
        assert len(load_dataset("fashion_mnist", data_root=tmp_path / "new", download=True).train) == 40
    assert len(calls) == 1


@pytest.mark.parametrize(("name", "published"), [("fashion_mnist", "FashionMNIST"), ("cifar10", "CIFAR10")])
def test_a_download_that_fails_is_one_line(name, published, fashion, monkeypatch, tmp_path):
    def download(dataset):
        raise RuntimeError("Error downloading:\nTried the mirror, got:\nno route to host\n")

    monkeypatch.setattr(getattr(import_image_library("torchvision.datasets"), published), "download", download)
    message = (
        f"{name} could not be downloaded into {tmp_path} (Error downloading: Tried the mirror, got: no route to host); "
        "put its files there"
    )
    with raises(OSError, message):
        load_dataset(name, data_root=tmp_path, download=True)


def test_a_download_without_data_root_is_refused(fashion):
    message = "data_root must name the folder to download fashion_mnist into, got None; write its path"
    with raises(ValueError, message):
        load_dataset("fashion_mnist", download=True)


def test_cifar_is_read_plane_by_plane(cifar):
    name, home, train, test = cifar
    sets = load_dataset(name, data_root=home.parent)
    assert sets.train.images.numpy().tobytes() == np.concatenate(train).tobytes()
    assert sets.test.images.numpy().tobytes() == test.tobytes()
    assert sets.train.images.shape[1:] == (3, 32, 32)
    assert sets.test.labels.tolist() == list(range(10)) * 2
    assert sets.train.labels.dtype == torch.int64
    assert (sets.in_channels, sets.image_size) == (3, 32)
    assert (sets.mean, sets.std) == ((0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025))


def test_each_missing_cifar_file_is_called_by_its_name(cifar):
    name, home, _, _ = cifar
    for path in sorted(home.iterdir()):
        content = path.read_bytes()
        path.unlink()
        message = f"{name} lacks the file {path.name} in {home}; put it there, or write download=True"
        with raises(FileNotFoundError, message):
            load_dataset(name, data_root=home.parent)
        path.write_bytes(content)


def test_each_cifar_file_with_a_wrong_checksum_is_called_by_its_name(cifar):
    name, home, _, _ = cifar
    for path in sorted(home.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-5])
        message = (
            f"{name}: the file {path} must have md5 {md5(content)}, got {md5(content[:-5])}; "
            "delete it and fetch it again"
        )
        with raises(ValueError, message):
            load_dataset(name, data_root=home.parent)
        path.write_bytes(content)


def test_a_data_root_without_cifar_is_refused_with_the_folder_it_should_hold(tmp_path):
    message = (
        f"data_root must hold cifar100 in the folder cifar-100-python, got {tmp_path}; "
        "unpack cifar-100-python.tar.gz there, or write download=True"
    )
    with raises(FileNotFoundError, message):
        load_dataset("cifar100", data_root=tmp_path)


def test_cifar_without_data_root_is_refused():
    message = "data_root must name the folder that holds cifar10, got None; write its path"
    with raises(ValueError, message):
        load_dataset("cifar10")


def test_half_a_cifar_is_completed_by_a_download(cifar, monkeypatch):
    name, home, _, test = cifar
    path = home / CIFAR_FILES[name][2]
    content = path.read_bytes()
    path.unlink()
    published = getattr(import_image_library("torchvision.datasets"), name.upper())
    monkeypatch.setattr(published, "download", lambda dataset: path.write_bytes(content))
    assert load_dataset(name, data_root=home.parent, download=True).test.images.numpy().tobytes() == test.tobytes()


@pytest.mark.parametrize("second", ["val", "test"])
def test_a_folder_is_read_class_by_class(second, tmp_path):
    write_images(tmp_path / "train", ["bird", "cat", "dog"], n=4)
    write_images(tmp_path / second, ["bird", "cat", "dog"])
    sets = load_dataset("folder", data_root=tmp_path, image_size=64)
    assert [str(Path(path).relative_to(tmp_path)) for path in sets.train.paths[3:5]] == [
        "train/bird/3.png",
        "train/cat/0.png",
    ]
    assert sets.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sets.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (sets.num_classes, sets.in_channels, sets.image_size) == (3, 3, 64)
    assert load_dataset("folder", data_root=tmp_path).image_size == 224
    assert (sets.mean, sets.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's, as published


def test_of_two_folders_to_evaluate_on_val_is_read(tmp_path):
    for part, n in (("train", 1), ("test", 1), ("val", 2)):
        write_images(tmp_path / part, ["a", "b"], n=n)
    assert load_dataset("folder", data_root=tmp_path).test.labels.tolist() == [0, 0, 1, 1]


def test_a_folder_gives_a_subset_with_each_path_beside_its_label(tmp_path):
    for part in ("train", "val"):
        write_images(tmp_path / part, ["a", "b", "c"], n=5)
    train = load_dataset("folder", data_root=tmp_path, train_size=6).train
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [Path(path).parent.name for path in train.paths] == ["a", "a", "b", "b", "c", "c"]


def test_a_folder_without_one_of_its_parts_is_refused(tmp_path):
    with raises(ValueError, "data_root must name the folder that holds train/CLASS/IMAGE, got None; write its path"):
        load_dataset("folder")
    message = f"data_root must hold a folder train, got {tmp_path}; put images at train/CLASS/IMAGE"
    with raises(FileNotFoundError, message):
        load_dataset("folder", data_root=tmp_path)
    write_images(tmp_path / "train", ["a"])
    message = f"data_root must hold a folder val or test, got {tmp_path}; put images at val/CLASS/IMAGE"
    with raises(FileNotFoundError, message):
        load_dataset("folder", data_root=tmp_path)


def test_a_folder_whose_class_has_no_image_is_refused_by_name(tmp_path):
    write_images(tmp_path / "train", ["a", "b"])
    (tmp_path / "train" / "empty").mkdir()
    message = (
        f"{tmp_path / 'train'} must hold a folder of images for each class (Found no valid file for the classes empty"
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}"):
        load_dataset("folder", data_root=tmp_path)


def test_a_folder_whose_parts_have_different_classes_is_refused(tmp_path):
    write_images(tmp_path / "train", ["a", "b"])
    write_images(tmp_path / "val", ["a", "c"])
    start = f"the two parts of {tmp_path} must hold the same classes, got"
    end = "c in val or test only; add or remove them"
    with raises(ValueError, f"{start} b in train only and {end}"):
        load_dataset("folder", data_root=tmp_path)
    write_images(tmp_path / "val", ["b"])
    with raises(ValueError, f"{start} {end}"):
        load_dataset("folder", data_root=tmp_path)
    write_images(tmp_path / "train", ["c", *"stuvw"])
    with raises(ValueError, f"{start} s, t, u, v, w in train only; add or remove them"):
        load_dataset("folder", data_root=tmp_path)
    write_images(tmp_path / "train", [*"xyz"])
    with raises(ValueError, f"{start} s, t, u, v, w and 3 more in train only; add or remove them"):
        load_dataset("folder", data_root=tmp_path)


def test_an_image_size_below_one_is_refused(tmp_path):
    with raises(ValueError, "image_size is a number of pixels and must lie in [1, inf), got 0; write 224"):
        load_dataset("folder", data_root=tmp_path, image_size=0)


def test_the_real_fashion_mnist_is_read():
    try:
        sets = load_dataset("fashion_mnist", data_root=None if fashion_mnist.is_installed() else REAL_ROOT)
    except FileNotFoundError:
        pytest.skip("Fashion-MNIST is neither installed nor in ORDERDP_DATA_ROOT")
    assert (len(sets.train), len(sets.test), sets.num_classes) == (60_000, 10_000, 10)
    assert np.bincount(sets.train.labels).tolist() == [6000] * 10
    assert (sets.mean, sets.std) == (pytest.approx((0.2860,), abs=5e-5), pytest.approx((0.3530,), abs=5e-5))


@pytest.mark.slow
@pytest.mark.skipif(REAL_ROOT is None, reason="ORDERDP_DATA_ROOT does not say where CIFAR lies")
@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_real_cifar_sets_are_read(name, num_classes):
    sets = load_dataset(name, data_root=REAL_ROOT, train_size=20_000)
    assert (len(sets.train), len(sets.test), sets.num_classes) == (20_000, 10_000, num_classes)
    assert np.bincount(sets.train.labels).tolist() == [20_000 // num_classes] * num_classes
    mean = sets.train.images.to(torch.float64).mean((0, 2, 3)) / 255
    # The published mean is of CIFAR-100; an image's own mean spreads by less than 0.18 around its set's.
    if name == "cifar100":
        assert mean.tolist() == pytest.approx(sets.mean, abs=5 * 0.18 / sqrt(20_000))


def test_the_digest_of_the_training_part_is_of_its_inputs_and_its_labels():
    data = load_dataset("digits", train_size=20)
    images, labels = data.train.images.clone(), data.train.labels.clone()
    images[7, 0, 3, 3] ^= 1
    labels[7] = (labels[7] + 1) % 10
    parts = [data.train, ImageArrays(images, data.train.labels), ImageArrays(data.train.images, labels)]
    parts.append(ImageArrays(data.train.images.view(20, 1, 4, 16), data.train.labels))
    assert len({replace(data, train=part).sha256 for part in parts}) == 4
    assert replace(data, test=data.train).sha256 == data.sha256

"""`orderdp images`, and studies on folders of images."""

import shutil
from pathlib import Path

import pytest

from orderdp.data.registry import load_dataset


@pytest.fixture
def images(call):
    """A folder of three classes of digits."""
    typed = "images --dataset digits --image-size 16 --classes 3 --train-size 30 --output a"
    status, out, err = call(*typed.split())
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "30 training images and 108 in val, 16 pixels wide: a",
        "to train on them: --dataset folder --data-root a",
    ]
    return Path("a")


def test_it_makes_a_folder_that_a_run_trains_on(images, call):
    assert len(load_dataset("folder", data_root=images, image_size=14).train) == 30
    tiny = "--model small_cnn --image-size 14 --epochs 1 --batch-size 10 --device cpu --num-threads 1 --against"
    status, out, err = call("train", "--dataset", "folder", "--data-root", "a", *tiny.split(), "--run", "run")
    assert status == 0, err
    assert "OrderDP" in out


def test_a_folder_that_exists_is_not_written_again(images, call):
    before = sorted(images.rglob("*"))
    line = "orderdp: --output must be a new folder, got a, which exists; write another, or remove it\n"
    assert call(*["images", "--dataset", "digits", "--output", "a"]) == (2, "", line)
    assert sorted(images.rglob("*")) == before


def move(images, name, to):
    (images / name).rename(images / to)


BROKEN = {
    "no val": (
        lambda images: shutil.rmtree(images / "val"),
        "--data-root must hold a folder val or test, got a; put images at val/CLASS/IMAGE",
    ),
    "no train": (
        lambda images: shutil.rmtree(images / "train"),
        "--data-root must hold a folder train, got a; put images at train/CLASS/IMAGE",
    ),
    "another class": (
        lambda images: move(images, "val/2", "val/3"),
        "the two parts of a must hold the same classes, got 2 in train only and 3 in val or test only; add or remove "
        "them",
    ),
    "an empty class": (
        lambda images: [file.unlink() for file in (images / "train" / "1").iterdir()],
        "a/train must hold a folder of images for each class (Found no valid file for the classes 1. ",
    ),
}


@pytest.mark.parametrize(("damage", "line"), list(BROKEN.values()), ids=list(BROKEN))
def test_a_study_on_a_folder_that_does_not_fit_gets_one_line(images, call, damage, line):
    damage(images)
    for study in ("table3", "table4"):
        status, out, err = call("study", study, "--size", "cpu", "--data-root", "a")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"orderdp: {line}")
    assert not Path("runs").exists()


def test_a_study_without_the_folder_says_that_it_needs_one(call):
    line = "orderdp: --data-root must name the folder that holds train/CLASS/IMAGE, got None; write its path\n"
    assert call("study", "table3", "--size", "cpu") == (2, "", line)
    line = "orderdp: no size named 'cpus'; did you mean 'cpu'?\n"
    assert call("study", "table4", "--size", "cpus", "--data-root", ".") == (2, "", line)

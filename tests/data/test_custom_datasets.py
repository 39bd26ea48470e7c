"""Custom data sets: a function that the user wrote, in place of a name."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from orderdp.data.custom import data_sets
from orderdp.data.registry import load_dataset

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (30, 3, 6, 6), dtype=np.uint8)
TEST_PIXELS = rng.integers(0, 256, (9, 3, 6, 6), dtype=np.uint8)
LABELS, TEST_LABELS = np.arange(30) % 4, np.arange(9) % 4
PARTS = (PIXELS, LABELS), (TEST_PIXELS, TEST_LABELS)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module of that text into the working directory and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = []

    def write(text):
        name = f"custom_data_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, list], ids=["array", "tensor", "list"])
def test_classes_channels_size_mean_and_std_are_read_off_the_training_part(kind):
    found = data_sets(((torch.from_numpy(PIXELS), kind(LABELS)), (TEST_PIXELS, kind(TEST_LABELS))), "my_data:load")
    assert (found.num_classes, found.in_channels, found.image_size) == (4, 3, 6)
    assert found.mean == pytest.approx((PIXELS / 255).mean((0, 2, 3)), rel=1e-12)
    assert found.std == pytest.approx((PIXELS / 255).std((0, 2, 3)), rel=1e-12)
    assert np.array_equal(found.train.images.numpy(), PIXELS)
    assert np.array_equal(found.test.images.numpy(), TEST_PIXELS)
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == (LABELS.tolist(), TEST_LABELS.tolist())
    assert found.train.labels.dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_labels_may_be_of_any_integer_type(dtype):
    found = data_sets(((PIXELS, LABELS.astype(dtype)), (TEST_PIXELS, TEST_LABELS.astype(dtype))), "my_data:load")
    assert found.train.labels.tolist() == LABELS.tolist()


def changed(part=0, *, images=None, labels=None):
    """The parts with images or labels of one of them replaced."""
    parts = [list(one) for one in PARTS]
    if images is not None:
        parts[part][0] = images
    if labels is not None:
        parts[part][1] = labels
    return parts


REFUSED = {
    "nothing": (
        None,
        TypeError,
        "a data set function must return ((train images, train labels), (test images, test la",
    ),
    "one part": ((PIXELS, LABELS), TypeError, "a data set function must return ((train images, train labels), (test i"),
    "three parts": ((*PARTS, PARTS[1]), TypeError, "a data set function must return ((train images, train labels), ("),
    "floats": (
        changed(images=PIXELS / 255),
        ValueError,
        "train images must be uint8, 0 to 255, got float64; for values in [0, 1] write (255 * images).round()",
    ),
    "larger integers": (
        changed(1, images=TEST_PIXELS.astype(np.uint16)),
        ValueError,
        "test images must be uint8, 0 to 255, got uint16",
    ),
    "grey without channel": (
        changed(images=PIXELS[:, 0]),
        ValueError,
        "train images must have shape (n, c, h, w), got (30, 6, 6); write images[:, None]",
    ),
    "classes from 1": (
        changed(labels=LABELS + 1),
        ValueError,
        "train labels must be classes from 0, got 1 as the lowest",
    ),
    "no images": (
        changed(1, images=TEST_PIXELS[:0], labels=TEST_LABELS[:0]),
        ValueError,
        "test images must have shape (n, c, h, w), got (0, 3, 6, 6)",
    ),
    "channels last": (
        changed(images=PIXELS.transpose(0, 2, 3, 1)),
        ValueError,
        "train images must be square, (n, c, h, w) with h = w, got (30, 6, 6, 3); write images.transpose(0, 3, 1, 2)",
    ),
    "channels last of four channels": (
        changed(images=np.concatenate([PIXELS, PIXELS[:, :1]], 1).transpose(0, 2, 3, 1)),
        ValueError,
        "train images must be square, (n, c, h, w) with h = w, got (30, 6, 6, 4); write images.transpose(0, 3, 1, 2)",
    ),
    "not square": (
        changed(images=PIXELS[..., :4]),
        ValueError,
        "train images must be square, (n, c, h, w) with h = w, got (30, 3, 6, 4); crop or resize them",
    ),
    "another size": (
        changed(1, images=TEST_PIXELS[..., :4, :4]),
        ValueError,
        "train and test images must have the same shape, got (3, 6, 6) and (3, 4, 4) from my_data:load; resize them",
    ),
    "labels as floats": (
        changed(labels=LABELS / 1),
        ValueError,
        "train labels must be whole numbers, got float64; writ",
    ),
    "labels as names": (
        changed(labels=["cat"] * 30),
        ValueError,
        "images and labels must be arrays of numbers, got dty",
    ),
    "too few labels": (
        changed(labels=LABELS[:-1]),
        ValueError,
        "train labels must have one class for each of the 30 images, got shape (29,)",
    ),
    "one-hot labels": (
        changed(labels=np.eye(4, dtype=np.int64)[LABELS]),
        ValueError,
        "train labels must have one class for each of the 30 images, got shape (30, 4)",
    ),
    "negative labels": (changed(labels=LABELS - 1), ValueError, "train labels must be classes from 0, got -1; number "),
    "a class that is not trained": (
        changed(1, labels=TEST_LABELS + 1),
        ValueError,
        "test labels must be classes of the training labels, 0 to 3, got 4 from my_data:load; number the",
    ),
    "a constant channel": (
        changed(images=PIXELS * np.array([1, 0, 1], dtype=np.uint8)[:, None, None]),
        ValueError,
        "each channel of the train images must vary, got channel 1 constant from my_data:load; leave it out",
    ),
}


@pytest.mark.parametrize(("found", "kind", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_is_no_data_set_gets_one_line(found, kind, line):
    with pytest.raises(kind, match=f"^{re.escape(line)}"):
        data_sets(found, "my_data:load")


LOAD = """
import numpy as np

def load({parameters}):
    {body}
    rng = np.random.default_rng(0)
    return tuple((rng.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8), np.arange(n) % 2) for n in (20, 8))
"""


def test_a_function_in_the_working_directory_is_a_data_set(written):
    name = written(LOAD.format(parameters="", body=""))
    found = load_dataset(f"{name}:load")
    assert (len(found.train), len(found.test), found.num_classes, found.image_size) == (20, 8, 2, 4)
    assert np.bincount(load_dataset(f"{name}:load", train_size=6).train.labels).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", {}),
        ("data_root", {"data_root": "here"}),
        ("data_root, download=False, image_size=7", {"data_root": "here", "download": True, "image_size": 16}),
        ("other=3, *, image_size", {"other": 3, "image_size": 16}),
    ],
)
def test_a_function_gets_the_options_that_it_names(written, tmp_path, parameters, expected):
    (tmp_path / "here").mkdir()
    name = written(LOAD.format(parameters=parameters, body="GIVEN.update(locals())") + "\nGIVEN = {}\n")
    options = {"data_root": tmp_path / "here", "download": True, "image_size": 16}
    load_dataset(f"{name}:load", **{option: value for option, value in options.items() if option in parameters})
    given = {key: getattr(value, "name", value) for key, value in sys.modules[name].GIVEN.items()}
    assert given == expected


@pytest.mark.parametrize(("option", "value"), [("data_root", Path("here")), ("download", True), ("image_size", 16)])
def test_an_option_that_the_function_does_not_take_is_refused(written, option, value):
    name = f"{written(LOAD.format(parameters='', body=''))}:load"
    line = f"{option} must be an argument of the function, got {value} for {name!r}; leave it out"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        load_dataset(name, **{option: value})


def test_a_function_may_return_data_sets_of_files(written):
    text = """
import torch
from orderdp.data.base import DataSets, ImageFiles

def load():
    part = ImageFiles(("a.png", "b.png"), torch.tensor([0, 1]))
    return DataSets(part, part, num_classes=2, in_channels=3, image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)
"""
    assert load_dataset(f"{written(text)}:load").train.paths == ("a.png", "b.png")


OTHER_THAN_IT_SAYS = {
    "a class too many": (
        "Texts(torch.tensor([[1, 2]]), torch.tensor([2])), num_classes=2, vocabulary=3",
        "labels must be whole numbers in 0 .. 1, got int64 from 2 to 2 from {name}; write the right num_classes, or 0",
    ),
    "numbers for classes": (
        "Texts(torch.tensor([[1, 2]]), torch.tensor([0.5])), num_classes=2, vocabulary=3",
        "labels must be whole numbers in 0 .. 1, got float32 from 0.5 to 0.5 from {name}; write the right num_classes",
    ),
    "no vocabulary": (
        "Texts(torch.tensor([[1, 2]]), torch.tensor([1])), num_classes=2",
        "tokens must lie in [0, vocabulary), got 1 to 2 and vocabulary 0 from {name}; write vocabulary=3 or more",
    ),
    "a token too many": (
        "Texts(torch.tensor([[1, 2]]), torch.tensor([1])), num_classes=2, vocabulary=2",
        "tokens must lie in [0, vocabulary), got 1 to 2 and vocabulary 2 from {name}; write vocabulary=3 or more",
    ),
    "numbers that are missing": (
        "Features(torch.tensor([[1.0, float('nan')]]), torch.tensor([1])), num_classes=2",
        "values must be finite, got some that are not from {name}; fill in what is missing",
    ),
    "whole numbers": (
        "Features(torch.tensor([[1, 2]]), torch.tensor([1])), num_classes=2",
        "values of both parts must be float32 of shape (n, k) with the same k, got int64 of (1, 2) from {name}; conv",
    ),
    "an edge of one direction": (
        "Graphs(torch.tensor([[[1, 1], [0, 1]]]), torch.tensor([1])), num_classes=2, vocabulary=2",
        "matrices of graphs must be symmetric, got others from {name}; write each edge twice",
    ),
    "too many kinds of edges": (
        "Graphs(torch.tensor([[[1, 5], [5, 1]]]), torch.tensor([1])), num_classes=2, vocabulary=2",
        "edges must be of at most 4 kinds, got 5 from {name}; join some",
    ),
    "a gap between nodes": (
        "Graphs(torch.tensor([[[0, 0], [0, 1]]]), torch.tensor([1])), num_classes=2, vocabulary=2",
        "the nodes of a graph must come first, got 0 before a node or an edge from {name}; number them",
    ),
    "a kind of node too many": (
        "Graphs(torch.tensor([[[2]]]), torch.tensor([1])), num_classes=2, vocabulary=2",
        "kinds of nodes must lie in [0, vocabulary), got 2 to 2 and vocabulary 2 from {name}; write vocabulary=3 or mo",
    ),
    "a token of a window too many": (
        "Windows(torch.tensor([[1, 2]])), num_classes=0, vocabulary=2",
        "tokens must lie in [0, vocabulary), got 1 to 2 and vocabulary 2 from {name}; write vocabulary=3 or more",
    ),
    "a vocabulary of images": (
        "ImageFiles(('a.png',), torch.tensor([1])), num_classes=2, vocabulary=2",
        "vocabulary is of texts, got 2 for images from {name}; leave it out",
    ),
}


@pytest.mark.parametrize(("made", "message"), list(OTHER_THAN_IT_SAYS.values()), ids=list(OTHER_THAN_IT_SAYS))
def test_data_sets_of_other_classes_or_tokens_than_they_say_are_refused(written, made, message):
    part, settings = made.rsplit("), ", 1)
    name = written(
        f"""
import torch
from orderdp.data.base import DataSets, Features, Graphs, ImageFiles, Texts, Windows

def load():
    part = {part})
    return DataSets(part, part, {settings})
"""
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(name=f'{name}:load'))}"):
        load_dataset(f"{name}:load")


def test_a_function_that_cannot_be_called_gets_one_line(written):
    name = written(LOAD.format(parameters="path", body="") + "\nnumber = 3\n")
    wrong = {
        f"{name}:load": (
            TypeError,
            f"a data set function gets 'data_root', 'download', 'image_size', but {name}:load needs 'path'; give it",
        ),
        f"{name}:number": (
            TypeError,
            f"dataset must name a function, got '{name}:number' of type int; write MODULE:FUNCTION",
        ),
        f"{name}:laod": (ValueError, f"no laod in module {name}; did you mean 'load'?"),
        "not_there:load": (
            ValueError,
            "dataset must be of a module that can be imported, got 'not_there:load' (No mod",
        ),
        f"{name}:": (ValueError, f"dataset must be MODULE:NAME to be a custom one, got '{name}:'; write both"),
    }
    for given, (kind, line) in wrong.items():
        with pytest.raises(kind, match=f"^{re.escape(line)}"):
            load_dataset(given)

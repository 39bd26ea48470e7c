"""`orderdp images`: a folder of image files, made from a data set in memory."""

from __future__ import annotations

import argparse
import shlex

from orderdp.cli.messages import tell_imports
from orderdp.cli.settings import not_empty, some_path
from orderdp.output.text_table import number_or_text

SUMMARY = "make a folder of JPEG files from a data set in memory"
DESCRIPTION = """\
Writes the images of a data set, resized, as DIR/train/CLASS/IMAGE and DIR/val/CLASS/IMAGE: the layout of ImageNet in
torchvision, which the data set 'folder' reads. The whole folder is written or nothing."""
EXAMPLES = """\
examples:
  orderdp images --data-root data --classes 10 --train-size 1600 --output images10
  orderdp study table3 --size cpu --data-root images10"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp images`."""
    parser.add_argument("--output", metavar="DIR", type=some_path, required=True, help="new folder to write")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        type=not_empty,
        default="cifar100",
        help="data set of images in memory, or MODULE:FUNCTION for a custom one; default cifar100",
    )
    parser.add_argument("--data-root", metavar="DIR", type=some_path, help="folder that holds the data set")
    parser.add_argument("--download", action="store_true", help="download the data set if it is missing")
    parser.add_argument(
        "--image-size",
        metavar="N",
        type=number_or_text,
        default=64,
        help="side of the images in pixels, in [1, inf); default 64",
    )
    parser.add_argument("--classes", metavar="N", type=number_or_text, help="take the first N classes; default all")
    parser.add_argument(
        "--train-size",
        metavar="N",
        type=number_or_text,
        help="take a class-balanced subset of N training images of these classes; default all",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the folder and prints what it holds."""
    from orderdp.data.folder import make_folder
    from orderdp.data.registry import load_dataset

    tell_imports()
    data = load_dataset(options.dataset, data_root=options.data_root, download=options.download)
    numbers = {name: getattr(options, name) for name in ("image_size", "classes", "train_size")}
    train, val = make_folder(data, options.output, **numbers)
    print(f"{train:,} training images and {val:,} in val, {options.image_size} pixels wide: {options.output}")
    print(f"to train on them: --dataset folder --data-root {shlex.quote(str(options.output))}")
    return 0

"""`orderdp plan`: what a pruned run costs and saves, before it is trained."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.messages import tell
from orderdp.cli.settings import some_path
from orderdp.output.text_table import number_or_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from orderdp.theory import Plan, ProportionalDraw

SUMMARY = "what a pruned run costs and saves, before you train it"
DESCRIPTION = """\
Shows how many steps a budget allows and what it saves. For every split of the budget into samples drawn and samples
kept, it shows which samples are trained, and how often. The numbers are computed, so nothing is trained."""
EXAMPLES = """\
examples:
  orderdp plan --num-samples 50000 --epochs 200 --batch-size 128 --prune-ratio 0.5
  orderdp plan --num-samples 50000 --epochs 200 --batch-size 128 --steps 39000 --losses losses.npy --ceiling 0.69
  orderdp plan --num-samples 1281167 --epochs 90 --batch-size 1024 --hours 12 --full-hours 20 --plot p.png"""

_SHAPE = ("floor", "ceiling", "power")  # settings of the proportional choice


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp plan`."""
    parser.add_argument(
        "--num-samples", type=number_or_text, metavar="N", required=True, help="samples in the data set"
    )
    parser.add_argument("--epochs", type=number_or_text, metavar="N", required=True, help="epochs of the run")
    parser.add_argument(
        "--batch-size",
        type=number_or_text,
        metavar="N",
        required=True,
        help="samples in an optimiser step, over all ranks",
    )
    budget = parser.add_argument_group("the budget, one of")
    budget.add_argument(
        "--prune-ratio",
        type=number_or_text,
        metavar="R",
        help="fraction of the samples that an epoch leaves out, in [0, 1)",
    )
    budget.add_argument("--steps", type=number_or_text, metavar="N", help="optimiser steps of the whole run")
    budget.add_argument("--samples", type=number_or_text, metavar="N", help="samples trained in the whole run")
    budget.add_argument("--hours", type=number_or_text, metavar="H", help="hours of the whole run; needs --full-hours")
    parser.add_argument(
        "--full-hours", type=number_or_text, metavar="H", help="hours of a run on full data; adds hours to the plan"
    )
    parser.add_argument(
        "--losses",
        type=some_path,
        metavar="FILE",
        help="last-seen losses of the samples, an array in a .npy file; shows a proportional choice by them too",
    )
    shape = parser.add_argument_group("settings of the proportional choice; need --losses")
    shape.add_argument("--floor", type=number_or_text, metavar="A", help="its floor; default the lowest of the losses")
    shape.add_argument("--ceiling", type=number_or_text, metavar="B", help="its ceiling; default none")
    shape.add_argument("--power", type=number_or_text, metavar="P", help="its power; default 1")
    parser.add_argument("--json", action="store_true", help="print every number as JSON instead of a table")
    parser.add_argument(
        "--plot", type=some_path, metavar="FILE", help="draw the probability of each sample, as .png, .svg or .pdf"
    )


def run(options: argparse.Namespace) -> int:
    """Prints what a pruned run will be like, and draws it."""
    from orderdp import theory
    from orderdp.report.plan import as_json, as_page, draw_plan

    laid_out = theory.plan(
        options.num_samples,
        options.prune_ratio,
        epochs=options.epochs,
        batch_size=options.batch_size,
        steps=options.steps,
        samples=options.samples,
        hours=options.hours,
        full_hours=options.full_hours,
    )
    shape = {name: value for name in _SHAPE if (value := getattr(options, name)) is not None}
    for name, value in shape.items():
        if options.losses is None:
            raise ValueError(f"{name} needs the losses of the samples, got {value} without them; write --losses FILE")
    draws = () if options.losses is None else _proportional(options.losses, laid_out, shape)
    print(as_json(laid_out, draws) if options.json else as_page(laid_out, draws))
    if options.plot is not None:
        tell(f"\nplot: {draw_plan(laid_out, options.plot)}")
    return 0


def _proportional(path: Path, laid_out: Plan, shape: Mapping[str, Any]) -> list[ProportionalDraw]:
    """Returns what a proportional choice of a floor, a ceiling and a power does, with several uniform shares.

    Samples without a loss are left out, and a line on standard error says so. The choice is then of the same share of
    the others.

    Raises:
        ValueError: the file holds no such array, or one of another size or without a finite loss; a setting out of
            range. TypeError: a setting that is no number.
    """
    import numpy as np

    from orderdp import theory

    losses = _read(path)
    if losses.shape != (laid_out.n,):
        write = f"num_samples {len(losses)}" if losses.ndim == 1 and len(losses) else "one number for each sample"
        raise ValueError(
            f"losses must be one for each of the {laid_out.n} samples, got shape {losses.shape}; write {write}"
        )
    known = losses[np.isfinite(losses)]
    if not len(known):
        raise ValueError("losses must be finite, got none that is; train for more epochs before you save them")
    if unknown := laid_out.n - len(known):
        tell(
            f"losses: {unknown:,} of {laid_out.n:,} samples have none yet; the table of a proportional choice is of "
            "the others, at the same prune ratio"
        )
    q = max(1, round(laid_out.q * len(known) / laid_out.n))
    shares = (0.0, 0.1, 0.3)
    return [
        theory.proportional_draw(known, q, epochs=laid_out.epochs, uniform_share=share, **shape) for share in shares
    ]


def _read(path: Path) -> npt.NDArray[np.float64]:
    import numpy as np

    try:
        return np.lib.format.open_memmap(path, mode="r").astype(np.float64)
    except (OSError, ValueError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"losses must be an array in a .npy file, got {path} ({why}); write it with np.save") from None

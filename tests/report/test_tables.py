"""What the tables of a report are built from."""

import math

import pytest

from orderdp.comparison.results import read_results
from orderdp.comparison.verdicts import Difference
from orderdp.report import tables
from orderdp.strategies.registry import parse
from reference.reported import make_section


def until(samples):
    """So many samples by the third and last epoch."""
    return lambda _seed, epoch: samples * epoch // 3


SHORT_RUN = {"pass_s": None}
CHOICES = {  # in the batch, by the form of the runs: what stands behind the names of two methods, and below the tables
    "of earlier releases": (
        {"ordered SGD 50 %": (672, 336), "OrderDP 50 % per iteration, fresh": (475, 336)},
        None,
        {"ordered SGD (masked loss, passes on all data)", "OrderDP per iteration, fresh (masked loss, passes on 71 %)"},
        "Their forward and backward passes ran over the whole batch, so they saved no time.",
    ),
    "in two passes": (
        {"ordered SGD 50 %": (672 + 336, 336), "OrderDP 50 % per iteration, fresh": (475 + 336, 336)},
        SHORT_RUN,
        {"ordered SGD (first pass on all data)", "OrderDP per iteration, fresh (first pass on 71 %)"},
        "First pass: a forward pass without gradient over the batch, by which a method chooses within it.",
    ),
}


@pytest.mark.parametrize("form", list(CHOICES))
def test_a_method_that_chooses_within_the_batch_says_what_passes_through_the_model(made, form):
    samples, also, names, note = CHOICES[form]
    asked = ("ordered_sgd,prune_ratio=0.5", "orderdp,per=iteration,fresh=true,prune_ratio=0.5")
    folder = made(methods=tuple(map(parse, asked)), against=("full",), seeds=(0, 1, 2))
    for label, (forward, backward) in samples.items():
        counts = {"samples_forward": until(forward), "samples_backward": until(backward)}
        folder.finish(label, (90, 91, 92), also=also, **counts)
    folder.finish("full data", (90, 91, 92))
    results = read_results(folder.path)
    found = [make_section(name, results) for name in ("accuracy", "differences", "cost")]
    for table in [table for section in found for table in section.tables]:
        if table.name in ("accuracy", "against_full", "against_short"):
            assert {line[0] for line in table.lines[1:]} - {"full data"} == names
        if not table.name.endswith("to_accuracy") and table.name != "prices":
            assert note in table.note, table.name


def test_runs_of_one_pass_need_no_word_about_it(pair):
    results = read_results(pair.path)
    for name in ("accuracy", "differences", "cost"):
        for table in make_section(name, results).tables:
            assert "pass:" not in table.note
            assert "loss:" not in table.note


def test_what_a_method_really_prunes_stands_beside_its_name(made):
    """In all tables by method and ratio, where it is not the ratio asked for."""
    names = ("ucb", "ordered_sgd", "orderdp,per=iteration,fresh=true")
    folder = made(
        methods=tuple(parse(f"{name},prune_ratio={ratio}") for ratio in (0.3, 0.5) for name in names),
        against=("full",),
        seeds=(0, 1, 2),
    )
    samples = {  # forward and backward
        "UCB 30 %": (500, 500),
        "UCB 50 %": (336, 336),
        "ordered SGD 30 %": (672, 470),
        "ordered SGD 50 %": (672, 336),
        "OrderDP 30 % per iteration, fresh": (562, 470),
        "OrderDP 50 % per iteration, fresh": (475, 336),
    }
    for label, (forward, backward) in samples.items():
        folder.finish(label, (90, 91, 92), samples_forward=until(forward), samples_backward=until(backward))
    folder.finish("full data", (90, 91, 92))  # 672 samples
    found = [
        make_section("accuracy", read_results(folder.path)),
        make_section("differences", read_results(folder.path)),
    ]
    grids = {table.name: table for section in found for table in section.tables if table.name != "differences"}
    rows = {name: {line[0] for line in grid.lines[1:]} - {"full data"} for name, grid in grids.items()}
    others = {
        "ordered SGD (masked loss, passes on all data)",
        "OrderDP per iteration, fresh (masked loss, passes on 84, 71 %)",
    }
    assert rows.pop("against_first") == others
    assert list(rows.values()) == [{"UCB (prunes 26, 50 %)", *others}] * 3


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (None, ""),
        (Difference(-0.25, -math.inf, math.inf, 1), "−0.25"),
        (Difference(0.25, -0.5, 1.0, 3), "+0.25 [−0.50, +1.00]"),
        (Difference(0.0, -0.004, 0.004, 3), "+0.00 [−0.00, +0.00]"),
        (Difference(-30.5, -40.0, -21.0, 3), "−30.50 [−40.00, −21.00]"),
        (Difference(1.06, 0.0051, 2.13, 3), "+1.06 [+0.01, +2.13]"),
        (Difference(1.06, 0.0031, 2.13, 3), "+1.060 [+0.003, +2.130]"),
        (Difference(-0.5, -1.0, -0.0004, 3), "−0.5000 [−1.0000, −0.0004]"),
        (Difference(0.5, 1e-9, 1.0, 3), "+0.5000 [+0.0000, +1.0000]"),
        (Difference(0.5, 0.0, 1.0, 3), "+0.50 [+0.00, +1.00]"),
    ],
)
def test_a_difference_is_shown_with_its_signs_and_its_interval(difference, text):
    assert tables.interval(difference, 1 if difference is None else difference.seeds) == text

"""A plan as a page, as JSON and as a picture."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.report.plan import as_json, as_page, at_ranks, draw_plan
from orderdp.theory import inclusion_probabilities, plan
from reference.sizes import sizes


@pytest.fixture
def laid_out():
    return plan(1_000, 0.5, epochs=20, batch_size=32, full_hours=3)


def test_the_page_says_what_it_costs_what_each_split_does_and_what_to_take(laid_out):
    page = as_page(laid_out).splitlines()
    assert page[:2] == [
        "1,000 samples, 20 epochs, batches of 32: 500 samples an epoch, 50 % pruned",
        "320 steps instead of 640; 10,000 samples instead of 20,000, 50 % saved; about 1.5 hours, 1.5 fewer, "
        "if time is proportional to samples",
    ]
    assert " ".join(page[3].split()) == (
        "s explore exploit hardest median easiest zero C_s mean age last age dormant unseen all seen n_eff"
    )
    table = [" ".join(line.split()) for line in page[4 : 4 + len(laid_out.decompositions)]]
    split = laid_out.recommended
    shown = f"{100 * split.dormant:.1f} % 0.0 % {split.all_seen} {split.effective_samples:.0f}"
    assert table[4] == f"707 0.707 0.707 0.707 0.707 0 20.7 % 1 {split.mean_age:.3g} never {shown} <-"
    assert [line.endswith("<-") for line in table].count(True) == 1
    assert table[0] == "500 0.5 1 0.5 0.5 0.5 0.0 % 0 1 1 0.0 % 0.0 % 11 1,000"
    assert " ".join(page[-2:]).endswith(laid_out.reason[-60:])
    assert "Recommended: OrderDP(prune_ratio=0.5)" in "\n".join(page)
    assert max(map(len, page[2:])) <= 120
    assert not any(line.endswith(" ") for line in page)


def test_a_run_of_one_to_three_epochs_is_told_what_to_take_instead():
    for epochs, ratio, told in [(1, 0.7, True), (3, 0.7, True), (4, 0.7, False), (3, 0.0, False)]:
        laid_out = plan(1_000, ratio, epochs=epochs, batch_size=32)
        page = " ".join(as_page(laid_out).split())
        assert (f"Take full data for {laid_out.steps} steps instead, with a learning rate" in page) == told
        assert page.endswith("or a method that chooses within the batch." if told else laid_out.reason)


def test_small_probabilities_are_not_shown_as_zero():
    page = as_page(plan(50_000, 0.7, epochs=200, batch_size=128))
    assert "  ~0  " in page


def test_without_hours_there_are_none():
    assert "hours" not in as_page(plan(1_000, 0.5, epochs=20, batch_size=32))


def test_json_holds_every_number(laid_out):
    read = json.loads(as_json(laid_out))
    assert read == json.loads(json.dumps(dataclasses.asdict(laid_out)))
    assert read["decompositions"][4] == read["recommended"]
    assert read["reason"] == laid_out.reason


@given(sizes(), st.integers(1, 20))
def test_some_ranks_are_read_without_the_others(given_sizes, count):
    n, s, q = given_sizes
    ranks = np.unique(np.linspace(1, n, count).round().astype(np.int64))
    np.testing.assert_array_equal(at_ranks(n, s, q, ranks), inclusion_probabilities(n, s, q)[ranks - 1])


def test_the_picture_has_a_line_for_each_split_and_marks_one(laid_out, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("orderdp.report.plan.save", lambda figure, path: figures.append(figure) or path)
    draw_plan(laid_out, tmp_path / "plan.png")
    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert len(lines) == len(laid_out.decompositions) + 1
    (chosen,) = [label for label in lines if "recommended" in label]
    assert chosen == "explore 0.707, exploit 0.707 (recommended)"
    np.testing.assert_allclose(lines[chosen].get_ydata(), inclusion_probabilities(1_000, 707, 500))
    assert (lines[chosen].get_xdata()[0], lines[chosen].get_xdata()[-1]) == (0.001, 1)
    draw_plan(plan(1_000, 0.7, epochs=20, batch_size=32), tmp_path / "plan.png")
    (axes,) = figures[1].axes
    (uniform,) = [line for line in axes.lines if line.get_label() == "a uniform draw"]
    assert set(uniform.get_ydata()) == {0.3}


def test_the_picture_is_written(laid_out, tmp_path):
    assert draw_plan(laid_out, tmp_path / "plan.svg").read_text().startswith("<?xml")

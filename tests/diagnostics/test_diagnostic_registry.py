"""The rows of the diagnostics: when they are measured, what they hold, where a report shows them."""

import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp.diagnostics import jaccard
from orderdp.diagnostics.moment import CHECKPOINTS, When, due, evenly
from orderdp.diagnostics.registry import DIAGNOSTICS, View, in_chart, in_table
from orderdp.diagnostics.stability import similarity
from orderdp.report.outline import SECTIONS
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder

VIEWS = [(row, view) for row in DIAGNOSTICS for view in row.views]
each_view = pytest.mark.parametrize(("row", "view"), VIEWS, ids=[view.name for _, view in VIEWS])


def test_no_key_and_no_name_within_a_section_is_given_twice():
    keys = [row.key for row in DIAGNOSTICS]
    assert len(set(keys)) == len(keys)
    for section in SECTIONS:
        for views in (list(in_table(section)), list(in_chart(section))):
            assert len({view.name for view in views}) == len(views)
            assert len({view.title for view in views}) == len(views)


@each_view
def test_a_view_reads_its_own_row_and_is_shown_in_a_section_of_the_report(row, view):
    assert view.path[0] == row.key
    assert {view.table, view.chart} - {None} <= set(SECTIONS)
    assert view.table or view.chart
    assert bool(view.chart) == bool(view.y_label)


@pytest.fixture(scope="module")
def records(tmp_path_factory, tiny, digits):
    """The last line of metrics and the result of a run that measures everything."""
    recipe = tiny(prune_ratio=0.5, alignment=1, epochs=5, batch_size=8)
    folder = RunFolder.create(tmp_path_factory.mktemp("measured") / "run", recipe)
    result = Run(recipe, digits, folder, show=False).train()
    return folder.metrics()[-1], result


def test_lines_and_result_hold_each_row_in_order(records):
    line, result = records
    at_end = [row.key for row in DIAGNOSTICS if row.when == When.END]
    by_epoch = [row.key for row in DIAGNOSTICS if row.when != When.END]
    assert [key for key in line if key in by_epoch] == by_epoch
    assert not {*at_end} & {*line}
    assert [key for key in result if key in at_end] == at_end
    assert not {*by_epoch} & {*result}


@each_view
def test_a_view_finds_a_number_where_its_diagnostic_was_measured(records, row, view):
    value = view.of(records[1] if row.when == When.END else records[0])
    assert math.isfinite(value)
    assert view.of({}) is view.of({row.key: None}) is None


def test_views_read_what_their_titles_say(records):
    line, result = records
    found = {view.name: view.of(result if row.when == When.END else line) for row, view in VIEWS}
    coverage = result["coverage"]
    assert found["cosine_full"] == line["alignment"]["full"]["cosine"]
    assert found["norm_ratio_surrogate"] == line["alignment"]["surrogate"]["norm_ratio"]
    assert found["never_seen"] == 100 * coverage["never_seen"] == 100 * line["never_seen"] / 200
    assert found["most_visits"] == max(n for n, samples in enumerate(coverage["histogram"]) if samples)
    assert found["smallest_class_share"] == 100 * min(coverage["class_shares"])
    assert found["largest_class_share"] == 100 * max(coverage["class_shares"])


def test_a_number_that_older_runs_lack_is_none():
    view = View("cosine", "Cosine", ("alignment", "surrogate", "cosine"), table="alignment")
    assert view.of({"alignment": {"full": {"cosine": 0.5}}}) is None


@given(st.integers(0, 40), st.integers(1, 40))
def test_what_is_measured_some_times_is_measured_at_the_end_of_as_many_even_parts(times, epochs):
    measured = evenly(times, epochs)
    assert measured == {math.ceil(Fraction(part * epochs, times)) for part in range(1, times + 1)}
    assert len(measured) == min(times, epochs)
    assert times == 0 or max(measured) == epochs


@given(st.integers(0, 9), st.integers(1, 40))
def test_each_kind_is_due_in_its_own_epochs(asked, epochs):
    by_epoch = {epoch: due(epoch, epochs, asked=asked) for epoch in range(1, epochs + 1)}
    assert all(When.EPOCH in kinds and When.END not in kinds for kinds in by_epoch.values())
    for kind, times in ((When.CHECKPOINT, CHECKPOINTS), (When.ASKED, asked)):
        assert {epoch for epoch, kinds in by_epoch.items() if kind in kinds} == evenly(times, epochs)


masks = st.lists(st.booleans(), min_size=9, max_size=9)


@given(masks, masks)
def test_the_similarity_of_masks_is_that_of_their_ids(first, second):
    before, now = torch.tensor(first), torch.tensor(second)
    expected = jaccard(before.nonzero().squeeze(1), now.nonzero().squeeze(1)) if any(first + second) else None
    assert similarity(before, now) == expected
    assert similarity(None, now) is None


def test_the_documents_have_a_line_for_each_row():
    text = (Path(orderdp.__file__).parents[2] / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| `\w+` \|", line)}
    assert list(lines) == [row.key for row in sorted(DIAGNOSTICS, key=lambda row: row.when == When.END)]
    for row in DIAGNOSTICS:
        sections = {section for view in row.views for section in (view.table, view.chart) if section}
        assert set(filter(None, lines[row.key][-1].strip().split(", "))) == sections

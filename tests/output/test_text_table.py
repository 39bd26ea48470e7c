"""Tables of text, aligned and as Markdown, and numbers as CSV."""

import csv
import io
import math

import numpy as np
import pytest

from orderdp.output.text_table import as_csv, as_latex, as_markdown, as_text, markdown_cells, number_or_text

LINES = [("run", "steps", "%"), ("full data", "1,000", "9"), ("short", "10", "10.5")]


def test_text_is_aligned_label_left_and_numbers_right():
    assert as_text(LINES).splitlines() == [
        "run        steps     %",
        "full data  1,000     9",
        "short         10  10.5",
    ]


def test_words_are_aligned_left():
    assert as_text(LINES, words=True).splitlines() == [
        "run        steps  %",
        "full data  1,000  9",
        "short      10     10.5",
    ]


def test_latex_is_a_tabular_with_the_rules_of_booktabs():
    assert as_latex(LINES).splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"run & steps & \% \\",
        r"\midrule",
        r"full data & 1,000 & 9 \\",
        r"short & 10 & 10.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("cell", "latex"),
    [
        ("95.6 ± 0.1", r"95.6 $\pm$ 0.1"),
        ("−0.37 [−1.17, +0.43]", r"$-$0.37 [$-$1.17, +0.43]"),
        ("ε-greedy 30 %", r"$\varepsilon$-greedy 30 \%"),
        ("a_b & c#d", r"a\_b \& c\#d"),
        ("{$x$}", r"\{\$x\$\}"),
        ("\\ ~ ^", r"\textbackslash{} \textasciitilde{} \textasciicircum{}"),
        ("1 < 2 > 0 | 3", "1 $<$ 2 $>$ 0 $|$ 3"),
        ("0–20 %", r"0–20 \%"),
    ],
)
def test_latex_shows_its_own_letters_as_they_are(cell, latex):
    assert as_latex([("", ""), ("run", cell)]).splitlines()[4] == rf"run & {latex} \\"


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-1", -1), ("0.5", 0.5), ("1e-3", 0.001), ("inf", math.inf), ("half", "half"), ("", "")],
)
def test_a_number_is_read_as_what_it_is_written_as(text, value):
    found = number_or_text(text)
    assert (found, type(found)) == (value, type(value))


def test_markdown_is_aligned_by_its_rule():
    assert as_markdown(LINES).splitlines() == [
        "| run | steps | % |",
        "| --- | ---: | ---: |",
        "| full data | 1,000 | 9 |",
        "| short | 10 | 10.5 |",
    ]


def test_a_bar_inside_a_cell_ends_no_cell_of_markdown():
    lines = [("a|b", "x"), ("| c ||", "1 | 2")]
    text = as_markdown(lines)
    assert text.splitlines()[0] == r"| a\|b | x |"
    assert [tuple(markdown_cells(line)) for line in text.splitlines() if "---" not in line] == [
        ("a|b", "x"),
        ("| c ||", "1 | 2"),
    ]


def test_csv_gives_every_float_back():
    values = [0.1 + 0.2, np.float64(1) / 3, np.float32(0.1), np.float16(0.1), 1e-300]
    text = as_csv(("name", "value"), [(f"a, {i}", value) for i, value in enumerate(values)])
    back = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in back] == ["a, 0", "a, 1", "a, 2", "a, 3", "a, 4"]
    assert [float(row["value"]) for row in back] == [float(value) for value in values]
    assert "np." not in text

"""Tables of text, aligned and as Markdown, and numbers as CSV."""

import csv
import io

import numpy as np

from orderdp.output.text_table import as_csv, as_markdown, as_text

LINES = [("run", "steps", "%"), ("full data", "1,000", "9"), ("short", "10", "10.5")]


def test_text_is_aligned_label_left_and_numbers_right():
    assert as_text(LINES).splitlines() == [
        "run        steps     %",
        "full data  1,000     9",
        "short         10  10.5",
    ]


def test_markdown_is_aligned_by_its_rule():
    assert as_markdown(LINES).splitlines() == [
        "| run | steps | % |",
        "| --- | ---: | ---: |",
        "| full data | 1,000 | 9 |",
        "| short | 10 | 10.5 |",
    ]


def test_csv_gives_every_float_back():
    values = [0.1 + 0.2, np.float64(1) / 3, np.float32(0.1), np.float16(0.1), 1e-300]
    text = as_csv(("name", "value"), [(f"a, {i}", value) for i, value in enumerate(values)])
    back = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in back] == ["a, 0", "a, 1", "a, 2", "a, 3", "a, 4"]
    assert [float(row["value"]) for row in back] == [float(value) for value in values]
    assert "np." not in text

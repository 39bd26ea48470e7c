"""Sections of a report, made as the page makes them, and the numbers in their charts."""

import csv
import io

from orderdp.report.section import Choices
from orderdp.report.sections import SECTIONS
from orderdp.training.methods import method_of

SHORT = "full data, steps of OrderDP 50 %"


def make_section(name, results, **choices):
    """A section by its name, with the choices of a reader."""
    return SECTIONS[name](results, Choices(**choices))


def methods(*texts):
    """Methods as the command line names them."""
    return tuple(map(method_of, texts))


def without_results(folder, label, *seeds):
    """Takes the results of runs away, which are missing then."""
    for seed in seeds:
        (folder.folder(label, seed).path / "result.json").unlink()


def rows(chart):
    """The numbers of a chart, a dictionary a row."""
    return list(csv.DictReader(io.StringIO(chart.csv)))


def points(chart, x, y):
    """Run to its points."""
    found = {}
    for row in rows(chart):
        found.setdefault(row["run"], []).append((float(row[x]), float(row[y])))
    return found

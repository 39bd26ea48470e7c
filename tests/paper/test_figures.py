"""The numbers behind figures 5 to 8, and that the files kept under results/ are what the commands write."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from orderdp.paper import figures
from orderdp.paper.exhibit import Shown
from orderdp.paper.studies import find_study, run_computed
from reference.gamma import gammas

RESULTS = Path(__file__).parents[2] / "results" / "theory"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for name in ("figure5", "figure6", "figure7", "figure8"):
        run_computed(find_study(name), folder)
    return folder


def test_figure_5_has_the_known_distances(written):
    distances = {int(row["n"]): float(row["largest_distance"]) for row in rows(written / "figure5_distance.csv")}
    assert {n: float(f"{distance:.3g}") for n, distance in distances.items()} == {
        400: 4.49,
        1_000: 1.66,
        10_000: 0.159,
        100_000: 0.0159,
    }


def test_figure_5_holds_the_law_and_its_limit(written):
    found = [row for row in rows(written / "figure5.csv") if row["n"] == "400"]
    assert [int(row["j"]) for row in found] == list(range(1, 401))
    exact = [float(400 * gamma) for gamma in gammas(400, 100, 30)]
    np.testing.assert_allclose([float(row["n_gamma"]) for row in found], exact, rtol=1e-12, atol=1e-290)
    distance = max(abs(float(row["n_gamma"]) - float(row["limit"])) for row in found)
    assert distance == pytest.approx(4.488808089815407, rel=1e-9)


def test_figures_6_and_7_hold_the_law(written):
    for name, n, column, divisor in (("figure6", 200, "gamma", False), ("figure7", 400, "share", True)):
        table = rows(written / f"{name}.csv")
        for q in (10, 50, 90, 100):
            found = [float(row[column]) for row in table if int(row["q"]) == q]
            exact = [float(gamma / (q if divisor else 1)) for gamma in gammas(n, 100, q)]
            np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-290)


def test_figure_6_holds_the_gap(written):
    gaps = {int(row["q"]): float(row["spectrum_gap"]) for row in rows(written / "figure6.csv")}
    assert gaps == {10: 9, 30: pytest.approx(7 / 3), 50: 1, 70: 1, 90: 1, 100: 0}


def test_figure_8_is_1_within_four_units_of_the_last_place(written):
    sums = {int(row["q"]): float(row["sum"]) for row in rows(written / "figure8.csv")}
    assert list(sums) == list(range(10, 101, 10))
    assert all(abs(total - 1) <= 4 * np.finfo(float).eps for total in sums.values())
    assert all(sum(gammas(400, 100, q), Fraction(0)) == q for q in (10, 100))


@pytest.mark.parametrize("name", ["figure5", "figure6", "figure7", "figure8"])
def test_the_kept_numbers_are_those_of_the_command(written, name):
    tables = [path.name for path in written.glob(f"{name}*.csv")]
    assert tables
    for table in tables:
        kept, fresh = rows(RESULTS / table), rows(written / table)
        assert len(kept) == len(fresh)
        for old, new in zip(kept, fresh, strict=True):
            # Another processor may round the last digits of the incomplete beta function otherwise.
            assert [float(cell) for cell in old.values()] == pytest.approx(
                [float(cell) for cell in new.values()], abs=1e-9
            )
        assert kept[0].keys() == fresh[0].keys()
    assert (RESULTS / f"{name}.svg").stat().st_size > 5_000


def test_the_same_bytes_come_twice(written, tmp_path):
    for path in run_computed(find_study("figure6"), tmp_path):
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_pictures_draw_every_curve():
    for function, curves in (("figure5", 5), ("figure6", 12), ("figure7", 11), ("figure8", 2)):
        shown = getattr(figures, function)()
        (axes,) = shown.pictures[function].axes
        assert len(axes.lines) == curves
        assert axes.get_title(loc="left")


def ydata(shown: Shown, name: str, label: str) -> list[float]:
    (axes,) = shown.pictures[name].axes
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_ydata())


def test_pictures_draw_what_the_tables_hold():
    lines = figures.figure6(kept=(10,)).pictures["figure6"].axes[0].lines
    assert set(lines[1].get_ydata()) == {10 / 200}
    assert set(ydata(figures.figure7(), "figure7", "1/n")) == {1 / 400}
    shown = figures.figure8()
    (axes,) = shown.pictures["figure8"].axes
    assert list(axes.lines[1].get_ydata()) == [row[3] for row in shown.tables["figure8"][1]]
    assert axes.get_ylim()[0] == 0  # from 0, where all sums look like 1, as in the paper

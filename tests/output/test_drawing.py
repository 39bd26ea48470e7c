"""Plots are written completely, with the same bytes each time, in the format that their name asks for."""

import sys

import pytest
from matplotlib import colormaps

from orderdp.output.drawing import new_axes, save, shades


def drawn():
    figure, axes = new_axes("samples seen", "accuracy", title="a title", width=5)
    axes.plot([1, 2_000], [3, 4])
    return figure


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_ending_decides_the_format_and_the_bytes_are_alike(tmp_path, ending, begins):
    first, second = (save(drawn(), tmp_path / f"{name}.{ending}") for name in "ab")
    assert first.read_bytes().startswith(begins)
    assert first.read_bytes() == second.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_axes_have_what_was_asked_for():
    figure = drawn()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("samples seen", "accuracy", "a title")
    assert tuple(figure.get_size_inches()) == (5, 4.2)
    assert axes.xaxis.get_major_formatter()(2_000) == "2,000"


@pytest.mark.parametrize("name", ["plan.doc", "plan"])
def test_another_ending_gets_one_line_and_writes_nothing(tmp_path, name):
    with pytest.raises(
        ValueError, match=rf"^a plot is a picture such as .png, .svg or .pdf, got .*{name}; write another"
    ):
        save(drawn(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_gets_one_line(tmp_path):
    with pytest.raises(
        OSError, match=r"^a plot needs an existing folder, got .*missing/plan.png; create that folder first$"
    ):
        save(drawn(), tmp_path / "missing" / "plan.png")


def test_shades_go_from_light_to_dark():
    light = [sum(color[:3]) for color in shades(5)]
    assert light == sorted(light, reverse=True)
    assert len(shades(1)) == 1


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^plots need matplotlib: pip install matplotlib$"):
        new_axes("x", "y")


def test_the_last_shade_is_the_darkest():
    assert shades(5)[-1] == colormaps["viridis_r"](1.0)


def test_a_pdf_has_no_date_and_an_svg_has_its_text(tmp_path):
    assert b"CreationDate" not in save(drawn(), tmp_path / "a.pdf").read_bytes()
    assert ">samples seen</text>" in save(drawn(), tmp_path / "a.svg").read_text()

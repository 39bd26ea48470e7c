"""Plots in one style, without pyplot: no window system, no global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from orderdp.output.files import write_whole
from orderdp.output.palette import GREY, INK, RULE


def new_axes(
    x_label: str, y_label: str, *, title: str | None = None, width: float = 7.2, height: float = 4.2
) -> tuple[Any, Any]:
    """Returns a matplotlib figure, `width` by `height` inches, and its axes.

    Raises:
        ImportError: without matplotlib.
    """
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    set_style(axes, title)
    if x_label.startswith("samples"):
        axes.xaxis.set_major_formatter(thousands)
    return figure, axes


def new_figure(width: float, height: float) -> Any:
    """Returns a matplotlib figure, `width` by `height` inches, without axes.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def set_style(axes: Any, title: str | None = None) -> None:
    """Gives axes the style of all plots, and a title."""
    if title is not None:
        axes.set_title(title, loc="left", fontsize="medium", color=INK)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def thousands(value: float, _position: float | None = None) -> str:
    """Returns a number for the tick of an axis, such as 20,000 or 0.5.

    >>> thousands(20_000), thousands(0.5)
    ('20,000', '0.5')
    """
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"


def shades(count: int) -> list[Any]:
    """Returns colours from light to dark, for lines in the order of a growing number."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](0.1 + 0.9 * step / max(count - 1, 1)) for step in range(count)]


def save(figure: Any, path: Path) -> Path:
    """Writes the figure in the format of the file's ending, with the same bytes each time, and returns the path.

    Raises:
        ValueError: matplotlib does not write that format. OSError: the file cannot be written.
    """
    ending = path.suffix.lstrip(".").lower()
    if ending not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"a plot is a picture such as .png, .svg or .pdf, got {path}; write another ending")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"a plot needs an existing folder, got {path}; create that folder first")
    write_whole(path, _drawn(figure, ending))
    return path


def svg_of(figure: Any) -> str:
    """Returns the figure as the text of an SVG, the same each time."""
    return _drawn(figure, "svg").decode()


def _drawn(figure: Any, ending: str) -> bytes:
    from matplotlib import rc_context

    picture = io.BytesIO()
    # Without a date, and with the names of an SVG's parts drawn from a fixed salt.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    with rc_context({"svg.hashsalt": "orderdp", "svg.fonttype": "none"}):
        figure.savefig(picture, format=ending, metadata=metadata)
    return picture.getvalue()

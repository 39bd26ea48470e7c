"""Plots in one style, without pyplot: no window system, no global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from orderdp.output.files import write_whole

COLORS = ("#0b6e99", "#d9730d", "#0f7b6c", "#6940a5", "#ad1a72")
REFERENCE = "#555555"


def new_axes(x_label: str, y_label: str, *, title: str | None = None, width: float = 7.2) -> tuple[Any, Any]:
    """Returns a matplotlib figure, `width` inches wide, and its axes.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "orderdp[theory]"') from None
    figure = Figure(figsize=(width, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if title is not None:
        axes.set_title(title, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if x_label.startswith("samples"):
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure, axes


def shades(count: int) -> list[Any]:
    """Returns colours that go from light to dark, for lines that belong to a growing number."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](0.1 + 0.9 * step / max(count - 1, 1)) for step in range(count)]


def save(figure: Any, path: Path) -> Path:
    """Writes the figure in the format of the file's ending and returns the path; PNG, SVG and PDF alike each time.

    Raises:
        ValueError: matplotlib does not write that format. OSError: the file cannot be written.
    """
    ending = path.suffix.lstrip(".").lower()
    if ending not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"a plot is a picture such as .png, .svg or .pdf, got {path}; write another ending")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"a plot needs a folder that is there, got {path}; create that folder first")
    write_whole(path, _drawn(figure, ending))
    return path


def svg_of(figure: Any) -> str:
    """Returns the figure as the text of an SVG, alike each time."""
    return _drawn(figure, "svg").decode()


def _drawn(figure: Any, ending: str) -> bytes:
    from matplotlib import rc_context

    picture = io.BytesIO()
    # Without a date, and with the names of an SVG's parts drawn from a fixed salt.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    with rc_context({"svg.hashsalt": "orderdp", "svg.fonttype": "none"}):
        figure.savefig(picture, format=ending, metadata=metadata)
    return picture.getvalue()

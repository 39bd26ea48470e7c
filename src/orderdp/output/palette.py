"""The colours of every plot, chart and page, for a light and for a dark background."""

from __future__ import annotations

# Role to its colour on light paper and on dark. The series begin with colours that people with any colour vision can
# distinguish; further ones are added for comparisons of many methods.
THEME: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#16181a"),
    "ink": ("#1b1b1b", "#e9e9e6"),
    "grey": ("#767676", "#9a9a9a"),
    "rule": ("#dcdcdc", "#3a3d40"),
    "soft": ("#f5f5f3", "#202326"),
    "accent": ("#0b62a4", "#6cb8ea"),
    "warn": ("#9a3b00", "#ffb37a"),
    "series-0": ("#0072b2", "#4aa8e0"),
    "series-1": ("#d55e00", "#f08a3c"),
    "series-2": ("#009e73", "#2fc79a"),
    "series-3": ("#cc79a7", "#e29dc4"),
    "series-4": ("#8a6d00", "#c9a93a"),
    "series-5": ("#56b4e9", "#8fd0f5"),
    "series-6": ("#6a3d9a", "#b08ae0"),
    "series-7": ("#b15928", "#d98b5f"),
    "series-8": ("#33a02c", "#6fd06a"),
    "series-9": ("#e31a1c", "#ff6b6d"),
}
PAPER, INK, GREY, RULE = (THEME[role][0] for role in ("paper", "ink", "grey", "rule"))
SERIES = tuple(light for role, (light, _) in THEME.items() if role.startswith("series-"))


def themed(svg: str) -> str:
    """Returns an SVG in the colours of the page around it, which defines `--ink` and the others.

    >>> themed('<path style="stroke: #1b1b1b"/>')
    '<path style="stroke: var(--ink)"/>'
    """
    for role, (light, _) in THEME.items():
        svg = svg.replace(light, f"var(--{role})")
    return svg.replace("#000000", "var(--ink)")  # matplotlib's default colour

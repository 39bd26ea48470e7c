"""Pages of HTML, which need no network and no scripts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import orderdp
from orderdp.output.palette import THEME
from orderdp.output.text_table import Table
from orderdp.report.beside_print import mark_in

# Letters of a table's row: of the first column, which wraps; between columns; on a telephone's screen, and a tablet's.
_FIRST_LETTERS, _PADDING, _TELEPHONE, _TABLET = 18, 3, 50, 105
_SPACE, _JOINER = "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"  # where a line must not break


def rendered(template: str, **values: Any) -> str:
    """Returns a page of HTML.

    Args:
        template: its file in `orderdp.report`'s templates.
        **values: what the template names.

    Raises:
        ImportError: without Jinja2.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("orderdp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["download"] = _download
    environment.filters["reach"] = _reach
    environment.filters["whole"] = _whole
    environment.filters["mark"] = _mark
    environment.tests["number"] = _is_number
    return environment.get_template(template).render(theme=THEME, version=orderdp.__version__, **values)


def _download(text: str, kind: str) -> str:
    """Returns a link that holds the text itself."""
    return f"data:{kind};charset=utf-8,{quote(text)}"


def _reach(table: Table) -> str:
    """Returns how wide a table is: "" fits a phone, "wide" fits a tablet, "vast" needs a wide screen.

    A page without scripts cannot measure itself, so the page shows its hint to scroll by this estimate.
    """
    header, *rows = table.lines
    first, *cells = (max((len(row[column]) for row in rows), default=0) for column in range(len(header)))
    words = [max(map(len, heading.split()), default=0) for heading in header[1:]]  # headings wrap on a telephone
    telephone, tablet = (
        min(first, _FIRST_LETTERS) + sum(max(pair) + _PADDING for pair in zip(cells, headings, strict=True))
        for headings in (words, map(len, header[1:]))
    )
    return "" if telephone <= _TELEPHONE else "wide" if tablet <= _TABLET else "vast"


def _whole(cell: str) -> str:
    """Returns a cell that does not break within "0–30 %", an interval, or a mark of agreement."""
    mark = mark_in(cell)
    if mark is not None:
        cell = cell.removesuffix(str(mark)) + str(mark).replace(" ", _SPACE)
    return re.sub(r" (?=%)|(?<=,) (?=[+−])", _SPACE, cell).replace("–", f"–{_JOINER}")


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "+−" or cell in ("", "never", "missing")


def _mark(cell: str) -> str:
    """Returns the class of a cell that ends with a mark of agreement; "" for any other cell."""
    mark = mark_in(cell)
    return "" if mark is None else mark.color

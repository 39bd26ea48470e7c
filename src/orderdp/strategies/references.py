"""The BibTeX entries to cite for a method and for this library."""

from __future__ import annotations

from typing import Protocol

from orderdp.version import __version__

_SOFTWARE = """@misc{orderdp,
  title = {orderdp: dynamic data pruning for {PyTorch}},
  author = {{The orderdp maintainers}},
  note = {Version VERSION},
}"""


class Published(Protocol):
    """A method with the BibTeX entries of its publication: a `Strategy` or an `orderdp.coresets.StaticMethod`."""

    @property
    def references(self) -> tuple[str, ...]:
        """Returns the entries; none if the method is not published."""


def citation(method: Published) -> str:
    """Returns the BibTeX entries to cite if a method was used: its publication and this library.

    An unpublished method, such as full data, has the entry of the library only.

    Args:
        method: a strategy such as `OrderDP(prune_ratio=0.5)`, or a static method such as `orderdp.coresets.Herding()`.

    Raises:
        TypeError: it is no method.

    >>> from orderdp import OrderDP
    >>> print(citation(OrderDP()).splitlines()[0])
    @inproceedings{jin2026orderdp,
    """
    if isinstance(method, type) or not hasattr(method, "references"):
        raise TypeError(f"method must be a strategy or a static method, got {method!r}; write citation(OrderDP())")
    return "\n\n".join([*method.references, _SOFTWARE.replace("VERSION", __version__)])

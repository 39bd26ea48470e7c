"""The BibTeX entries to cite for a method and for this library."""

from __future__ import annotations

from orderdp.strategies.base import Strategy
from orderdp.version import __version__

_SOFTWARE = """@misc{orderdp,
  title = {orderdp: dynamic data pruning for {PyTorch}},
  author = {{The orderdp maintainers}},
  note = {Version VERSION},
}"""


def citation(strategy: Strategy) -> str:
    """Returns the BibTeX entries to cite if a method was used: its publication and this library.

    An unpublished method, such as full data, has the entry of the library only.

    Args:
        strategy: the method, such as `OrderDP(prune_ratio=0.5)`.

    Raises:
        TypeError: it is no strategy.

    >>> from orderdp import OrderDP
    >>> print(citation(OrderDP()).splitlines()[0])
    @inproceedings{jin2026orderdp,
    """
    if not isinstance(strategy, Strategy):
        raise TypeError(f"strategy must be a Strategy, got {strategy!r}; write citation(OrderDP())")
    return "\n\n".join([*strategy.references, _SOFTWARE.replace("VERSION", __version__)])

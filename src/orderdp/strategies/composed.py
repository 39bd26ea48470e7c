"""What strategies that are made of another one have in common: where they say nothing, the other one speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.strategies.base import Strategy

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class Composed(Strategy):
    """Base of strategies that change another one, their `strategy`.

    On the command line they are NAME:INNER, with the settings of the inner one among theirs.

    Args:
        strategy: the other one.

    Raises:
        TypeError: it is none.
    """

    argument = "inner"
    method_setting = "inner"

    strategy: Strategy

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy):
            raise TypeError(f"strategy must be a method, got {self.strategy!r}; write OrderDP(prune_ratio=0.5)")
        # What the class says of all, this one says of its method.
        object.__setattr__(self, "references", self.strategy.references)
        object.__setattr__(self, "plain_losses_advice", self.strategy.plain_losses_advice)

    def _instead(self, form: str) -> str:
        """Returns what to write instead of a method that is refused, with `form` for its own method."""
        inner = self.strategy
        if isinstance(inner, Composed):
            return f"write {form.format(inner.strategy)}, or use {type(inner).__name__} alone"
        return "write OrderDP(prune_ratio=0.5)"

    @classmethod
    def inner_of(cls, settings: dict[str, Any]) -> type[Strategy]:
        """Takes the class of the other strategy out of the settings, and returns it.

        Raises:
            ValueError: there is none, or it is made of another one too.
        """
        if not settings.get("inner"):
            raise ValueError(f"inner is needed by strategy '{cls.name}', got None; write {cls.name}:orderdp")
        inner: type[Strategy] = settings.pop("inner")
        if inner.method_setting is not None:
            alone = "" if inner is cls else f", or {inner.name}:orderdp alone"
            raise ValueError(
                f"the method of '{cls.name}' must hold no other method, got {inner.name}; write {cls.name}:orderdp"
                f"{alone}"
            )
        return inner

    def for_seed(self, seed: int | None) -> Self:
        """Returns it with its method for this seed."""
        return replace(self, strategy=self.strategy.for_seed(seed))

    def for_labels(self, labels: Tensor | None) -> Self:
        """Returns it with its method for data of these classes."""
        return replace(self, strategy=self.strategy.for_labels(labels))

    @property
    def asked_ratio(self) -> float | None:
        """That of the method."""
        return self.strategy.asked_ratio

    @property
    def assumed_size(self) -> str | None:
        """What the method says."""
        return self.strategy.assumed_size

    @property
    def columns(self) -> dict[str, float]:
        """Those of the method."""
        return self.strategy.columns

    @property
    def needs_plain_losses(self) -> bool:
        """As the method does."""
        return self.strategy.needs_plain_losses

    def may_prune(self, epochs: int) -> bool:
        """As the method may."""
        return self.strategy.may_prune(epochs)

    def blind_to(self, losses: npt.NDArray[np.float32]) -> str | None:
        """As of the method."""
        return self.strategy.blind_to(losses)

    @property
    def names_samples(self) -> bool:  # type: ignore[override]
        """As the method does."""
        return self.strategy.names_samples

    @property
    def samples_before(self) -> int:
        """As of the method."""
        return self.strategy.samples_before

    def check_files(self, data_sha256: Callable[[], str] | None = None) -> None:
        """Checks the files of the method."""
        self.strategy.check_files(data_sha256)

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Returns what the method remembers."""
        return self.strategy.observe(old, losses)

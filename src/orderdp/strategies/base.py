"""The contract between a pruning method and the engine that runs it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.output.suggestions import did_you_mean
from orderdp.strategies.settings import check_names, key_of, literal, needed, short
from orderdp.theory.sizes import check_fraction, default_sizes

if TYPE_CHECKING:
    from typing import Self

Indices: TypeAlias = npt.NDArray[np.signedinteger[Any]]
Weights: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Selection:
    """What one epoch visits, in training order.

    Args:
        indices: (q,) int64 or int32, distinct positions in the data set.
        weights: (q,) float32, factor of each sample's loss; None where all are one.
    """

    indices: Indices
    weights: Weights | None = None


@dataclass(frozen=True, eq=False)
class Memory:
    """What a strategy knows when it chooses an epoch. Its arrays are read-only.

    A sample that failed has -inf in every column: its loss was not finite, or an epoch left it without a loss. It has
    -inf until a finite loss is recorded. Rank it below every finite score.

    Args:
        num_samples: size n of the data set.
        epoch: number of the epoch to choose, from 0.
        columns: the columns that the strategy declared, each (n,) float32.
        step_bounds: half-open intervals of the selection, one for each step of all ranks; `drop_last` may leave a rest.
            None if the loop forms its own batches or the size is not declared.
        previous: (p,) int64 or int32, what the epoch before visited, if this strategy chose it; None at the first epoch
            and after another strategy or `resize`.
        previous_epoch: number of that epoch, which need not be `epoch` - 1 after `set_epoch`. None if `previous` is
            None.
        visits: (n,) int32 or int16, in how many epochs each sample was trained, whichever strategy chose them; None if
            they were not counted.
        failed: (k,) int64 or int32, the samples that failed, for strategies without columns; None if there are none.
    """

    num_samples: int
    epoch: int
    columns: Mapping[str, npt.NDArray[np.float32]]
    step_bounds: Sequence[tuple[int, int]] | None = None
    previous: Indices | None = None
    previous_epoch: int | None = None
    visits: npt.NDArray[np.signedinteger[Any]] | None = None
    failed: Indices | None = None


class _SignatureOfInit:
    """What `inspect` shows of a class: the settings of its `__init__`, and not what `__new__` lets pass."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("only the class has a signature")
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Strategy(ABC):
    """A pruning method: a frozen dataclass of settings with a pure `select`.

    Everything random or remembered is an argument, so equal arguments give equal selections. A method declares here
    what the engine, the trainer and the tables must know about it. They never ask which method it is.

    Methods are compared by their settings, and `repr` evaluates back. A setting may be a NumPy array, a tensor or a
    long tuple. It is then compared and shown by a digest, which is computed once, so its content must not change.

    Attributes:
        name: what files and the command line call the method; by default `MODULE:CLASS`.
        label: its name in tables; by default the name of the class.
        ratio_means: what the prune ratio means for it.
        ratio_setting: the setting that a prune ratio sets; None if a prune ratio does not apply.
        has_default_size: whether a recipe may leave out how much is trained.
        argument: the setting that follows the name after a colon, NAME:VALUE, on the command line; None if none does.
        method_setting: the setting that names another method, which `from_settings` gets as a class; None if none does.
        names_samples: whether the settings name samples of one data set, so that the method fits no part of it.
        by_seed: settings that hold a value for each of the seeds that the setting `seeds` names.
        prunes: whether it leaves out anything; False for full data.
        references: BibTeX entries of its publication.
        plain_losses_advice: what to write if `needs_plain_losses` and the losses are not plain.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    ratio_means: ClassVar[str] = "what its class says"
    ratio_setting: ClassVar[str | None] = "prune_ratio"
    has_default_size: ClassVar[bool] = False
    argument: ClassVar[str | None] = None
    method_setting: ClassVar[str | None] = None
    prunes: ClassVar[bool] = True
    names_samples: ClassVar[bool] = False
    by_seed: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    plain_losses_advice: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):  # a subclass is another method than its base
            cls.name = f"{cls.__module__}:{cls.__qualname__}"
        if "label" not in vars(cls):
            cls.label = cls.__name__
        if "num_selected" in vars(cls) and "size_changes" not in vars(cls):  # other sizes than its base
            cls.size_changes = Strategy.size_changes  # type: ignore[method-assign]
        for name in ("__eq__", "__hash__", "__repr__"):
            if name not in vars(cls):  # `dataclass` then finds them there and writes none of its own
                setattr(cls, name, getattr(super(cls, cls), name))

    __signature__ = _SignatureOfInit()

    def __new__(cls, *positional: Any, **settings: Any) -> Self:
        """Refuses settings that the class does not take, and names those that it takes."""
        check_names(cls, positional, settings)
        return super().__new__(cls)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        if "_written" not in self.__dict__:
            shown = [(field.name, *literal(getattr(self, field.name))) for field in self._not_default()]
            text = f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text, _ in shown)})"
            self.__dict__["_written"] = text if all(back for _, _, back in shown) else f"<{text}>"
        written: str = self.__dict__["_written"]
        return written

    def _key(self) -> Hashable:
        """Returns what the method is compared by; computed once."""
        if "_compared_by" not in self.__dict__:
            compared = (getattr(self, field.name) for field in fields(self) if field.compare)  # type: ignore[arg-type]
            self.__dict__["_compared_by"] = tuple(map(key_of, compared))
        key: Hashable = self.__dict__["_compared_by"]
        return key

    def _not_default(self) -> list[Field[Any]]:
        """Returns the settings that are not at their defaults."""
        return [field for field in fields(self) if key_of(getattr(self, field.name)) != key_of(field.default)]  # type: ignore[arg-type]

    @property
    def columns(self) -> dict[str, float]:
        """Columns to remember for each sample: name to first value."""
        return {}

    @abstractmethod
    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns how many samples `select` returns at this epoch, exactly; None if that depends on the losses.

        Raises:
            ValueError: the settings leave no sample of `num_samples`.
        """

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the epochs after 0 at which `num_selected` may change, ascending; None if they are not known.

        With None the engine asks `num_selected` for every epoch. A class that defines `num_selected` anew has None
        unless it defines this too.
        """
        return None

    def may_prune(self, epochs: int) -> bool:
        """Whether any of the epochs 0 .. epochs - 1 may leave samples out."""
        return self.prunes

    @abstractmethod
    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples of one epoch in training order; writes to nothing but the generator."""

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Returns the new values of every column for the samples just trained.

        Args:
            old: the declared columns of these samples, each (b,) float32.
            losses: (b,) float32, what was just seen, without gradient.
        """
        return dict.fromkeys(self.columns, losses)

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns (b,) factors that choose within a batch by its fresh losses; None if all samples count the same.

        A sample with factor zero is not trained: it counts as no visit. Its loss is remembered all the same, if the
        strategy has columns.

        Args:
            losses: (b,) float32, without gradient, on the device of the model. With several ranks, only those of this
                rank: a choice among all would need a collective in every step.
            uniforms: returns (b,) pseudo-random float32 in (0, 1) that depend on seed, epoch and sample id only, so
                that devices and restarts change nothing. Costs nothing unless called.
        """
        return None

    @property
    def chooses_in_batch(self) -> bool:
        """Whether `batch_weights` chooses within a batch: the samples of a step are not known before its losses."""
        return type(self).batch_weights is not Strategy.batch_weights

    def within(self, columns: Mapping[str, npt.NDArray[np.float32]], epoch: int) -> Strategy | None:
        """Returns the method whose `batch_weights` choose within the batches of an epoch; None if none does.

        Args:
            columns: what is remembered as the epoch begins, each (n,) float32.
            epoch: number of the epoch.
        """
        return self if self.chooses_in_batch else None

    @property
    def needs_plain_losses(self) -> bool:
        """Whether the losses must be plain cross-entropy, without label smoothing."""
        return False

    def blind_to(self, losses: npt.NDArray[np.float32]) -> str | None:
        """Returns why a setting lets the method not tell losses such as these apart; None if it can.

        Args:
            losses: (k,) finite losses of the first epoch.
        """
        return None

    @property
    def asked_ratio(self) -> float | None:
        """The prune ratio under which tables show the method; None if there is none."""
        ratio: float | None = None if self.ratio_setting is None else getattr(self, self.ratio_setting, None)
        return ratio

    @property
    def assumed_size(self) -> str | None:
        """What is left out where no setting says how much, as a sentence; None if a setting says it."""
        return None

    @property
    def samples_before(self) -> int:
        """How many samples, counted once in each epoch, were trained before the run to choose by, as by a proxy."""
        return 0

    def check_files(self, data_sha256: Callable[[], str] | None = None) -> None:  # noqa: B027  (most have none)
        """Raises ValueError if a file that the strategy reads is missing, has changed, or is of other data."""

    def surrogate_sizes(self, num_samples: int) -> tuple[int, int] | None:
        """Returns (s, q) of the surrogate loss L_q whose gradient is the expected one; None if there is none."""
        return None

    @classmethod
    def has_size(cls, settings: Iterable[str]) -> bool:
        """Whether settings of these names say how much is trained. If they do, no prune ratio is added."""
        return bool({"prune_ratio", cls.ratio_setting} & set(settings))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the method with the settings of a recipe or of the command line.

        Args:
            settings: name to value, by the names of the class; `prune_ratio` stands for `ratio_setting`.
            epochs: epochs of the run, which a setting `epochs` takes if it is not given; None without a run.

        Raises:
            ValueError: a setting that is unknown, refused or missing. TypeError: a setting of another type.
        """
        declared = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
        given = dict(settings)
        if cls.ratio_setting in declared and "prune_ratio" in given:
            ratio = given.pop("prune_ratio")
            check_fraction("prune_ratio", ratio, low_open=False, high_open=True)
            if cls.ratio_setting in given:
                raise ValueError(
                    f"prune_ratio excludes {cls.ratio_setting}, got {ratio} and {given[cls.ratio_setting]}; write one"
                )
            given[cls.ratio_setting] = cls._of_ratio(ratio)
        for name, value in given.items():
            if name not in declared:
                free = ["prune_ratio" if name == cls.ratio_setting else name for name in declared]
                hint = did_you_mean(name, free) or (f"; it takes {', '.join(free)}" if free else f"; leave {name} out")
                raise ValueError(f"{name} does not apply to strategy '{cls.name}', got {value!r}{hint}")
        if "epochs" in declared and epochs is not None:
            given.setdefault("epochs", epochs)
        if cls.ratio_setting in declared and not (cls.has_size(given) or cls.has_default_size):
            raise ValueError(f"prune_ratio is needed by strategy '{cls.name}', got None; write prune_ratio = 0.5")
        for name in needed(cls):
            if name not in given:
                raise ValueError(f"{name} is needed by strategy '{cls.name}', got None; write {name} = ...")
        return cls(**given)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that `from_settings` needs for an equal method: the size, and what is not a default."""
        ratio = self.asked_ratio
        found: dict[str, Any] = {}
        changed = self._not_default()
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name == self.ratio_setting and ratio is not None and self._of_ratio(ratio) == value:
                found["prune_ratio"] = ratio
            elif value is not None and (field.name == self.ratio_setting or field in changed):
                found[field.name] = value
        return found

    def describe(self, epochs: int | None = None) -> str:
        """Returns the method's label in tables, with its settings.

        Args:
            epochs: epochs of the run. The method's own epochs are shown if they differ; with None they never are.
        """
        settings = self.settings()
        if epochs is None or settings.get("epochs") == epochs:
            settings.pop("epochs", None)
        return " ".join([self.label, *self._describe(settings)])

    def for_epochs(self, epochs: int, *, instead_of: int) -> Self:
        """Returns the method for a run of other epochs; a method with other epochs than the run is unchanged."""
        return replace(self, epochs=epochs) if getattr(self, "epochs", None) == instead_of else self  # type: ignore[type-var]

    def for_seed(self, seed: int | None) -> Self:
        """Returns the method for a run of this seed, or for all seeds with None; most methods are the same for all."""
        return self

    def for_labels(self, labels: Tensor | None) -> Self:
        """Returns the method for data of these (n,) classes, None if there are none; most methods ignore them."""
        return self

    @classmethod
    def _of_ratio(cls, ratio: float) -> float:
        """Returns the value of `ratio_setting` for a prune ratio."""
        return ratio

    def _describe(self, settings: dict[str, Any]) -> list[str]:
        """Returns the words for these settings."""
        ratio = self.asked_ratio
        words = [] if ratio is None else [f"{100 * ratio:.12g} %"]
        size = {"prune_ratio", self.ratio_setting}
        return words + [f"{name} {short(value)}" for name, value in sorted(settings.items()) if name not in size]


@dataclass(frozen=True, kw_only=True)
class FixedRatio(Strategy):
    """A method that visits q = round((1 - prune_ratio)·n) samples in every epoch.

    A method with more settings checks them in its `__post_init__` before it calls this one. This one turns every
    setting that is declared as a float into a float.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: `prune_ratio` outside [0, 1).
    """

    ratio_means = "fraction of the data left out of each epoch, exactly"

    prune_ratio: float

    def __post_init__(self) -> None:
        check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
        for field in fields(self):  # 1 and 1.0 are the same setting, and give the same repr
            if field.type == "float":
                object.__setattr__(self, field.name, float(getattr(self, field.name)))

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns q.

        Raises:
            ValueError: q is zero.
        """
        size = default_sizes(num_samples, self.prune_ratio)[1]
        if size < 1:
            raise ValueError(
                f"prune_ratio must leave at least one of the {num_samples} samples, got {self.prune_ratio}; "
                f"write at most {1 - 1 / num_samples!r}"
            )
        return size

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns no epoch: q is the same in all."""
        return ()

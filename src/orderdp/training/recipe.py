"""The recipe of one training run: every setting that the run depends on, typed, checked and kept as TOML."""

import re
from collections.abc import Mapping
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from orderdp.data.registry import DATASETS, check_image_size
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml

STRATEGIES = (
    "orderdp",
    "dynamic_random",
    "repeated_random",
    "infobatch",
    "epsilon_greedy",
    "ucb",
    "seta",
    "kakurenbo",
    "ordered_sgd",
    "selective_backprop",
    "full",
)
_ORDERDP_KEYS = ("prune_ratio", "explore", "exploit", "initial_score", "uniform_share", "per", "fresh")
METHOD_KEYS = ("strategy", *_ORDERDP_KEYS, "settings")  # what of a recipe is the method; the rest is how it is trained
_KEYS_TAKEN = {"orderdp": _ORDERDP_KEYS, "full": ()}  # the others: prune_ratio and settings


class Recipe(BaseModel):
    """The settings of one training run, a frozen value.

    The description beside each key says what it means, its unit and its range.
    Values are not coerced ("1" is no number, 1.0 no whole number, True neither), except that a whole number may stand
    for a float. `model_copy(update=...)` checks the changed recipe as the constructor does.

    Raises:
        ValueError: an unknown key, a value of the wrong type or out of range, keys that contradict each other. The
            message is one line about the first error and counts the others.

    >>> Recipe(prune_ratio=50)
    Traceback (most recent call last):
    ...
    ValueError: prune_ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = Field(
        "digits",
        description=f"data set: {', '.join(f'{row.name} ({row.summary})' for row in DATASETS.values())}, or "
        "MODULE:FUNCTION of a custom one",
    )
    data_root: str | None = Field(None, description="folder that holds the data set", examples=["data"])
    download: bool = Field(default=False, description="fetch the data set into data_root if it is not there")
    train_size: int | None = Field(
        None, ge=1, description="train on a class-balanced subset of so many samples, in [1, inf)", examples=[20_000]
    )
    image_size: int | None = Field(
        None,
        ge=1,
        description="side of the training images in pixels, in [1, inf); for data sets without a size of their own",
        examples=[224],
    )
    data_path: Literal["auto", "resident", "loader"] = Field(
        "auto",
        description="keep the images on the device (resident), read them by DataLoader (loader), or choose (auto)",
    )
    num_workers: int = Field(0, ge=0, description="worker processes of the DataLoader, in [0, inf)")
    augment: Literal["none", "crop", "flip_crop"] = Field(
        "none", description="augmentation of the training images: none, crop or flip_crop (horizontal flip and crop)"
    )

    model: str = Field(
        "small_cnn", description="small_cnn, cnn, small_resnet, resnet18, resnet50, or the name of any model of timm"
    )
    channels_last: bool = Field(default=False, description="lay out images and weights with the channels last")
    compile: bool = Field(default=False, description="compile the model with torch.compile")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of the model: float32 or bf16")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train: auto, cpu or cuda")
    num_threads: int | None = Field(
        None, ge=1, description="processor threads of the arithmetic, in [1, inf); else torch's choice", examples=[1]
    )

    strategy: str = Field(
        "orderdp",
        description=f"how each epoch's samples are chosen: {', '.join(STRATEGIES)} (all samples), or MODULE:CLASS of a "
        "strategy of your own",
    )
    settings: dict[str, int | float | bool] = Field(
        default_factory=dict,
        description="further settings of the strategy, by the names of its class",
        examples=[{"epsilon": 0.2}],
    )
    prune_ratio: float | None = Field(
        None, ge=0, lt=1, description="fraction of the samples that an epoch leaves out, in [0, 1)", examples=[0.5]
    )
    explore: float | None = Field(
        None, gt=0, le=1, description="fraction of the samples that is drawn, in (0, 1]; orderdp only", examples=[0.5]
    )
    exploit: float | None = Field(
        None, gt=0, le=1, description="fraction of the draw that is kept, in (0, 1]; orderdp only", examples=[0.6]
    )
    initial_score: float = Field(
        inf,
        ge=-inf,
        allow_inf_nan=True,
        description="score of an unseen sample in nats, in [-inf, inf]; inf: unseen first",
    )
    uniform_share: float = Field(
        0.0, ge=0, lt=1, description="fraction of the kept samples that is drawn uniformly, in [0, 1); orderdp only"
    )
    per: Literal["epoch", "iteration"] = Field("epoch", description="choose samples once per epoch or per iteration")
    fresh: bool = Field(default=False, description="choose by losses of a fresh forward pass; needs per = iteration")

    epochs: int = Field(30, ge=1, description="passes over the selected samples, in [1, inf)")
    max_steps: int | None = Field(
        None, ge=1, description="stop after exactly so many optimiser steps, in [1, inf)", examples=[1000]
    )
    batch_size: int = Field(128, ge=1, description="samples per optimiser step, in [1, inf)")
    drop_last: bool = Field(default=False, description="leave out an epoch's last batch if it is not full")
    optimizer: Literal["sgd", "adamw", "lars", "lamb"] = Field("sgd", description="optimiser: sgd, adamw, lars or lamb")
    max_lr: float = Field(0.1, gt=0, description="highest learning rate of the schedule, in (0, inf)")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum, for adamw and lamb β₁, in [0, 1); onecycle replaces it by 0.95 to 0.85"
    )
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of the optimiser, in [0, inf)")
    schedule: Literal["onecycle", "constant"] = Field("onecycle", description="learning rate: onecycle or constant")
    pct_start: float = Field(0.3, ge=0, lt=1, description="fraction of onecycle's steps that raise the rate, in [0, 1)")
    div_factor: float = Field(25.0, ge=1, description="max_lr over onecycle's first learning rate, in [1, inf)")
    final_div_factor: float = Field(1e4, ge=1, description="onecycle's first learning rate over its last, in [1, inf)")
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="fraction of the target spread evenly over all classes, in [0, 1)"
    )

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random in the run, in [0, 2**63)")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="write a checkpoint every so many steps and each epoch, in [1, inf)", examples=[1000]
    )
    alignment: int = Field(
        0,
        ge=0,
        description="times, evenly over the run, at which the direction of the gradient is measured, each at the price "
        "of some three epochs on all the data; in [0, inf)",
    )
    eval_batch_size: int = Field(512, ge=1, description="samples per batch of the evaluation, in [1, inf)")

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ValueError(_one_line(error)) from None

    @field_validator("strategy", mode="before")
    @classmethod
    def _known(cls, name: object) -> object:
        if name in STRATEGIES or (isinstance(name, str) and re.fullmatch(r"[\w.]+:\w+", name)):
            return name
        hint = did_you_mean(str(name), STRATEGIES) or f"; choose from {', '.join(STRATEGIES)}, or write module:Class"
        raise ValueError(f"no strategy named {name!r}{hint}")

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        taken = _KEYS_TAKEN.get(self.strategy, ("prune_ratio", "settings"))
        for name in (*_ORDERDP_KEYS, "settings"):
            value = getattr(self, name)
            if name not in taken and value != default_of(name):
                raise ValueError(
                    f"{name} does not apply to strategy '{self.strategy}', got {value!r}; leave {name} out"
                )
        if self.strategy not in _KEYS_TAKEN and self.prune_ratio is None:
            raise ValueError(f"prune_ratio is needed by strategy '{self.strategy}', got None; write prune_ratio = 0.5")
        if self.prune_ratio is not None and (self.explore, self.exploit) != (None, None):
            raise ValueError(
                f"prune_ratio excludes explore and exploit, got prune_ratio {self.prune_ratio}, explore {self.explore} "
                f"and exploit {self.exploit}; write prune_ratio alone, or explore and exploit"
            )
        if self.strategy == "kakurenbo" and self.label_smoothing and "confidence" not in self.settings:
            raise ValueError(
                "kakurenbo reads off the loss how sure the model is, and label smoothing keeps the loss high, got "
                f"label_smoothing {self.label_smoothing:g}; write label_smoothing = 0, or set a lower confidence "
                "(0.53 for 0.1 on ten classes)"
            )
        if self.fresh and self.per == "epoch":
            raise ValueError("fresh needs choices per iteration, got per = 'epoch'; write per = \"iteration\"")
        if self.fresh and self.uniform_share:
            raise ValueError(f"uniform_share is for stored scores, got {self.uniform_share} with fresh; leave it out")
        if self.dataset in DATASETS:
            check_image_size(DATASETS[self.dataset], self.image_size)
        return self

    def method(self) -> dict[str, Any]:
        """The keys that make the method, where they differ from the defaults; the strategy always."""
        values = {name: getattr(self, name) for name in METHOD_KEYS}
        return {name: value for name, value in values.items() if name == "strategy" or value != default_of(name)}

    def with_method(self, method: Mapping[str, Any]) -> Self:
        """The recipe with another method in place of its own: `method` names its keys, the rest have their defaults."""
        return self.model_copy(update={**{name: default_of(name) for name in METHOD_KEYS}, **method})

    def __hash__(self) -> int:
        return hash(self.to_toml())  # a dictionary among the keys has none of its own

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The recipe with some keys changed, checked as a new one (pydantic's own `model_copy` checks nothing)."""
        return type(self)(**{**self.model_dump(), **(update or {})})

    def to_toml(self) -> str:
        """The complete recipe as TOML: every key but those that are None, which TOML cannot write."""
        keys = self.model_dump(exclude_none=True)
        settings = keys.pop("settings")
        return tomli_w.dumps({**keys, "settings": settings} if settings else keys)  # a table stands last

    def write(self, path: str | PathLike[str]) -> None:
        """Writes `to_toml()` to a file; `load_recipe` reads an equal recipe back."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")


def default_of(name: str) -> Any:
    """The value of a key that is left out."""
    return Recipe.model_fields[name].get_default(call_default_factory=True)


def load_recipe(path: str | PathLike[str], /, **overrides: Any) -> Recipe:
    """The recipe in a TOML file, with some keys replaced.

    Args:
        path: a TOML file of flat keys; a key that is left out has its default.
        **overrides: keys that replace the file's; None takes a key out of the recipe, as in
            `load_recipe(path, prune_ratio=None, explore=0.5, exploit=0.6)`.

    Raises:
        ValueError: the file cannot be read or is not TOML, or the recipe is refused.
    """
    table = read_toml(Path(path), "a recipe", example=_example("dataset"))
    return Recipe(**{**table, **overrides})


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the library, by name.

    >>> sorted(shipped_recipes())[:2]
    ['cifar10', 'cifar100_resnet18']
    """
    return {path.stem: path for path in (Path(__file__).parent / "recipes").glob("*.toml")}


def find_recipe(dataset: str, model: str | None = None) -> Path | None:
    """The shipped recipe for a data set, and for a model on it where there is one; None if there is none."""
    shipped = shipped_recipes()
    return shipped.get(f"{dataset}_{model}") or shipped.get(dataset)


def _one_line(error: ValidationError) -> str:
    """The first error in the house form, and how many more there are."""
    first, *others = error.errors()
    message = _message(first["type"], str(first["loc"][0]) if first["loc"] else "", first["input"], first["msg"])
    return f"{message} (and {len(others)} more)" if others else message


def _message(kind: str, name: str, value: object, text: str) -> str:
    fields = Recipe.model_fields
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"no recipe key '{name}'" + (did_you_mean(name, fields) or "; 'orderdp train --help' lists the keys")
    if kind == "literal_error":
        choices = get_args(fields[name].annotation)
        return f"no {name} named {value!r}" + (
            did_you_mean(str(value), choices) or f"; choose from {', '.join(choices)}"
        )
    if kind in _TYPES:
        return f"{name} must be {_TYPES[kind]}, got {value!r}; write {_example(name)}"
    return f"{name} {_rule(name, value)}"


_TYPES = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "text"}


def _rule(name: str, value: Any) -> str:
    """What is wrong with a number out of the range that its description states, and what to write."""
    description = Recipe.model_fields[name].description or ""
    interval = re.findall(r"in ([\[(].+?[\])])", description)[0]
    if not description.startswith("fraction"):
        return f"must lie in {interval}, got {value!r}; write {_example(name)}"
    percent = value if 1 < value < 100 else 50
    return f"is a fraction and must lie in {interval}, got {value!r}; for {percent:g} % write {percent / 100:g}"


def _example(name: str) -> str:
    """The line of TOML that sets a key to its default, or to an example where the default is None."""
    field = Recipe.model_fields[name]
    return tomli_w.dumps({name: field.examples[0] if field.examples else field.default}).strip()

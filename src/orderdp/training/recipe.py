"""The recipe of one training run: every setting that the run depends on, typed, checked and kept as TOML."""

from collections.abc import Mapping
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from orderdp.data.augment import Augment
from orderdp.data.registry import DATASETS, check_image_size
from orderdp.output.toml import read_toml
from orderdp.strategies import FullData, OrderDP, Strategy
from orderdp.strategies.registry import find, from_table, to_table
from orderdp.training.recipe_messages import example, one_line

# Release 0.1 wrote the strategy as flat keys: `strategy` was a name and `settings` a table. Every recipe held these
# keys of OrderDP, at these defaults if it had another strategy.
_FLAT = {
    "prune_ratio": None,
    "explore": None,
    "exploit": None,
    "initial_score": inf,
    "uniform_share": 0.0,
    "per": "epoch",
    "fresh": False,
}
_NOT_FOR_MASKS = ("mixup", "cutmix", "drop_path", "ema")
_OF_BOTH_STAGES = {
    *("dataset", "data_root", "download", "train_size", "held_out", "imbalance", "label_noise", "image_size"),
    *("model", "device", "initialization", "seed", "strategy", "max_steps", "alignment", "finetune"),
}
STRATEGY_KEYS = {"strategy", "settings", *_FLAT}  # of a recipe, in any release


class Recipe(BaseModel):
    """The settings of one training run, a frozen value.

    The description of each key gives its meaning, unit and range. Values are not coerced: "1" is no number, and 1.0 and
    True are no whole numbers. Only a whole number may stand for a float. `model_copy(update=...)` checks the changed
    recipe as the constructor does.

    Raises:
        ValueError: an unknown key, a value of the wrong type or out of range, keys that contradict each other. The
            message shows the first error and counts the others.

    >>> Recipe(strategy={"name": "ucb", "prune_ratio": 50})
    Traceback (most recent call last):
    ...
    ValueError: prune_ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )

    dataset: str = Field(
        "digits",
        description=f"data set: {', '.join(f'{row.name} ({row.summary})' for row in DATASETS.values())}, or "
        "MODULE:FUNCTION for a custom one",
    )
    data_root: str | None = Field(None, description="folder that holds the data set", examples=["data"])
    download: bool = Field(default=False, description="download the data set into data_root if it is missing")
    train_size: int | None = Field(
        None,
        ge=1,
        description="train on a class-balanced subset of this many samples, in [1, inf); default all",
        examples=[20_000],
    )
    held_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training samples, the same of each class, to evaluate on instead of the test set and "
        "to train without, in [0, 1)",
    )
    imbalance: float = Field(
        1.0,
        ge=1,
        description="keep one training sample in N of each class of the second half, the same in every run, in "
        "[1, inf); the test set stays as it is",
        examples=[10.0],
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training samples to give a wrong label, the same in every run, in [0, 1]",
    )
    image_size: int | None = Field(
        None,
        ge=1,
        description="side of the training images in pixels, in [1, inf); for data set folder, "
        "or a custom one that takes it",
        examples=[224],
    )
    data_path: Literal["auto", "resident", "loader"] = Field(
        "auto",
        description="keep the samples on the device (resident), read them by DataLoader (loader), or auto: "
        "loader for files only",
    )
    num_workers: int = Field(0, ge=0, description="worker processes of the DataLoader, in [0, inf)")
    augment: Augment = Field(
        "none",
        description="augmentation of the training images: none, crop, flip_crop (horizontal flip and crop), "
        "flip_crop_erase (then a square is erased) or flip_crop_random_erase (then timm's random erasing)",
    )
    mixup: float = Field(
        0.0, ge=0, description="α of timm's Mixup, in [0, inf); 0 for none; beside cutmix, a step has one of them"
    )
    cutmix: float = Field(0.0, ge=0, description="α of timm's CutMix, in [0, inf); 0 for none")

    model: str = Field(
        "small_cnn",
        description="small_cnn, cnn, strided_cnn, small_resnet, small_swin, resnet18, resnet50, strided_resnet18, "
        "strided_resnet50 (ImageNet's stem also for small images), tiny_vit, vit_base, or the name of any model of "
        "timm; for texts text_bag; for rows of numbers mlp; for windows of tokens small_gpt; for graphs graph_network",
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the residual branches that a step drops, in [0, 1); for models of timm",
    )
    initialization: Literal["model", "torch"] = Field(
        "model",
        description="first weights: the model's own (model), or PyTorch's default for convolutions and linear layers "
        "(torch), as in the paper's release on CIFAR",
    )
    channels_last: bool = Field(default=False, description="lay out images and weights with the channels last")
    compile: bool = Field(default=False, description="compile the model with torch.compile")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of the model: float32 or bf16")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train: auto, cpu or cuda")
    num_threads: int | None = Field(
        None, ge=1, description="CPU threads, in [1, inf); default torch's choice", examples=[1]
    )

    epochs: int = Field(30, ge=1, description="passes over the selected samples, in [1, inf)")
    max_steps: int | None = Field(
        None, ge=1, description="stop after exactly this many optimiser steps, in [1, inf)", examples=[1000]
    )
    batch_size: int = Field(128, ge=1, description="samples per optimiser step, in [1, inf)")
    drop_last: bool = Field(default=False, description="leave out an epoch's last batch if it is not full")
    optimizer: Literal["sgd", "adamw", "lars", "lamb", "lars_release", "lamb_release"] = Field(
        "sgd",
        description="optimiser: sgd, adamw, lars or lamb, or lars_release or lamb_release, as the paper's release "
        "computes them",
    )
    max_lr: float = Field(0.1, gt=0, description="highest learning rate of the schedule, in (0, inf)")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum, in [0, 1); β₁ of adamw and the two lamb; onecycle varies it from 0.95 to 0.85 instead",
    )
    nesterov: bool = Field(default=False, description="Nesterov's form of the momentum; for optimizer sgd")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of the optimiser, in [0, inf)")
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="largest norm of the gradient of all weights together, in (0, inf); default no limit",
        examples=[5.0],
    )
    schedule: Literal["onecycle", "cosine", "constant"] = Field(
        "onecycle", description="schedule of the learning rate: onecycle, cosine (after a straight rise) or constant"
    )
    pct_start: float = Field(
        0.3, ge=0, lt=1, description="onecycle, cosine: fraction of the steps in which the rate rises, in [0, 1)"
    )
    div_factor: float = Field(
        25.0, ge=1, description="onecycle, cosine: max_lr divided by the first learning rate, in [1, inf)"
    )
    final_div_factor: float = Field(
        1e4, ge=1, description="onecycle, cosine: first learning rate divided by the last, in [1, inf)"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights that is evaluated, in [0, 1); 0 evaluates the weights",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="label smoothing: share of the target spread evenly over all classes, in [0, 1)"
    )

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random in the run, in [0, 2**63)")
    checkpoint_steps: int | None = Field(
        None,
        ge=1,
        description="also write a checkpoint every N steps, in [1, inf); default only after each epoch",
        examples=[1000],
    )
    alignment: int = Field(
        0,
        ge=0,
        description="how often to measure the direction of the gradient, evenly over the run, in [0, inf); each "
        "measurement costs about three epochs of full data",
    )
    evaluations: int = Field(
        0,
        ge=0,
        description="how often to evaluate on the test set, evenly over the epochs and after the last, in [0, inf); "
        "0 is after every epoch",
    )
    eval_batch_size: int = Field(512, ge=1, description="samples per batch in the evaluation, in [1, inf)")

    finetune: dict[str, Any] | None = Field(
        None,
        description="train without labels, as a masked autoencoder, and evaluate by fine-tuning on full data after the "
        "last epoch: a table of keys that change for it",
        examples=[{"epochs": 20}],
    )

    # After the epochs and the seed, which some strategies need.
    strategy: Strategy = Field(
        OrderDP(), description="how each epoch's samples are selected: a strategy, or a table of its name and settings"
    )

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ValueError(one_line(error, type(self).model_fields, STRATEGY_KEYS)) from None

    @field_validator("strategy", mode="before")
    @classmethod
    def _made(cls, given: object, info: ValidationInfo) -> object:
        try:
            if isinstance(given, Mapping):
                # Refused epochs get their own message.
                given = from_table(given, epochs=info.data.get("epochs", cls.model_fields["epochs"].default))
            elif isinstance(given, Strategy) and find(given.name) is not type(given):
                raise ValueError(f"strategy must be of a class that is found by its name, got {given.name}; rename it")
        except TypeError as error:  # which pydantic would let through
            raise ValueError(str(error)) from None
        return given.for_seed(info.data["seed"]) if isinstance(given, Strategy) and "seed" in info.data else given

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.label_smoothing and self.strategy.needs_plain_losses:
            advice = self.strategy.plain_losses_advice
            # Of a method that changes another one, it is that one.
            needing = getattr(self.strategy, "strategy", self.strategy)
            raise ValueError(
                f"{needing.name} needs plain losses, and label smoothing keeps them high, got "
                f"label_smoothing {self.label_smoothing:g}; write label_smoothing = 0" + (advice and f", or {advice}")
            )
        if self.mixes:
            self._check_mixing()
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError(
                f"nesterov needs sgd with momentum, got optimizer {self.optimizer} and momentum {self.momentum:g}; "
                "write nesterov = false"
            )
        if self.dataset in DATASETS:
            check_image_size(DATASETS[self.dataset], self.image_size)
        if self.finetune is not None:
            self._check_finetune(self.finetune)
        return self

    def _check_mixing(self) -> None:
        name = "mixup" if self.mixup else "cutmix"
        if self.strategy.needs_plain_losses or self.strategy.chooses_in_batch:
            why = "chooses within its batch" if self.strategy.chooses_in_batch else "needs plain losses"
            raise ValueError(
                f"{self.strategy.name} {why}, and {name} mixes the samples of a batch, got {getattr(self, name):g}; "
                f"write {name} = 0"
            )

    def _check_finetune(self, table: Mapping[str, Any]) -> None:
        for name in _NOT_FOR_MASKS:
            if getattr(self, name):
                raise ValueError(
                    f"{name} is for labels, got {getattr(self, name):g} beside finetune; write it in [finetune]"
                )
        if self.initialization != "model":
            raise ValueError(
                f"a masked autoencoder has first weights of its own, got initialization {self.initialization}; write "
                'initialization = "model"'
            )
        if self.alignment:
            raise ValueError(
                f"alignment is not measured without labels, got {self.alignment} beside finetune; write alignment = 0"
            )
        if wrong := sorted(set(table) & _OF_BOTH_STAGES):
            raise ValueError(
                f"finetune changes how the second stage trains, got {wrong[0]}; write it outside the table [finetune]"
            )
        if self.strategy.needs_plain_losses:
            raise ValueError(
                f"{self.strategy.name} reads probabilities off its losses, got errors of masked patches; choose another"
            )
        try:
            self.finetuning()
        except ValueError as error:
            raise ValueError(f"in [finetune], {error}") from None
        if "epochs" not in table:  # a shorter schedule, which has fewer epochs, would fine-tune less too
            raise ValueError("finetune needs epochs of its own, got none; write [finetune] epochs = 20")

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def finetuning(self) -> Self:
        """The recipe of the second stage: all samples with their labels, from the weights of this one."""
        own = {"alignment": 0, "max_steps": None, "strategy": FullData(), "finetune": None}
        return self.model_copy(update={**(self.finetune or {}), **own})

    @property
    def label(self) -> str:
        """The label of the strategy in tables, with its settings."""
        return self.strategy.describe(self.epochs)

    @field_serializer("strategy")
    def _table(self, strategy: Strategy) -> dict[str, Any]:
        return to_table(strategy, epochs=self.epochs)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The recipe with some keys changed, checked as a new one (pydantic's own `model_copy` checks nothing).

        A strategy that has the epochs of the recipe gets its new ones.
        """
        changed = {**{name: getattr(self, name) for name in type(self).model_fields}, **(update or {})}
        if "strategy" not in (update or {}) and isinstance(changed["epochs"], int) and changed["epochs"] > 0:
            changed["strategy"] = self.strategy.for_epochs(changed["epochs"], instead_of=self.epochs)
        return type(self)(**changed)

    def to_toml(self) -> str:
        """The recipe as TOML: every key that is not None, and the strategy's settings that are not defaults."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    def write(self, path: str | PathLike[str]) -> None:
        """Writes `to_toml()` to a file; `load_recipe` reads an equal recipe back."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")


def load_recipe(path: str | PathLike[str], /, **overrides: Any) -> Recipe:
    """The recipe in a TOML file, with some keys replaced.

    Args:
        path: a TOML file; a key that is left out has its default. A file of release 0.1 is read too.
        **overrides: keys that replace the file's; None takes a key out of the recipe.

    Raises:
        ValueError: the file cannot be read or is not TOML, or the recipe is refused.
    """
    return Recipe(**{**read_recipe(path), **overrides})


def read_recipe(path: str | PathLike[str], /) -> dict[str, Any]:
    """The keys in a recipe's file, not checked; keys of release 0.1 are converted.

    Raises:
        ValueError: the file cannot be read or is not TOML.
    """
    return gathered(read_toml(Path(path), "a recipe", example=example(Recipe.model_fields["dataset"], "dataset")))


def gathered(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a recipe, with the flat strategy keys of release 0.1 moved into a table `strategy`.

    >>> gathered({"strategy": "ucb", "prune_ratio": 0.5, "per": "epoch", "settings": {"every": 1}, "seed": 3})
    {'seed': 3, 'strategy': {'name': 'ucb', 'prune_ratio': 0.5, 'every': 1}}
    """
    flat = {name: keys[name] for name in ("strategy", "settings", *_FLAT) if name in keys}
    name = flat.pop("strategy", OrderDP.name)
    own = flat.pop("settings", {})
    if not STRATEGY_KEYS & set(keys) or not (isinstance(name, str) and isinstance(own, Mapping)):
        return dict(keys)
    settings = {key: value for key, value in flat.items() if value != _FLAT[key]}
    others = {key: value for key, value in keys.items() if key not in STRATEGY_KEYS}
    return {**others, "strategy": {"name": name, **settings, **own}}


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the library, by name.

    >>> sorted(shipped_recipes())[:2]
    ['cifar10', 'cifar100_resnet18']
    """
    return {path.stem: path for path in (Path(__file__).parent / "recipes").glob("*.toml")}


def find_recipe(dataset: str, model: str | None = None) -> Path | None:
    """The shipped recipe for a data set and model, or else for the data set; None if there is none."""
    shipped = shipped_recipes()
    return shipped.get(f"{dataset}_{model}") or shipped.get(dataset)

"""What `orderdp coreset` is asked for: which static methods, of which proxies, at which prune ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w

from orderdp.coresets import Chooser, StaticMethod
from orderdp.coresets.quotas import Quotas
from orderdp.coresets.registry import from_settings
from orderdp.output.files import write_whole
from orderdp.output.subset_file import some
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml
from orderdp.strategies.registry import once, parse_setting
from orderdp.strategies.settings import short
from orderdp.theory.sizes import check_count, check_fraction, check_once
from orderdp.training.recipe import Recipe, load_recipe
from orderdp.training.run_folder import CORESET_PLAN

_FIRST_SEED = 10**6  # of proxies: a run must not start from the weights that its proxy started from
QUOTAS: dict[str, Quotas] = {"proportional": "proportional", "equal": "equal", "none": None}


@dataclass(frozen=True)
class Request:
    """A static method as it is asked for.

    Args:
        method: the method with its settings.
        epoch: epochs after which the proxy is asked; None is the last.
        scores: key of the method whose scores it chooses by, for methods that need scores.

    Raises:
        ValueError: an epoch for a method that needs no proxy, or scores that are missing or not needed.
    """

    method: StaticMethod
    epoch: int | None = None
    scores: str | None = None

    def __post_init__(self) -> None:
        name = self.method.name
        if self.epoch is not None and not self.needs_proxy:
            raise ValueError(f"epoch does not apply to static method '{name}', got {self.epoch}; leave epoch out")
        if self.epoch is not None and (isinstance(self.epoch, bool) or not isinstance(self.epoch, int)):
            raise ValueError(f"epoch must be a whole number, got {self.epoch!r}; write {name},epoch=2")
        if ("scores" in self.method.needs) != (self.scores is not None):
            advice = f"write {name},scores=el2n" if self.scores is None else "leave scores out"
            needs = "needs the scores of another method" if self.scores is None else "chooses by no scores"
            raise ValueError(f"static method '{name}' {needs}, got {self.scores}; {advice}")

    @classmethod
    def parse(cls, text: str) -> Request:
        """Returns a method given as NAME or NAME,SETTING=VALUE,... on the command line.

        `epoch` and `scores` are settings of the request, all others of the method.

        Raises:
            ValueError: no method of that name, or a setting that it does not take or refuses.
            TypeError: a setting of another type.

        >>> Request.parse("el2n,epoch=2").key
        'el2n-2'
        """
        name, *given = text.split(",")
        settings = once(map(parse_setting, given))
        epoch, scores = settings.pop("epoch", None), settings.pop("scores", None)
        return cls(from_settings(name, settings), epoch, scores)

    @property
    def needs_proxy(self) -> bool:
        """Whether the method reads anything of a proxy."""
        return bool(set(self.method.needs) - {"labels", "scores"})

    @property
    def chooses(self) -> bool:
        """Whether the method chooses samples together; otherwise it scores each one."""
        return isinstance(self.method, Chooser)

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of the method that are not at their defaults."""
        declared = fields(self.method)  # type: ignore[arg-type]
        found = {field.name: getattr(self.method, field.name) for field in declared}
        return {field.name: found[field.name] for field in declared if found[field.name] != field.default}

    @property
    def key(self) -> str:
        """Returns its name in files: of the method, the epoch, the scores and the settings."""
        asked = [str(part) for part in (self.epoch, self.scores) if part is not None]
        return "-".join([self.method.name, *asked, *(f"{name}-{value}" for name, value in self.settings.items())])

    def label(self, of: str | None = None) -> str:
        """Returns its name in tables, such as EL2N-2.

        Args:
            of: name in tables of the method whose scores it chooses by.
        """
        name = self.method.label if self.epoch is None else f"{self.method.label}-{self.epoch}"
        words = [] if self.scores is None else [f"of {of or self.scores}"]
        settings = [f"{name.replace('_', ' ')} {short(value)}" for name, value in self.settings.items()]
        return " ".join([name, *words, *settings])

    def table(self) -> dict[str, Any]:
        """Returns it in plain values, from which `of_table` makes it again."""
        asked = {"epoch": self.epoch, "scores": self.scores}
        given = {name: value for name, value in asked.items() if value is not None}
        return {"name": self.method.name, **given, **({"settings": self.settings} if self.settings else {})}

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Request:
        """Returns the request that `table` wrote."""
        return cls(from_settings(table["name"], table.get("settings", {})), table.get("epoch"), table.get("scores"))


@dataclass(frozen=True)
class CoresetPlan:
    """Everything that the scores and subsets of a data set depend on.

    Args:
        recipe: of the proxies; its seed is that of the first one.
        requests: the static methods.
        prune_ratios: fractions of the data to leave out.
        seeds: each has its own proxies, draws and subsets.
        proxies: how many proxies of each seed the scores are averaged over. Methods that choose samples together use
            the first. N proxies of a seed s have the seeds 10⁶ + N·s to 10⁶ + N·s + N - 1: no two seeds share
            one, and a run of seed s has other first weights than its proxies.
        quotas: "proportional", "equal" or "none", of the classes.
        validation: share of the training samples that is held out for the methods that need a validation set.
        home: folder of the proxies.
        data_sha256: digest of the training data, once it is known.

    Raises:
        ValueError, TypeError: a number out of range, no method, or two equal ones; scores of a method that is not
            asked for.
    """

    recipe: Recipe
    requests: tuple[Request, ...]
    prune_ratios: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    proxies: int = 1
    quotas: str = "proportional"
    validation: float = 0.0
    home: str = "runs/proxies"
    data_sha256: str = ""

    def __post_init__(self) -> None:
        check_count("proxies", self.proxies)
        check_fraction("validation", self.validation, low_open=False, high_open=True)
        if self.quotas not in QUOTAS:
            hint = did_you_mean(str(self.quotas), QUOTAS) or f"; choose from {', '.join(QUOTAS)}"
            raise ValueError(f"no quotas named {self.quotas!r}{hint}")
        for ratio in self.prune_ratios:
            check_fraction("prune_ratio", ratio, low_open=True, high_open=True)
        keys = [request.key for request in self.requests]
        for name, values in (("methods", keys), ("prune_ratio", self.prune_ratios), ("seed", self.seeds)):
            if not values:
                raise ValueError(f"{name} must be given, got none; write one at least")
            check_once(name, values)
        for seed in reversed(self.seeds):
            self.recipe.model_copy(update={"seed": seed})  # which refuses what is no seed
            object.__setattr__(self, "recipe", self.recipe_of_proxy(seed, 0))
        for request in self.requests:
            self._check_scores(request)

    def _check_scores(self, request: Request) -> None:
        scored = [other.key for other in self.requests if not other.chooses]
        if request.scores is None or request.scores in scored:
            return
        if request.scores in (other.key for other in self.requests):
            raise ValueError(
                f"{request.method.name} needs the scores of a method that scores, got {request.scores}; "
                f"write one of {some(scored)}"
            )
        hint = did_you_mean(request.scores, scored) or f"; add {request.scores} to the methods"
        raise ValueError(f"{request.method.name} needs the scores of a method asked for, got {request.scores}{hint}")

    def labels(self) -> dict[str, str]:
        """Returns key and name in tables of each method."""
        by_key = {request.key: request for request in self.requests}
        return {
            key: request.label(None if request.scores is None else by_key[request.scores].label())
            for key, request in by_key.items()
        }

    def in_order(self) -> list[Request]:
        """Returns the requests so that scores are there before a method needs them."""
        return sorted(self.requests, key=lambda request: request.scores is not None)

    def share_held_out(self, request: Request) -> float:
        """Returns the share of the training samples that a method must not keep."""
        if request.scores is not None:
            (source,) = (other for other in self.requests if other.key == request.scores)
            return max(self.share_held_out(source), self.validation if "validation" in request.method.needs else 0.0)
        return self.validation if "validation" in request.method.needs else 0.0

    def recipe_of_proxy(self, seed: int, number: int) -> Recipe:
        """Returns the recipe of one of the proxies of a seed, counted from 0.

        Raises:
            ValueError: the seed is too large.
        """
        return self.recipe.model_copy(update={"seed": _FIRST_SEED + seed * self.proxies + number})

    def num_proxies(self, request: Request) -> int:
        """Returns how many proxies a method reads."""
        return 0 if not request.needs_proxy else 1 if request.chooses else self.proxies

    def epochs_of_proxies(self, request: Request) -> int:
        """Returns how many epochs of proxies a method needs with a seed, all together; those of its scores included."""
        mine = self.num_proxies(request) * (self.recipe.epochs if request.epoch is None else request.epoch)
        sources = [other for other in self.requests if other.key == request.scores]
        return mine + sum(map(self.epochs_of_proxies, sources))

    def write(self, folder: Path) -> None:
        """Writes the plan into a folder; `load_plan` reads it back.

        Raises:
            OSError: a file cannot be written.
        """
        write_whole(folder / "recipe.toml", self.recipe.to_toml().encode())
        table = {
            **{field.name: getattr(self, field.name) for field in fields(self) if field.name not in _OF_OTHER_FORM},
            "prune_ratios": list(self.prune_ratios),
            "seeds": list(self.seeds),
            "methods": [request.table() for request in self.requests],
        }
        write_whole(folder / CORESET_PLAN, tomli_w.dumps(table).encode())


_OF_OTHER_FORM = ("recipe", "requests")


def load_plan(folder: Path, **changes: Any) -> CoresetPlan:
    """Returns the plan in a folder of `orderdp coreset`.

    Args:
        folder: the folder.
        **changes: keys of the recipe that replace the file's, such as `data_root`.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        table = read_toml(folder / CORESET_PLAN, "a plan", example="proxies = 1")
        requests = tuple(Request.of_table(request) for request in table.pop("methods"))
        ratios, seeds = (tuple(table.pop(name)) for name in ("prune_ratios", "seeds"))
        return CoresetPlan(load_recipe(folder / "recipe.toml", **changes), requests, ratios, seeds, **table)
    except (ValueError, KeyError, TypeError) as error:
        why = f" ({error})" if (folder / CORESET_PLAN).exists() else ""
        raise ValueError(
            f"the folder must be one of 'orderdp coreset', with recipe.toml and {CORESET_PLAN}, got {folder}{why}; "
            "write the folder of an earlier call"
        ) from None

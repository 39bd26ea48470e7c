"""The catalogue of studies: one row each.

A study that trains recipes is a TOML file in this folder, and its row follows from the file. A study of the theory
trains nothing and has a row in `THEORY`. One with a training loop of its own has a row in `LOOPS`. A custom study is
named by the path of its TOML file.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.output.files import write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.paper.exhibit import Shown
from orderdp.paper.study_file import SIZES, read_study


class Row(NamedTuple):
    """One study.

    Args:
        name: its name on the command line.
        shows: one line for a list.
        takes: how long it takes, by estimate: one duration, or one for each size.
        module: of `orderdp.paper`, which holds a function of the study's name; imported when the study runs. "" if the
            study has a file.
        file: TOML file of a study that trains recipes; None for others.
        smoke: whether a study without a file has a small form, of size smoke.
        asks: what a study without a file asks; "" if `shows` says it.
        dataset: data set that a study without a file reads in its full form; "" for none, or one without files.
    """

    name: str
    shows: str
    takes: str = ""
    module: str = ""
    file: Path | None = None
    smoke: bool = False
    asks: str = ""
    dataset: str = ""

    def stated(self, size: str) -> str:
        """Returns how long it takes at one size, by estimate; "" if nobody has said.

        >>> find_study("theorem1").stated("full")
        '1 min'
        """
        durations = [part.partition(" ")[::2] for part in self.takes.split(", ")]
        return dict(durations).get(size, "") if len(durations) > 1 else self.takes


def _theorem(name: str, shows: str, takes: str) -> Row:
    return Row(name, shows, takes, name, smoke=True)


THEORY = (
    Row("figure5", "n·γ against its limit as n grows", "2 s", "figures"),
    Row("figure6", "γ against uniform sampling, and the gap C_s", "2 s", "figures"),
    Row("figure7", "the shares of the training by rank as q grows", "2 s", "figures"),
    Row("figure8", "the sum of the shares, which is 1", "2 s", "figures"),
    Row("table10", "InfoBatch and OrderDP on five gradients, over every draw", "1 s", "table10"),
    _theorem("theorem1", "OrderDP's mean gradient against those of L_q and L, on digits", "smoke 5 s, full 1 min"),
    _theorem("theorem3", "the error after T steps against its bound, on convex problems", "smoke 5 s, full 2 min"),
    _theorem("theorem4", "the bias terms over a grid of sizes, on digits", "smoke 5 s, full 10 s"),
    _theorem("theorem4_sides", "the whole inequality, on softmax regression on digits", "smoke 5 s, full 1 min"),
)
LOOP_SIZES = SIZES[:2]  # smoke and cpu
LOOPS = (
    Row(
        "open_stream",
        "Streams: OrderDP on samples that cannot be asked for",
        "smoke 5 s, cpu 20 min",
        "open_stream",
        smoke=True,
        asks="Is OrderDP on a stream of Fashion-MNIST, seen once or a few times, better than stopping early, and than "
        "a random choice from it, at equal cost? Every forward pass that scores a sample is paid: a third of a "
        "training step.",
        dataset="fashion_mnist",
    ),
)


def catalogue() -> dict[str, Row]:
    """Returns the row of every study that comes with the library, by name, in the order of their numbers."""
    files = Path(__file__).parent.glob("*.toml")
    rows = [*THEORY, *LOOPS, *(_row_of(file) for file in files)]
    return {row.name: row for row in sorted(rows, key=_in_order)}


def _row_of(file: Path) -> Row:
    table = read_study(file)
    takes = table.get("takes", {})
    return Row(
        file.stem, table["title"], ", ".join(f"{size} {takes[size]}" for size in SIZES if size in takes), file=file
    )


def _in_order(row: Row) -> tuple[str, int]:
    kind = row.name.rstrip("0123456789")
    return kind, int(row.name[len(kind) :] or 0)


def find_study(name: str) -> Row:
    """Returns the row of a study: one by its name, or a custom one by the path of its TOML file.

    Raises:
        ValueError: no study of that name, or a file that cannot be read.
    """
    if name.endswith(".toml"):
        return _row_of(Path(name))
    rows = catalogue()
    if name not in rows:
        hint = did_you_mean(name, rows) or f"; choose from {', '.join(rows)}"
        raise ValueError(f"no study named {name!r}{hint}")
    return rows[name]


def run_computed(row: Row, folder: Path, size: str | None = None, **place: Any) -> list[Path]:
    """Runs a study without a file and writes what it shows into the folder, over what an earlier run left there.

    A study that trains has a file more, by its name: `origin_in` reads its size, commit, machine and date from it.

    Args:
        row: the study.
        folder: where to write.
        size: of `LOOP_SIZES`, for a loop of its own; None is the first of them. For the theory "smoke" is its small
            form, and None the full one.
        **place: `data_root` and `download` of its data set; not of its small form.

    Returns:
        The files written.

    Raises:
        ValueError: a size that the study does not have, or data of another content. OSError: a file cannot be read or
            written. ImportError: an extra is missing.
    """
    if row in LOOPS:
        size = size or LOOP_SIZES[0]
        if size not in LOOP_SIZES:
            hint = did_you_mean(size, LOOP_SIZES) or f"; choose from {', '.join(LOOP_SIZES)}"
            raise ValueError(f"no size named {size!r}{hint}")
    elif size is not None and (size != "smoke" or not row.smoke):
        others = "write smoke, or leave it out" if row.smoke else "leave it out"
        raise ValueError(f"study {row.name} {own_way(row)}, got size {size}; {others}")
    origin = _origin(size) if row in LOOPS else None
    written = compute(row, smoke=size == "smoke", **place).write(row.name, folder)
    if origin is not None:
        origin["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file = folder / f"{row.name}.json"
        write_whole(file, (json.dumps(origin, indent=2) + "\n").encode())
        written.append(file)
    return written


def _origin(size: str | None) -> dict[str, Any]:
    """Returns where numbers come from that are computed from now on."""
    import torch  # not needed to list the studies

    from orderdp.training.provenance import environment

    of = environment(torch.device("cpu"))
    return {"size": size, "finished": "", **{name: of[name] for name in ("commit", "device", "versions")}}


def origin_in(folder: Path, name: str) -> dict[str, Any]:
    """Returns where the numbers of a study without a file come from; nothing where that was not recorded.

    Raises:
        ValueError: a damaged file.
    """
    file = folder / f"{name}.json"
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"the origin of {name} must be in {file}, got a damaged file ({error}); delete it") from None


def own_way(row: Row) -> str:
    """Returns why a study without a file takes no settings of recipes."""
    return "has a loop of its own" if row in LOOPS else "trains nothing"


def compute(row: Row, *, smoke: bool = False, **place: Any) -> Shown:
    """Returns what a study without a file shows, in its small or its full form; `place` as of `run_computed`.

    Raises:
        ValueError, OSError: as `load_dataset`. ImportError: an extra is missing.
    """
    study = getattr(import_module(f"orderdp.paper.{row.module}"), row.name)
    shown: Shown = study(smoke=True) if smoke else study(**place)
    return shown

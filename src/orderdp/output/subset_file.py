"""The Parquet files of static pruning: scores of a data set, and subsets chosen from it.

`scores.parquet` has a row for each seed and sample: `seed`, `sample_id`, `row`, `label`, and one column for each method
that scores. `subsets.parquet` has a row for each sample that a method keeps with a seed at a prune ratio: `seed`,
`method`, `prune_ratio`, `sample_id`, `row`, `order` (its place in the order in which the method chose) and `weight`
(null if the method gives none). `sample_id` is the position among the training samples of the recipe, and `row` the one
in the whole training part of the data set; they differ if the recipe has a `train_size` or `held_out`. The metadata of
both files holds JSON under the key `orderdp`: the recipe, the seeds, the versions and the settings of every method.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from orderdp.output.files import write_whole

VERSION = 1
NOT_SCORES = ("seed", "sample_id", "row", "label")
_KEY = b"orderdp"
_FORMATS = {"scores": "orderdp scores", "subsets": "orderdp subsets"}


class Kept(NamedTuple):
    """The samples that a method keeps at one prune ratio.

    Args:
        ids: (k,) int64, positions in the data set, in the order in which they were chosen.
        weights: (k,) float32, or None.
    """

    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32] | None = None


class StoredMethod(NamedTuple):
    """The subsets of one method in a file.

    Args:
        key: its name in the file.
        label: its name in tables.
        num_samples: size of the data set.
        kept: seed, ascending, to the subset at each prune ratio, ascending.
        proxy_samples: samples that the proxies of a seed trained for it, counted once in each epoch.
    """

    key: str
    label: str
    num_samples: int
    kept: dict[int, dict[float, Kept]]
    proxy_samples: int = 0

    def sha256(self, seed: int) -> str:
        """Returns the digest of the subsets of a seed at all prune ratios."""
        found = hashlib.sha256()
        for ratio, (ids, weights) in sorted(self.kept[seed].items()):
            found.update(np.float64(ratio).tobytes() + ids.astype("<i8").tobytes())
            if weights is not None:
                found.update(weights.astype("<f4").tobytes())
        return found.hexdigest()


def write_scores(
    path: Path,
    tables: Sequence[Mapping[str, npt.NDArray[Any]]],
    about: Mapping[str, Any],
) -> None:
    """Writes the scores of a data set.

    Args:
        path: the file.
        tables: for each seed, name of a column to (n,), beginning with those of `NOT_SCORES`. NaN is written as null:
            no score.
        about: the metadata, of plain values.

    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow

    arrays = [
        {
            name: pyarrow.array(column, from_pandas=column.dtype.kind == "f")  # which writes NaN as null
            for name, column in columns.items()
        }
        for columns in tables
    ]
    _write(path, list(map(pyarrow.table, arrays)), "scores", about)


def write_subsets(
    path: Path,
    subsets: Mapping[str, Mapping[int, Mapping[float, Kept]]],
    about: Mapping[str, Any],
    rows: npt.NDArray[np.int64] | None = None,
) -> None:
    """Writes subsets of a data set.

    Args:
        path: the file.
        subsets: key of each method to seed to its subset at each prune ratio.
        about: the metadata, of plain values. `num_samples` is the size of the data set, and `methods` maps each key to
            a table with its `label`.
        rows: (n,) positions of the samples in the whole training part; None if they are all of it.

    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow

    tables = [
        pyarrow.table(
            {
                "seed": np.full(len(kept.ids), seed),
                "method": pyarrow.array([key] * len(kept.ids), pyarrow.string()),
                "prune_ratio": np.full(len(kept.ids), ratio),
                "sample_id": kept.ids,
                "row": kept.ids if rows is None else rows[kept.ids],
                "order": np.arange(len(kept.ids)),
                "weight": pyarrow.nulls(len(kept.ids), pyarrow.float32()) if kept.weights is None else kept.weights,
            }
        )
        for key, seeds in subsets.items()
        for seed, ratios in sorted(seeds.items())
        for ratio, kept in sorted(ratios.items())
    ]
    _write(path, tables, "subsets", about)


def read_scores(path: Path, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the (n,) scores of each method with a seed; NaN where a sample has none.

    Raises:
        ValueError: there is no such file, or it is another or damaged.
    """
    table = _read(path, ("seed", "==", seed))
    return {name: table[name].to_numpy() for name in table.column_names if name not in NOT_SCORES}


def read_about(path: Path) -> dict[str, Any]:
    """Returns the metadata of a file of subsets.

    Raises:
        ValueError: there is no such file, or it is another.
    """
    from pyarrow import ArrowException, parquet

    try:
        about: dict[str, Any] = json.loads((parquet.read_schema(path).metadata or {})[_KEY])
        if about["format"] != _FORMATS["subsets"] or about["version"] != VERSION:
            raise ValueError(f"{about['format']}, version {about['version']}")
    except (OSError, ValueError, KeyError, TypeError, ArrowException) as error:
        if isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)  # without what Arrow adds
        else:
            reason = "no metadata of orderdp" if isinstance(error, KeyError) else str(error).splitlines()[0]
        if path.is_dir():
            reason, cure = "a folder", f"write {path / 'subsets.parquet'}"
        elif isinstance(error, OSError) and error.errno:
            cure = "correct the path, or start orderdp in the folder that it leads from"
        else:
            cure = "write it again with 'orderdp coreset'"
        raise ValueError(
            f"file must be the subsets.parquet of 'orderdp coreset', got {path} ({reason}); {cure}"
        ) from None
    return about


def read_method(path: Path, key: str) -> StoredMethod:
    """Returns the subsets of one method.

    Args:
        path: a file of subsets.
        key: name of the method in it.

    Raises:
        ValueError: there is no such file, or it is another. KeyError: it does not hold the method.
    """
    about = read_about(path)
    label = about["methods"][key]["label"]
    table = _read(path, ("method", "==", key))
    seeds, ratios, ids, order = (table[name].to_numpy() for name in ("seed", "prune_ratio", "sample_id", "order"))
    weights = None if table["weight"].null_count else table["weight"].to_numpy()
    kept: dict[int, dict[float, Kept]] = {}
    for seed in np.unique(seeds).tolist():
        for ratio in np.unique(ratios).tolist():
            rows = np.flatnonzero((seeds == seed) & (ratios == ratio))
            rows = rows[np.argsort(order[rows])]
            kept.setdefault(seed, {})[ratio] = Kept(ids[rows], None if weights is None else weights[rows])
    return StoredMethod(key, label, about["num_samples"], kept, about["methods"][key].get("proxy_samples", 0))


def _read(path: Path, condition: tuple[str, str, object]) -> Any:
    """Returns the rows of a file that fulfil a condition, each page checked against its checksum.

    Raises:
        ValueError: the file is damaged.
    """
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_table(path, filters=[condition], page_checksum_verification=True)
    except (OSError, ValueError, ArrowException) as error:
        raise ValueError(
            f"file must be as 'orderdp coreset' wrote it, got {path}, which is missing or damaged "
            f"({str(error).splitlines()[0]}); write it again with 'orderdp coreset'"
        ) from None


def _write(path: Path, tables: Sequence[Any], kind: str, about: Mapping[str, Any]) -> None:
    """Writes tables below each other, each as a row group, so that a reader of a few skips the others."""
    from pyarrow import parquet

    metadata = {_KEY: json.dumps({"format": _FORMATS[kind], "version": VERSION, **about}, ensure_ascii=False).encode()}
    buffer = io.BytesIO()
    schema = tables[0].schema.with_metadata(metadata)
    with parquet.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(metadata))
    write_whole(path, buffer.getvalue())


def some(names: Sequence[str], most: int = 8) -> str:
    """Returns names for a message, the first of them if there are many.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"

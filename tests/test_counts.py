"""The counts of tools/counts.py, on made-up files."""

import pytest

from counts import import_circles, long_files, long_functions, main, table, tree
from sentences import ROOT

FROM_GIT = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository's history")


def package(**texts):
    """Files of a made-up package; `__` in a name stands for a folder."""
    paths = {name: f"src/house/{name.replace('__', '/')}.py" for name in texts}
    return {"src/house/__init__.py": "", **{paths[name]: text for name, text in texts.items()}}


@pytest.mark.parametrize(
    "back",
    [
        "from house.a import A",
        "from house import a",
        "import house.a",
        "if TYPE_CHECKING:\n    from house.a import A",
        "def f():\n    from house.a import A",
    ],
)
def test_a_circle_is_found_however_it_is_imported(back):
    texts = package(a="from house.rooms.b import B", rooms__b="from house.c import C", c=back, d="import house.a")
    assert import_circles(texts) == [["src/house/a.py", "src/house/c.py", "src/house/rooms/b.py"]]


def test_imports_one_way_are_no_circle():
    texts = package(a="from house.b import B\nfrom house.c import C", b="from house.c import C", c="import json")
    assert import_circles(texts) == []


def test_two_circles_are_two():
    texts = package(a="import house.b", b="import house.a", c="import house.d, house.a", d="import house.c")
    assert len(import_circles(texts)) == 2


def test_a_long_file_is_found():
    assert long_files(package(a="x\n" * 4, b="x\n" * 3), 3) == ["src/house/a.py: 4 lines"]


def test_the_docstring_of_a_function_does_not_count_and_its_comments_do():
    text = 'class A:\n    def f(self):\n        """One.\n\n        Two."""\n        # three\n        return 3\n'
    assert long_functions(package(a=text), 3) == []
    assert long_functions(package(a=text), 2) == ["src/house/a.py:2: f has 3 lines"]


def test_the_table_has_a_column_a_commit_and_an_empty_cell_for_what_is_not_there():
    columns = {"old": {"circles": "1", "files in orderdp/b": "2"}, "new": {"circles": "0", "files in orderdp/a": "10"}}
    assert table(columns).splitlines() == [
        "|                    | old | new |",
        "| ------------------ | --: | --: |",
        "| circles            |   1 |   0 |",
        "| files in orderdp/a |     |  10 |",
        "| files in orderdp/b |   2 |     |",
    ]


def test_the_tree_shows_folders_first_and_the_first_line_of_each_docstring():
    texts = package(a='"""An A.\n\nMore.\n"""', rooms__b='"""A B."""', rooms__c="")
    assert [line.split(maxsplit=1) for line in tree(texts)] == [
        ["house/"],
        ["rooms/"],
        ["b.py", "A B."],
        ["c.py"],
        ["__init__.py"],
        ["a.py", "An A."],
    ]


@FROM_GIT
def test_the_present_commit_is_counted(capsys):
    assert main(["HEAD"]) == 0
    rows = dict(line.strip("| ").split("|")[:2] for line in capsys.readouterr().out.splitlines()[2:])
    numbers = {name.strip(): float(value.replace(",", "")) for name, value in rows.items()}
    assert numbers["test files"] > 50
    assert numbers["files in orderdp/strategies"] >= 15
    assert 2 < numbers["files to touch for a new strategy"] < 15
    assert 8 < numbers["words a sentence, README and docs"] < 21


@FROM_GIT
def test_the_tree_of_the_present_commit_is_printed(capsys):
    assert main(["--tree"]) == 0
    assert "\n    pruner.py " in capsys.readouterr().out


@FROM_GIT
def test_an_unknown_commit_is_refused():
    with pytest.raises(SystemExit, match="no-such-commit"):
        main(["no-such-commit"])

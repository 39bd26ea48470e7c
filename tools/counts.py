"""Counts the structure of the repository at some commits, side by side, and prints the tree of the package.

    python tools/counts.py d7287e3 HEAD      # a column a commit; needs no checkout
    python tools/counts.py --tree            # src/orderdp of HEAD, a line a file: the first line of its docstring
    python tools/counts.py --tree d7287e3

An import circle is a group of files that import each other, also for type checking only. The lines of a function run
from `def` to its end, without its docstring.

The files to touch for a new strategy are its own and all that name each of SeTa, SelectiveBackprop, RepeatedRandom and
Kakurenbo, by class or registry name. A file that names them all is a list to which a new one must be added. The files
to touch for a new diagnostic are its own and all that name both the Jaccard similarity and the gradient norm. Results,
findings and the changelog do not count.
"""

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from sentences import documents, git, in_document, mean_words

PACKAGE = "src/orderdp"
FILE_LINES, FUNCTION_LINES = 400, 60
STRATEGIES = ("seta", "selective_?backprop", "repeated_?random", "kakurenbo")
DIAGNOSTICS = ("jaccard", "gradient[_ ]?norm")
NO_LISTS = (":!results", ":!docs/findings*", ":!findings", ":!CHANGELOG.md", ":!tools")


def import_circles(texts: dict[str, str]) -> list[list[str]]:
    """Groups of files of a package that import each other in a circle.

    Args:
        texts: path of each file under src to its text.
    """
    modules = {_module(path): path for path in texts}
    imports = {path: _imports(text, modules) - {path} for path, text in texts.items()}
    reached = {path: _reached(path, imports) for path in texts}
    circles = {tuple(sorted(other for other in reached[path] if path in reached[other])) for path in texts}
    return sorted(list(circle) for circle in circles if len(circle) > 1)


def long_files(texts: dict[str, str], limit: int = FILE_LINES) -> list[str]:
    """Files of more lines than the limit, each with its number of lines."""
    lengths = {path: len(text.splitlines()) for path, text in texts.items()}
    return [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > limit]


def long_functions(texts: dict[str, str], limit: int = FUNCTION_LINES) -> list[str]:
    """Functions of more lines than the limit, without their docstrings, each with its number of lines."""
    found = []
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) is not None else 0)
                if lines > limit:
                    found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    return found


def counts(commit: str) -> dict[str, str]:
    """What is counted at a commit, as printed."""
    texts = documents(commit, ("src",), ".py")
    folders = Counter(str(PurePosixPath(path).parent.relative_to("src")) for path in texts)
    results = [line.split(maxsplit=4) for line in git("ls-tree", "-r", "-l", commit, "results/").splitlines()]
    markdown = documents(commit)
    sentences = [sentence for path, text in markdown.items() for sentence in in_document(text, path)]
    files = git("ls-tree", "-r", "--name-only", commit).splitlines()
    return {
        "import circles in src": str(len(import_circles(texts))),
        f"files in src over {FILE_LINES} lines": str(len(long_files(texts))),
        f"functions in src over {FUNCTION_LINES} lines": str(len(long_functions(texts))),
        "files to touch for a new strategy": str(1 + len(_naming(commit, STRATEGIES))),
        "files to touch for a new diagnostic": str(1 + len(_naming(commit, DIAGNOSTICS))),
        "committed files in results": f"{len(results):,}",
        "bytes in results": f"{sum(int(line[3]) for line in results):,}",
        "examples": str(sum(path.startswith("examples/") and path.endswith(".py") for path in files)),
        "words a sentence, README and docs": f"{mean_words(sentences):.1f}",
        "longest sentence, words": str(max(sentence.words for sentence in sentences)),
        "test files": str(sum(_is_test(path) for path in files)),
        "files in src": str(len(texts)),
        **{f"files in {folder}": str(number) for folder, number in sorted(folders.items())},
    }


def table(columns: dict[str, dict[str, str]]) -> str:
    """A Markdown table of the counts of each commit; an empty cell if a commit has no such folder."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    common = [name for name in names if not name.startswith("files in orderdp")]
    rows = [*common, *sorted(set(names) - set(common))]
    lines = [["", *columns], *([name, *(column.get(name, "") for column in columns.values())] for name in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns) + 1)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in aligned)


def tree(texts: dict[str, str]) -> Iterator[str]:
    """Lines of the tree of the package, each file with the first line of its docstring."""
    width = max(len(PurePosixPath(path).name) + 4 * path.count("/") for path in texts)
    shown = set[str]()
    for path in sorted(texts, key=lambda path: [(part.endswith(".py"), part) for part in path.split("/")]):
        *folders, name = path.removeprefix("src/").split("/")
        for depth, folder in enumerate(folders):
            place = "/".join(folders[: depth + 1])
            if place not in shown:
                shown.add(place)
                yield f"{'    ' * depth}{folder}/"
        summary = (ast.get_docstring(ast.parse(texts[path])) or "").partition("\n")[0]
        yield f"{'    ' * len(folders)}{name}".ljust(width) + f"  {summary}".rstrip()


def _module(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(text: str, modules: dict[str, str]) -> set[str]:
    """The files that a text imports, at any depth."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in modules else node.module for name in full]
    return {modules[name] for name in names if name in modules}


def _reached(start: str, imports: dict[str, set[str]]) -> set[str]:
    """All files that one imports, directly or through others."""
    found, todo = set[str](), [start]
    while todo:
        new = imports[todo.pop()] - found
        found |= new
        todo += new
    return found


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _is_test(path: str) -> bool:
    return path.startswith("tests/") and PurePosixPath(path).match("test_*.py")


def _naming(commit: str, patterns: tuple[str, ...]) -> list[str]:
    """Files of a commit that match each of the patterns."""
    each = [word for pattern in patterns for word in ("-e", pattern)]
    arguments = ["grep", "-l", "-i", "-E", "--all-match", *each, commit, "--", ".", *NO_LISTS]
    return git(*arguments).splitlines()


def main(arguments: list[str] | None = None) -> int:
    """Prints the table or the tree."""
    parser = argparse.ArgumentParser(description="Count the structure of the repository at some commits.")
    parser.add_argument("commits", nargs="*", default=["HEAD"], help="commits, a column each; default HEAD")
    parser.add_argument("--tree", action="store_true", help="print the tree of the package instead")
    chosen = parser.parse_args(arguments)
    for commit in chosen.commits if chosen.tree else ():
        print("\n".join(tree(documents(commit, (PACKAGE,), ".py"))))
    if not chosen.tree:
        print(table({commit: counts(commit) for commit in chosen.commits}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

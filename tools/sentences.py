"""Counts the words of each sentence in README.md and docs.

    python tools/sentences.py                     # this tree; exits 1 if the text breaks the rule
    python tools/sentences.py docs/theory.md      # some files or folders
    python tools/sentences.py --commit d7287e3    # any commit, without a checkout
    python tools/sentences.py --docstrings        # the same count over the docstrings in src; report only

The rule: the mean over all sentences is at most 16 words, and no sentence has more than 40.

A sentence ends at `.`, `!` or `?` before a space, and at the end of its paragraph. A list item is one sentence, even
with several full stops, so that a list cannot hide long text. A decimal point, a file name, a URL and an abbreviation
such as "e.g." end nothing. A word stands between spaces and holds a letter or a digit; inline code is one word.
Headings, tables, code blocks, images and comments do not count. By this rule README.md and docs had a mean of 21.0
words at commit d7287e3.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEAN, LONGEST = 16, 40
DOCUMENTS = ("README.md", "docs")

ABBREVIATIONS = {"al", "approx", "cf", "e.g", "eq", "fig", "i.e", "no", "resp", "vs"}
END = re.compile(r"""(?<=[^\s.!?])[.!?]+["'”’)\]]*(?=\s|$)""")
MARKER = re.compile(r"([-*+]|\d+[.)])\s+")
# Syntax for MkDocs only: headings of admonitions and tabs, API directives, snippets, link definitions, HTML tags.
DIRECTIVE = re.compile(r"""(!!!|\?\?\?|===|--8<--|:::|\[[^\]]+\]:\s|!\[.*\)$|</?\w)""")
SECTION = re.compile(r"(Args|Attributes|Examples?|Raises|Returns|Yields|Note|Warning)s?:$")


@dataclass(frozen=True)
class Block:
    """A paragraph or a list item, and the line where it begins."""

    text: str
    line: int
    is_item: bool


@dataclass(frozen=True)
class Sentence:
    """One sentence and the place where it begins."""

    text: str
    path: str
    line: int

    @property
    def words(self) -> int:
        """Number of words."""
        return len(re.findall(r"\S*\w\S*", self.text))


def in_document(text: str, path: str) -> list[Sentence]:
    """The sentences of a Markdown text."""
    return [sentence for block in _blocks(text) for sentence in _in_block(block, path)]


def in_docstrings(source: str, path: str) -> list[Sentence]:
    """The sentences of all docstrings of a Python file; an entry under "Args:" is a list item."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is not None:
            first = node.body[0].lineno
            found += [
                Sentence(item.text, path, first + item.line - 1) for item in in_document(_as_markdown(text), path)
            ]
    return found


def documents(commit: str | None = None, names: tuple[str, ...] = DOCUMENTS, suffix: str = ".md") -> dict[str, str]:
    """The text of each file of that suffix among these files and folders, in this tree or in a commit."""
    if commit is not None:
        listed = git("ls-tree", "-r", "--name-only", commit, "--", *names).split("\n")
        return {path: git("show", f"{commit}:{path}") for path in listed if path.endswith(suffix)}
    paths = []
    for name in names:
        place = ROOT / name
        paths += sorted(place.rglob(f"*{suffix}")) if place.is_dir() else [place]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def git(*arguments: str) -> str:
    """What git prints; ends the script with git's message if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode > 1:  # 1: grep found nothing
        raise SystemExit(done.stderr.strip())
    return done.stdout


def mean_words(sentences: list[Sentence]) -> float:
    """Mean number of words of a sentence."""
    return sum(sentence.words for sentence in sentences) / len(sentences) if sentences else 0.0


def broken_rules(sentences: list[Sentence]) -> list[str]:
    """What breaks the rule, one line each."""
    mean = mean_words(sentences)
    broken = [f"the mean is {mean:.1f} words, above {MEAN}"] if mean > MEAN else []
    return broken + [
        f"{sentence.path}:{sentence.line}: {sentence.words} words: {' '.join(sentence.text.split())}"
        for sentence in sentences
        if sentence.words > LONGEST
    ]


def _blocks(text: str) -> Iterator[Block]:
    """Paragraphs and list items, without all that does not count."""
    fence, api, lines, begun, is_item = "", False, list[str](), 0, False
    for number, line in enumerate([*_without_comments(text).split("\n"), ""], 1):
        stripped = line.strip()
        opens = re.match(r"```+|~~~+", stripped)
        code = bool(fence or opens)
        if opens and (not fence or stripped == fence):
            fence = "" if fence else opens[0]
        api = stripped.startswith(":::") or (api and (not stripped or line.startswith(" ")))
        skipped = code or api or not stripped or stripped[0] in "|#" or DIRECTIVE.match(stripped)
        marker = MARKER.match(stripped)
        if (skipped or marker) and lines:
            yield Block("\n".join(lines), begun, is_item)
            lines = []
        if not skipped:
            begun, is_item = (begun, is_item) if lines else (number, marker is not None)
            lines.append(stripped[marker.end() :] if marker else stripped.lstrip("> "))


def _without_comments(text: str) -> str:
    """The text without HTML comments and front matter, on as many lines."""
    text = re.sub(r"\A---\n.*?\n---\n", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)


def _in_block(block: Block, path: str) -> Iterator[Sentence]:
    plain = re.sub(r"(`+).+?\1", lambda found: "code" + "\n" * found[0].count("\n"), block.text, flags=re.DOTALL)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)  # of a link the text remains
    plain = re.sub(r"[*]+|\b_|_\b", "", plain)
    begin = 0
    for end in [*(found.end() for found in END.finditer(plain) if not block.is_item), len(plain)]:
        text = plain[begin:end]
        last = re.sub(r"\W+$", "", text.split()[-1]).lstrip("(").lower() if text.strip() else ""
        if last in ABBREVIATIONS and end < len(plain):
            continue
        if re.search(r"\w", text):
            yield Sentence(text.strip(), path, block.line + plain.count("\n", 0, end - len(text.lstrip())))
        begin = end


def _as_markdown(docstring: str) -> str:
    """A docstring on as many lines, its examples blank and the entries of its sections as list items."""
    lines, section, entry, example = list[str](), False, "", False
    for line in docstring.split("\n"):
        stripped, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        example = stripped.startswith(">>>") or (example and bool(stripped))
        if SECTION.match(stripped):
            section, entry, line = True, "", ""
        elif section and stripped and not indent:
            section = False
        elif section and stripped and (not entry or indent == entry):
            entry = indent
            line = "- " + re.sub(r"^[\w.*, `]+( \(.*?\))?: ", "", stripped)
        lines.append("" if example else line)
    return "\n".join(lines)


def _report(found: dict[str, list[Sentence]]) -> None:
    print(f"{'sentences':>9}  {'mean':>5}  longest")
    rows = [*found.items(), ("all", [sentence for sentences in found.values() for sentence in sentences])]
    for path, sentences in rows:
        if sentences:
            longest = max(sentences, key=lambda sentence: sentence.words)
            place = f"{longest.words} words at {longest.path}:{longest.line}"
            print(
                f"{len(sentences):9}  {mean_words(sentences):5.1f}  {place}" + (f"  ({path})" if path == "all" else "")
            )


def main(arguments: list[str] | None = None) -> int:
    """Prints the counts of each file and of all; returns 1 if a document breaks the rule."""
    parser = argparse.ArgumentParser(description="Count the words of each sentence in README.md and docs.")
    parser.add_argument("paths", nargs="*", help="files and folders, from the root of the repository")
    parser.add_argument("--commit", help="read them from this commit instead of the working tree")
    parser.add_argument("--docstrings", action="store_true", help="count the docstrings in src; never fails")
    chosen = parser.parse_args(arguments)
    if chosen.docstrings:
        texts = documents(chosen.commit, tuple(chosen.paths) or ("src",), ".py")
        _report({path: in_docstrings(text, path) for path, text in texts.items()})
        return 0
    texts = documents(chosen.commit, tuple(chosen.paths) or DOCUMENTS)
    found = {path: in_document(text, path) for path, text in texts.items()}
    _report(found)
    broken = broken_rules([sentence for sentences in found.values() for sentence in sentences])
    print("".join(f"{line}\n" for line in broken), end="")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

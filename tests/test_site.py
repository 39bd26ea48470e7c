"""README, the pages of the site and the reference hold what the code and the results hold."""

import contextlib
import copy
import doctest
import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import orderdp
import orderdp.diagnostics
import orderdp.testing
from orderdp.cli.parser import COMMANDS, make_parser
from orderdp.paper.studies import catalogue
from orderdp.report.tables_file import table_in

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/orderdp/orderdp"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
DOCUMENTS = {
    "README.md": README,
    "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    **{f"docs/{name}": text for name, text in PAGES.items()},
}


def rows_of(table):
    """The rows of a Markdown table, each a list of cells."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def table_of(path, name):
    """A table of a file under results/, by its name."""
    return table_in((ROOT / path).read_text(encoding="utf-8"), name)


def row_of(table, method):
    (row,) = [row for row in rows_of(table) if row[0] == method]
    return row


def test_each_number_of_the_readme_is_in_the_table_that_its_row_links_to():
    header, _, *rows = rows_of(README.partition("## What it saves")[2].partition("\n## ")[0])
    assert header[0] == "OrderDP minus full data"
    assert len(rows) == 2
    for label, *cells in rows:
        ((path, name),) = re.findall(rf"\({REPOSITORY}/blob/main/(results/\S+\.md)#(\w+-against_full)\)", label)
        table = table_of(path, name)
        assert ("fashion_mnist-" in name, "cifar10-" in name) == ("Fashion-MNIST" in label, "CIFAR-10" in label)
        ratios = rows_of(table)[0]
        for ratio, cell in zip(header[1:], cells, strict=True):
            recorded = row_of(table, "OrderDP")[ratios.index(ratio.removesuffix(" pruned"))]
            assert re.match(r"\S+ \[[^\]]+\]", recorded)[0] == cell, (path, ratio)


@pytest.mark.parametrize("document", ["README.md", "docs/choose.md", "docs/faq.md"])
def test_each_number_of_two_decimals_is_in_a_table_of_results(document):
    tables = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "results").rglob("*.md"))
    numbers = re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", DOCUMENTS[document])
    assert numbers
    assert [number for number in numbers if number not in tables] == []


def test_at_70_percent_orderdp_never_matched_full_data_on_images():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "results").rglob("tables.md")]
    texts = [text for text in texts if not re.search(r"seeds \d+(, \d+)?$", text, flags=re.MULTILINE)]  # of 3 or more
    named = [(text, name) for text in texts for name in re.findall(r'<a id="(\S*against_full)">', text)]
    named = [(text, name) for text, name in named if not name.startswith("sst2")]  # texts
    upper_ends = []
    for text, name in named:
        header, _, *rows = rows_of(table_in(text, name))
        if "70 %" in header:
            cells = [row[header.index("70 %")] for row in rows if row[0].startswith("OrderDP")]
            ends = [re.search(r", ([+−][\d.]+)\]", cell) for cell in cells]  # a cell may be empty
            upper_ends += [float(end[1].replace("−", "-")) for end in ends if end]
    assert len(upper_ends) >= 6
    assert max(upper_ends) < 0


def test_the_readme_is_short_and_its_links_are_absolute_for_the_package_index():
    words = re.sub(r"\]\([^)]*\)", "]", README).split()
    assert len(words) <= 900
    assert re.findall(r"\]\((?!https://)[^)]*\)", README) == []
    for path in ("pyproject.toml", "docs/conf.py", "CITATION.cff"):
        assert f'"{REPOSITORY}"' in (ROOT / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_the_repository_lead_somewhere(document):
    base = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#\s]+)", DOCUMENTS[document]):
        if target.startswith(REPOSITORY):
            kind, branch, path = target.removeprefix(f"{REPOSITORY}/").split("/", 2)
            assert branch == "main", target
            assert (ROOT / path).is_dir() if kind == "tree" else (ROOT / path).is_file(), target
        elif "://" not in target:
            assert (base / target).exists(), target


def test_the_navigation_names_every_page_once():
    listed = re.findall(
        r"^[\w./-]+$", "\n".join(re.findall(r"```{toctree}(.*?)```", PAGES["index.md"], re.DOTALL)), re.M
    )
    assert sorted([*listed, "index"]) == sorted(name.removesuffix(".md") for name in PAGES)


def public_names():
    modules = (orderdp, orderdp.theory, orderdp.coresets, orderdp.diagnostics)
    names = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}
    functions = inspect.getmembers(orderdp.testing, inspect.isfunction)
    own = {name for name, function in functions if function.__module__ == "orderdp.testing" and name[0] != "_"}
    return names | {f"orderdp.testing.{name}" for name in own}


def test_every_public_name_has_an_entry_in_the_reference():
    described = set()
    for name, text in PAGES.items():
        if name.startswith("reference/"):
            for module in re.findall(r"^<!-- reference: ([\w.]+) -->$", text, flags=re.MULTILINE):
                home = "orderdp" if module == "orderdp.strategies.registry" else module
                described |= {f"{home}.{name}" for name in import_module(module).__all__}
            module = ""
            for directive, target in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)$", text, flags=re.MULTILINE):
                if directive == "currentmodule":
                    module = target
                elif directive != "autosummary":
                    described.add(target if target.startswith("orderdp.") else f"{module}.{target}")
    assert public_names() - described == set()
    assert described - public_names() == {
        "orderdp.loader.PrunedLoader",
        "orderdp.sharded.ShardedPruner",
        "orderdp.stream.StreamPruner",
        "orderdp.stream.StreamReport",
        "orderdp.data.TokenWindows",
    }


def test_each_summary_lists_what_its_page_describes():
    for name, text in PAGES.items():
        if ".. autosummary::" in text:
            listed = re.findall(r"^   ([\w.]+)$", text.partition(".. autosummary::")[2], flags=re.MULTILINE)
            described = re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)$", text, flags=re.MULTILINE)
            assert listed == [re.sub(r"^orderdp\.", "", target) for target in described], name


def commands(text):
    """The `orderdp` commands in the code blocks of a document, as lists of words."""
    for language, block in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in [] if language else block.replace("\\\n", " ").splitlines():
            if line.startswith("orderdp ") and "$" not in line:
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_the_documents_is_understood(document, capsys):
    for words in commands(DOCUMENTS[document]):
        with contextlib.suppress(SystemExit):
            make_parser(words).parse_args(words)
        assert capsys.readouterr().err == "", words


def test_the_commands_of_the_documents_are_found():
    assert sum(len(list(commands(text))) for text in DOCUMENTS.values()) > 25


def test_the_reference_of_the_command_line_has_every_command():
    text = PAGES["command-line.md"]
    assert set(re.findall(r"^<!-- help: (\w+) -->$", text, flags=re.MULTILINE)) == set(COMMANDS)
    assert set(re.findall(r"^\| `orderdp (\w+)` \|", text, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_page_of_the_paper_names_every_study():
    rows = "\n".join(re.findall(r"^\|.*", PAGES["reproduce.md"], flags=re.MULTILINE))
    named = re.findall(r"`((?:table|figure|theorem)\d+(?:_sides)?|appendix_d6|worth|open_\w+)`", rows)
    assert sorted(named) == sorted(catalogue())


@pytest.mark.parametrize("page", ["training-loop.md", "resume.md", "datasets.md", "coresets.md"])
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    rng = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3)
    first_weights = copy.deepcopy(model.state_dict())
    names = {
        "model": model,
        "train_set": TensorDataset(torch.randn(200, 4, generator=rng), torch.randint(3, (200,), generator=rng)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "epochs": 3,
        "path": tmp_path / "state.pt",
        "__name__": "page",
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)
    if page == "resume.md":
        whole = names["build"]()
        model.load_state_dict(first_weights)
        assert names["rest"] == names["train"](*whole, epochs=3)[5:]


@pytest.mark.parametrize("page", ["short-runs.md", "plan.md"])
def test_every_line_of_code_on_a_page_gives_what_it_says(page):
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert (failed, tried > 3) == (0, True)


def test_the_short_runs_page_says_what_the_planner_prints(capsys):
    from orderdp.cli import main

    (command,) = commands(PAGES["short-runs.md"])
    assert main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "OrderDP(explore=0.74008, exploit=0.40536): 3 epochs never train 10.4 %" in printed
    assert "OrderDP(explore=0.74008, exploit=0.40536)" in PAGES["short-runs.md"]
    assert "10.4 %" in PAGES["short-runs.md"]
    assert f"{1 - 354 * 128 / 50_000:.1%}" == "9.4%"


def test_the_citation_names_the_paper_as_the_readme_does():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    families = re.findall(r"family-names: (\w+)\n\s+given-names: (\w+)", citation)
    (entry,) = re.findall(r"```bibtex\n(.*?)\n```", README, flags=re.DOTALL)
    assert entry == orderdp.citation(orderdp.OrderDP()).partition("\n\n")[0]
    assert f"author = {{{' and '.join(f'{family}, {given}' for family, given in families)}}}" in entry
    (title,) = re.findall(r"preferred-citation:.*?title: \"(.*?)\"", citation, flags=re.DOTALL)
    assert f"title = {{{title}}}" in entry.replace("{OrderDP}", "OrderDP")
    (number,) = re.findall(r"eprint = \{(.*)\}", entry)
    assert citation.count(number) == 2


def test_the_modules_that_users_of_0_1_are_sent_to_exist():
    table = PAGES["from-0.1.md"].partition("## Modules")[2].partition("\n## ")[0]
    rows = rows_of(table)[2:]
    assert len(rows) > 15
    for old, new in rows:
        olds, news = (re.findall(r"`([\w.]+)`", cell) for cell in (old, new.partition(";")[0]))
        same = new.startswith("the same names in")
        for name in [f"{news[0]}.{name.rpartition('.')[2]}" for name in olds] if same else news:
            assert find_spec(f"orderdp.{name}"), name


def test_the_guide_for_contributors_names_what_there_is():
    named = re.findall(r"`((?:src|tests|docs)/[\w/.]+)`", DOCUMENTS["CONTRIBUTING.md"])
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_the_network(tmp_path):
    pytest.importorskip("sphinx")
    flags = ["--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", str(tmp_path / "doctrees")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, str(DOCS), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert len(pages) > 20
    for path, text in pages.items():
        assert re.findall(r"<(?:script|img|iframe)[^>]*src=\"(?:https?:)?//[^\"]*", text) == [], path
        assert re.findall(r"<link[^>]*rel=\"stylesheet\"[^>]*href=\"(?:https?:)?//[^\"]*", text) == [], path
    assert "--num-samples N" in (tmp_path / "site" / "command-line.html").read_text(encoding="utf-8")
    assert '<a class="reference internal" href="strategies.html"' in pages[tmp_path / "site" / "index.html"]

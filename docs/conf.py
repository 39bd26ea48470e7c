"""The documentation site, built by `make docs` with warnings as errors.

Sphinx rather than MkDocs: it is maintained (Material for MkDocs ends in May 2027) and reads docstrings by import. The
theme, Furo, loads nothing from the network. The pages are Markdown that also reads well on GitHub. What differs on the
site is done here:

- A link to a file outside `docs` becomes a link to the repository.
- README.md, CONTRIBUTING.md and CHANGELOG.md become pages, with their links to `docs` made relative.
- `<!-- help: COMMAND -->` becomes the help text of that command.
- `<!-- reference: MODULE -->` becomes the entries of all public names of that module.
- The build warns of every public name that the reference does not describe.
"""

import contextlib
import inspect
import io
import os
import re
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import orderdp
import orderdp.coresets
import orderdp.diagnostics
import orderdp.testing
from orderdp.cli import main

logger = logging.getLogger(__name__)

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
REPOSITORY = "https://github.com/orderdp/orderdp"
# Pages of the site that are files in the root of the repository.
ROOT_PAGES = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}

project = "orderdp"
author = "The orderdp maintainers"
copyright = author
version = release = orderdp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
default_role = "py:obj"
smartquotes_action = "D"  # dashes; quotes stay as they are written
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_numpy_docstring = False
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"orderdp {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["view"],
}


def public_names() -> set[str]:
    """Returns every name that the reference must describe."""
    modules = (orderdp, orderdp.theory, orderdp.coresets, orderdp.diagnostics)
    names = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}
    own = inspect.getmembers(orderdp.testing, inspect.isfunction)
    return names | {
        f"orderdp.testing.{name}"
        for name, function in own
        if function.__module__ == "orderdp.testing" and not name.startswith("_")
    }


def check_reference(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns of public names without an entry in the reference."""
    for name in sorted(public_names() - set(env.domaindata["py"]["objects"])):
        logger.warning("%s is public but has no page; add it to a file in docs/reference", name)


def help_text(command: str) -> str:
    """Returns what `orderdp COMMAND --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return printed.getvalue().strip()


def entries(module: str) -> str:
    """Returns a summary of the public names of a module and an entry for each."""
    names = import_module(module).__all__
    home = "orderdp" if module == "orderdp.strategies.registry" else module
    described = [f".. currentmodule:: {home}", "", ".. autosummary::", "   :nosignatures:", ""]
    described += [f"   {name}" for name in names]
    for name in names:
        value = getattr(import_module(home), name)
        described += ["", f".. {'autoclass' if inspect.isclass(value) else 'autofunction'}:: {name}"]
        if inspect.isclass(value) and issubclass(value, orderdp.Strategy | orderdp.coresets.StaticMethod):
            own = [key for key in vars(value) if key[0] != "_" and not hasattr(orderdp.Strategy, key)]
            described += [f"   :members: {', '.join(key for key in own if callable(getattr(value, key)))}"]
    return "\n".join(["```{eval-rst}", *described, "```"])


def rewrite_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turns the Markdown of the repository into that of the site."""
    page = DOCS / f"{docname}.md"
    text = source[0]
    if docname in ROOT_PAGES:
        text += (ROOT / ROOT_PAGES[docname]).read_text(encoding="utf-8")
        text = re.sub(rf"\]\({REPOSITORY}/(?:blob|tree)/main/", "](", text)
        page = ROOT / ROOT_PAGES[docname]
    text = re.sub(r"(?<!!)(\[[^\]]*\])\(([^)#:\s]+)(#[^)]*)?\)", lambda link: _link(link, page, docname), text)
    text = re.sub(r"<!-- help: (\w+) -->", lambda asked: f"```text\n{help_text(asked[1])}\n```", text)
    source[0] = re.sub(r"<!-- reference: ([\w.]+) -->", lambda asked: entries(asked[1]), text)


def _link(link: re.Match[str], page: Path, docname: str) -> str:
    """Returns a link as the site has it: to another page, or to the repository where its target is no page."""
    text, target, anchor = link[1], link[2], link[3] or ""
    path = (page.parent / target).resolve()
    if not path.exists():
        logger.warning("the link %s leads nowhere", target, location=docname)
        return link[0]
    on_site = {(ROOT / name).resolve(): DOCS / f"{name_on_site}.md" for name_on_site, name in ROOT_PAGES.items()}
    path = on_site.get(path, path)
    if path.is_relative_to(DOCS) and path.suffix == ".md":
        return f"{text}({os.path.relpath(path, (DOCS / docname).parent)}{anchor})"
    kind = "tree" if path.is_dir() else "blob"
    return f"{text}({REPOSITORY}/{kind}/main/{path.relative_to(ROOT)}{anchor})"


def tidy_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turns the Markdown of a docstring into what Sphinx reads."""
    text = re.sub(r"`([^`]+)`|\|", lambda found: _code(found[1]) if found[1] else r"\|", "\n".join(lines))
    if what in ("attribute", "property"):  # napoleon takes what stands before a colon for the type
        text = text.replace(": ", " – ", 1)
    text = text.replace(" .. ", " … ").replace("eq. (", "equation (")  # a full stop ends the line of a summary
    raises = re.search(r"^Raises:\n(?:[ \t]+\S.*\n?)+", text, flags=re.MULTILINE)
    if raises:  # one line may name several errors
        text = text.replace(raises[0], re.sub(r"\s+(?=[A-Z]\w+Error: )", "\n    ", raises[0]))
    source = re.search(r"^Source: .*(?:\n[ \t]+\S.*)*", text, flags=re.MULTILINE)
    if source:  # one paragraph: Sphinx would take indented lines for a list of definitions
        paragraph = " ".join(line.strip() for line in source[0].splitlines())
        text = text.replace(source[0], paragraph.replace("Source:", "**Source:**", 1))
    lines[:] = text.split("\n")


def _code(text: str) -> str:
    """Returns code as Sphinx has it: a name is a link to its entry, if it has one."""
    return f"`{text}`" if re.fullmatch(r"[\w.]+", text) else f"``{text}``"


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    os.environ.update(COLUMNS="100", NO_COLOR="1")  # how wide the help texts are
    app.connect("source-read", rewrite_page)
    app.connect("autodoc-process-docstring", tidy_docstring, priority=400)  # before napoleon
    app.connect("env-check-consistency", lambda app, env: check_reference(app, env))

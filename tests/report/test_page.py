"""The page of a report: whole in itself, valid, readable on any screen, and its files."""

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import tomli_w
from filelock import Timeout

from orderdp.comparison.grid import Comparison
from orderdp.comparison.results import read_results
from orderdp.output.text_table import Table
from orderdp.report import page, rendering
from orderdp.report.outline import SECTIONS, Outline, load_outline
from orderdp.report.page import write_report
from orderdp.report.section import Choices
from orderdp.strategies.registry import parse
from orderdp.training.run_folder import RunFolder, alone_in
from reference.made_runs import Made

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LINKING = {"src", "href", "xlink:href", "srcset", "poster", "action", "formaction", "data", "background"}
DIGITS = "digits (200 training and 360 test samples), small_cnn, 3 epochs"
BOTH = "orderdp,explore=0.9,exploit=0.5", "infobatch,prune_ratio=0.5"


class Page(HTMLParser):
    """A page read: every tag closed in its turn, its attributes, the text of elements."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        assert len({name for name, _ in attributes}) == len(attributes), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def study_of(folder, *parts, **changes):
    """Makes the folder of comparisons one of a study."""
    table = {"title": "A study", "about": "What?", "show": list(SECTIONS), "parts": list(parts), **changes}
    (folder / "study.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rich(tmp_path_factory, tiny_recipe):
    """A comparison with something for every section to show, and a run that is missing; and the report on it."""
    plan = Comparison(tiny_recipe(), methods=tuple(map(parse, BOTH)), seeds=(0, 1))
    folder = Made(tmp_path_factory.mktemp("rich") / "run", plan)
    labels = [member.label for member in folder.plan.members(200) if member.recipe.seed == 0]
    for number, label in enumerate(labels):
        folder.finish(
            label,
            (90.0 + number, 91.0 + number),
            epochs=3,
            alignment=lambda seed, epoch: {"full": {"cosine": 0.9, "norm_ratio": 1.1}},
        )
    (folder.folder("full data", 1).path / "result.json").unlink()
    folder.folder("full data", 1).write_failure("the loss <b>&amp; all</b> is 'nan'")
    folder.report = write_report(folder.path)
    return folder


def test_the_page_and_its_tables_are_written_into_the_folder(rich):
    assert rich.report == rich.path / "report" / "report.html"
    assert {file.name for file in (rich.path / "report").iterdir()} == {"report.html", "tables"}
    names = {"overview", "accuracy", "differences", "against_full", "against_short", "cost", "time_to_accuracy"}
    names |= {"samples_to_accuracy", "usage", "jaccard", "correlation", "worth", "saved", "schedules", "training_loss"}
    names |= {"cosine_full", "norm_ratio_full"}
    names |= {f"progress_{name}" for name in ("accuracy", "loss", "gradient_norm", "gradient_norm_deviation")}
    found = {file.name for file in (rich.path / "report" / "tables").iterdir()}
    assert found == {f"{name}.{ending}" for name in names for ending in ("md", "csv", "tex")}


def test_a_run_that_was_evaluated_twice_has_a_whole_report(pair):
    for label in ("OrderDP 50 %", "full data"):
        for seed in (0, 1, 2):
            run = pair.folder(label, seed)
            lines = run.metrics()
            first = {**lines[0], "accuracy": None, "test_loss": None}
            run.write_metrics([first, *({**line, "epoch": line["epoch"] + 1} for line in lines)])
            run.write_result({**run.result(), "epochs": len(lines) + 1})
    write_report(pair.path)
    tables = list((pair.path / "report" / "tables").glob("*.md"))
    assert tables
    assert not any("None" in table.read_text(encoding="utf-8") for table in tables)


def test_a_table_is_the_same_in_every_form(rich):
    tables = rich.path / "report" / "tables"
    lines = list(csv.reader(io.StringIO((tables / "accuracy.csv").read_text())))
    assert lines[0] == ["method", "50 %", "55 %"]
    grid, note = (tables / "accuracy.md").read_text().split("\n\n")
    assert note.startswith("Accuracy after the last epoch")
    markdown = grid.splitlines()
    cells = [line.strip("|").split("|") for line in (markdown[0], *markdown[2:])]
    assert [[cell.strip() for cell in line] for line in cells] == lines
    latex = (tables / "accuracy.tex").read_text()
    for line in lines:
        cells = [cell.replace("%", r"\%").replace("±", r"$\pm$") for cell in line]
        assert " & ".join(cells) + r" \\" in latex.splitlines()


def test_the_page_needs_nothing_from_elsewhere(rich):
    text = rich.report.read_text(encoding="utf-8")
    found = Page(text)
    assert not found.all("script")
    assert not found.all("link")
    assert not found.all("iframe")
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            value = value or ""
            if name in LINKING:
                assert value.startswith(("#", "data:")), f"{tag} {name}={value[:80]}"
            elif not name.startswith("xmlns"):
                assert not re.search(r"(?:https?:)?//\w", value), f"{tag} {name}={value[:80]}"
    styles = "".join(found.texts["style"]) + "".join(attributes.get("style", "") for _, attributes in found.tags)
    assert "@import" not in styles
    assert "@font-face" not in styles
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_the_page_says_how_to_show_it(rich):
    text = rich.report.read_text(encoding="utf-8")
    found = Page(text)
    assert text.lower().startswith("<!doctype html>")
    assert found.all("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"} in found.all("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.all("meta")
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text
    (title,) = found.texts["title"]
    assert title == "Comparison: run"


def test_every_colour_of_a_chart_has_one_for_each_theme(rich):
    text = rich.report.read_text(encoding="utf-8")
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", text))
    before, after = text.split("prefers-color-scheme: dark")
    light, dark = (set(re.findall(r"--([a-z0-9-]+):", part)) for part in (before, after.split("* {")[0]))
    assert used <= light == dark


def test_every_entry_of_the_contents_leads_somewhere(rich):
    found = read(rich.report)
    ids = {attributes["id"] for tag, attributes in found.tags if "id" in attributes and tag in ("h2", "h3")}
    targets = {attributes["href"][1:] for attributes in found.all("a") if attributes.get("href", "").startswith("#")}
    assert targets
    assert targets <= ids
    titles = "".join(found.texts["h3"])
    for title in (
        "Accuracy",
        "Differences",
        "Cost",
        "Use of the samples",
        "Direction of the gradient",
        "Progress",
    ):
        assert title in titles


def downloads(found):
    return {a["download"]: unquote(a["href"].partition(",")[2]) for a in found.all("a") if "download" in a}


def test_downloads_are_the_tables_and_the_numbers_of_the_charts(rich):
    found = downloads(read(rich.report))
    for file in (rich.path / "report" / "tables").iterdir():
        assert found[file.name] == file.read_text(encoding="utf-8"), file.name
    outline, _ = load_outline(rich.path)
    part = page._part("", read_results(rich.path), outline, Choices(outline.edges))
    charts = [chart for section in part.sections for chart in section.charts]
    assert len({chart.name for chart in charts}) == len(charts) > 8
    for chart in charts:
        assert found[f"{chart.name}.csv"] == chart.csv
        assert found[f"{chart.name}.svg"] == chart.svg
        ElementTree.fromstring(found[f"{chart.name}.svg"])
        header, *rows = csv.reader(io.StringIO(chart.csv))
        assert rows, chart.name
        assert all(len(row) == len(header) for row in rows)


def test_what_is_missing_stands_at_the_top_with_its_reason(rich):
    text = rich.report.read_text(encoding="utf-8")
    assert "the loss &lt;b&gt;&amp;amp; all&lt;/b&gt; is &#39;nan&#39;" in text
    found = Page(text)
    assert "full data, seed 1" in found.texts["li"]
    assert any("1 × the loss <b>&amp; all</b> is 'nan'" in text for text in found.texts["summary"])


def test_the_page_begins_with_what_may_be_concluded(pair):
    text = write_report(pair.path).read_text(encoding="utf-8")
    found = Page(text)
    assert text.index('id="summary"') < text.index("<nav")
    assert {"Methods", "Compared with", "Data", "Finished", "Made with"} <= {*found.texts["dt"]}
    assert found.texts["h4"] == ["What may be concluded", "What may not be concluded"]
    said = " ".join(found.texts["li"]).replace("\N{NO-BREAK SPACE}", " ")
    assert "OrderDP gains 0.83 points [0.12, 1.55] at 50 %" in said


def test_a_whole_comparison_has_no_word_of_anything_missing(pair):
    texts = read(write_report(pair.path)).texts
    assert "issing" not in "".join("".join(texts[tag]) for tag in texts if tag != "style")


def test_settings_versions_and_seeds_stand_at_the_end(pair):
    found = read(write_report(pair.path))
    assert any('dataset = "digits"' in text for text in found.texts["pre"])
    values = "|".join(found.texts["dd"])
    assert "a processor, 1 thread(s), 1 rank(s)" in values
    assert "torch 2.6.0" in values
    assert "0, 1, 2" in values


def test_letters_of_html_in_titles_and_names_are_shown_as_they_are(pair, tmp_path):
    title = "<script>alert('1')</script> & \"more\""
    published = {"title": "<i>Table</i> & 2", "columns": ["method", "<30 %"], "rows": {"<b>A</b>": ["1 & 2"]}}
    study_of(tmp_path, "run", title=title, about="<u>Why</u>?", published=[published])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    found = Page(text)
    assert not found.all("script")
    assert found.texts["title"] == found.texts["h1"] == [title]
    assert "<u>Why</u>?" in found.texts["p"]
    assert "In the paper: <i>Table</i> & 2" in found.texts["div"]
    assert "<b>A</b>" in found.texts["td"]
    assert "<30\N{NO-BREAK SPACE}%" in found.texts["th"]
    for tag in ("u", "i"):
        assert not found.all(tag)


def test_a_study_has_a_part_for_each_comparison_and_tables_under_its_name(made, tmp_path):
    for name in ("first", "second"):
        folder = made(name, methods=({"name": "orderdp", "prune_ratio": 0.5},))
        for label in ("OrderDP 50 %", "full data"):
            folder.finish(label, (90.0,))
    study_of(tmp_path, "first", "second", show=["accuracy", "stability"])
    found = read(write_report(tmp_path))
    assert [text for text in found.texts["h2"] if text.strip()] == ["Summary", *[DIGITS] * 2]
    assert found.texts["h1"] == ["A study"]
    files = {file.name for file in (tmp_path / "report" / "tables").iterdir()}
    assert files == {
        f"{part}-{name}.{ending}"
        for part in ("first", "second")
        for name in ("overview", "accuracy", "jaccard")
        for ending in ("md", "csv", "tex")
    }
    assert "Cost" not in "".join(found.texts["h3"])


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_can_stand_alone_also_where_nothing_is_finished_but_one_run(made, tmp_path, section):
    folder = made(methods=tuple(map(parse, BOTH)), seeds=(0, 1)).finish("InfoBatch 50 %", (90.0,), seeds=(1,))
    other = made("other", methods=({"name": "full"},)).finish("full data", (90.0,))
    study_of(tmp_path, "run", "other", show=[section])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    Page(text)
    assert folder.path.parent == other.path.parent == tmp_path
    assert not re.search(r">\s*nan|nan %", text)


def test_accuracies_to_reach_may_be_given(pair):
    write_report(pair.path, accuracies=(80.0, 99.5))
    table = (pair.path / "report" / "tables" / "time_to_accuracy.csv").read_text().splitlines()
    assert table[0] == "run,80 %,99.5 %"
    assert table[1] == "OrderDP 50 %,2.0,never"


@pytest.mark.parametrize(
    ("cells", "reach"),
    [
        (["87.32 ± 0.26"] * 2, ""),
        (["87.32 ± 0.26"] * 3, "wide"),
        (["−0.45 [−0.87, −0.03] loses"] * 4, "vast"),
    ],
)
def test_a_table_that_is_wider_than_a_screen_says_how_to_see_it_all(pair, cells, reach):
    header = ["method", *(f"{number} %" for number in range(len(cells)))]
    table = Table("a", "a", [header, ["OrderDP", *cells]])
    assert rendering._reach(table) == reach
    found = read(write_report(pair.path))
    figures = [a.get("class") for a in found.all("figure")]
    assert {"", "wide", "vast"} <= {*figures}
    assert sum(a.get("class") == "hint" for a in found.all("div")) == len(
        [name for name in figures if name is not None]
    )
    assert "Scroll sideways for all 11 columns →" in found.texts["div"]


def test_on_a_telephone_headings_and_the_first_column_wrap():
    headings = [["run", "minus shorter schedule", "samples backward"], ["OrderDP", "+0.83", "57.1 %"]]
    label = [["run", "accuracy, %"], ["full data, steps of OrderDP explore 0.5 exploit 1", "87.32 ± 0.26"]]
    assert [rendering._reach(Table("a", "a", lines)) for lines in (headings, label)] == ["", ""]


def test_cells_are_numbers_or_words_and_break_outside_of_a_number():
    numbers = ("91.0", "+0.5", "−0.5", "", "never", "missing", "OrderDP", "worse")
    assert [rendering._is_number(cell) for cell in numbers] == [True] * 6 + [False] * 2
    cells = ("−0.45 [−0.87, −0.03] loses", "57.1 %", "0–30 %")
    assert [rendering._whole(cell) for cell in cells] == [
        "−0.45 [−0.87,\N{NO-BREAK SPACE}−0.03] loses",
        "57.1\N{NO-BREAK SPACE}%",
        "0–\N{WORD JOINER}30\N{NO-BREAK SPACE}%",
    ]


def test_the_same_bytes_come_twice(pair):
    first = write_report(pair.path).read_bytes()
    assert write_report(pair.path).read_bytes() == first


def test_without_a_finished_run_there_is_nothing_to_report(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},))
    message = rf"^a report needs a finished run, got none in {re.escape(str(folder.path))}; resume with orderdp train, "
    with pytest.raises(ValueError, match=message):
        write_report(folder.path)
    assert not (folder.path / "report").exists()


def test_a_folder_of_nothing_is_refused(tmp_path):
    message = rf"^a folder of runs must hold .* or study\.toml, got {re.escape(str(tmp_path))}; write"
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_outline_of_an_unknown_section_is_refused():
    with pytest.raises(ValueError, match=r"^no section named 'acuracy'; did you mean 'accuracy'\?$"):
        Outline("x", sections=("acuracy",))
    with pytest.raises(ValueError, match=r"^no section named 'zzz'; choose from lossless, accuracy, worth, "):
        Outline("x", sections=("zzz",))


FRAMES = """<!doctype html><meta charset="utf-8"><title>waits</title>
<script>
const widths = {};
onmessage = event => { widths[event.data[0]] = event.data[1]; document.title = JSON.stringify(widths); };
</script>
<iframe src="measured.html" style="width: 1280px; height: 900px; border: 0"></iframe>
<iframe src="measured.html" style="width: 390px; height: 844px; border: 0"></iframe>
"""
MEASURE = """<script>
const page = document.documentElement;
parent.postMessage([innerWidth, page.scrollWidth - page.clientWidth], "*");
</script></body>"""
CHROMIUM = shutil.which("chromium")


def show(path, profile):
    """Shows a page in a browser; returns the document that it becomes and the lines on its console."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--v=0"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=10000", f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_a_browser_shows_the_page_without_an_error_and_no_wider_than_the_window(rich, tmp_path):
    """In frames of the widths of a desk and a telephone: a window of its own is never narrower than 500 pixels."""
    text = rich.report.read_text(encoding="utf-8")
    (tmp_path / "measured.html").write_text(text.replace("</body>", MEASURE), encoding="utf-8")
    (tmp_path / "frames.html").write_text(FRAMES, encoding="utf-8")
    document, console = show(tmp_path / "frames.html", tmp_path / "profile")
    assert console == []
    (title,) = re.findall(r"<title>(.*?)</title>", document)
    assert title == '{"390":0,"1280":0}'


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_that_check_sees_an_error_and_a_page_that_is_too_wide(tmp_path):
    wide = "<!doctype html><body><p style='width: 900px'>wide</p><script>console.error('planted')</script></body>"
    (tmp_path / "measured.html").write_text(wide.replace("</body>", MEASURE), encoding="utf-8")
    (tmp_path / "frames.html").write_text(FRAMES, encoding="utf-8")
    document, console = show(tmp_path / "frames.html", tmp_path / "profile")
    assert [bool(re.search("planted", line)) for line in console] == [True, True]
    assert re.search(r'{"390":5\d\d,"1280":0}', document)


def test_reading_a_page_sees_what_is_wrong_with_it():
    for wrong in ("<p>", "</p>", "<p><b></p></b>", '<p a="1" a="2"></p>'):
        with pytest.raises(AssertionError):
            Page(wrong)


def test_a_report_reads_no_checkpoint(pair, monkeypatch):
    monkeypatch.setattr(RunFolder, "load_checkpoint", lambda folder: 1 / 0)
    assert Path(write_report(pair.path)).exists()


def test_the_name_of_an_unplanned_run_is_shown_as_it_is(pair):
    name = "<img src=x onerror=alert(1)>"
    (pair.path / name).mkdir()
    pair.folder("full data", 1).recipe().write(pair.path / name / "recipe.toml")
    found = read(write_report(pair.path))
    assert not found.all("img")
    assert any(f"which the report leaves out: {name}." in text for text in found.texts["p"])


def test_a_report_is_written_by_one_process_at_a_time(pair, monkeypatch):
    write, waited = page._write, []

    def see(*arguments):
        with pytest.raises(Timeout):
            alone_in(pair.path).acquire(timeout=0)
        waited.append(True)
        return write(*arguments)

    monkeypatch.setattr(page, "_write", see)
    write_report(pair.path)
    assert waited == [True]
    with alone_in(pair.path).acquire(timeout=0):  # and lets go of it
        pass


def test_settings_name_every_machine_that_runs_were_made_on(pair):
    folder = pair.folder("full data", 1)
    folder.write_result({**folder.result(), "device": "another processor"})
    values = read(write_report(pair.path)).texts["dd"]
    assert "a processor, 1 thread(s), 1 rank(s); another processor, 1 thread(s), 1 rank(s)" in values

"""`orderdp paper` on the command line."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from orderdp.comparison.archive import Archive, write_archive
from orderdp.comparison.records import read_folder
from orderdp.paper import blocks, study
from orderdp.paper.contents import places

REFUSED = {
    "unknown size": ("--size cpuu", "no size named 'cpuu'; did you mean 'cpu'?"),
    "no size": ("--size 7", "no size named '7'; choose from smoke, cpu, gpu, paper"),
    "no hours": (
        "--hours 0",
        "--hours must be a finite number above 0, got 0; write 10, or leave it out to train nothing",
    ),
    "endless": (
        "--hours inf",
        "--hours must be a finite number above 0, got inf; write 10, or leave it out to train nothing",
    ),
    "no number": (
        "--hours nan",
        "--hours must be a finite number above 0, got nan; write 10, or leave it out to train nothing",
    ),
    "a word": (
        "--hours ten",
        "--hours must be a finite number above 0, got ten; write 10, or leave it out to train nothing",
    ),
    "no page": ("--page mine.pdf", "--page must end in .md or .html, got mine.pdf; write mine.html"),
    "no archive": (
        "--archives nowhere",
        "--archives must be files or folders, got nowhere, which does not exist; write what 'orderdp report --archive' "
        "wrote, or a folder that holds it",
    ),
    "no process": (
        "--hours 1 --processes 0",
        "--processes must be a whole number from 1, and 1 under several ranks, got 0; write --processes 1",
    ),
    "no data": (
        "--hours 1 --data-root nowhere",
        "--data-root must be a folder that exists, got nowhere; create it or correct it",
    ),
    "unknown study": (
        "--hours 1 --studies table2 figure99",
        "no study named 'figure99'; did you mean 'figure9'?",
    ),
    "unknown study, to show": ("--studies table2 figure99", "no study named 'figure99'; did you mean 'figure9'?"),
    "no study of the paper": (
        "--hours 1 --studies worth",
        "--studies must be of the paper or what it leaves open, with size cpu, got worth; write 'orderdp study worth'",
    ),
    "studies to show": (
        "--studies table2",
        "--studies says what to train, got table2 without --hours; write --hours 10 too, or leave --studies out",
    ),
    "nothing to show": (
        "",
        "the page needs results of size cpu, got none in runs/paper-cpu; write --hours 10 to train, or --archives PATH",
    ),
    "nothing to show of others": (
        f"--archives {Path(__file__).parent}",
        f"the page needs results of size cpu, got none in runs/paper-cpu and {Path(__file__).parent}; write --hours 10 "
        "to train, or other --archives",
    ),
}


@pytest.mark.parametrize(("typed", "line"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_call_gets_one_line_and_writes_nothing(call, here, typed, line):
    assert call("paper", *typed.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


def test_a_relative_data_root_means_one_folder(call, here, monkeypatch):
    """Runs of an earlier call from elsewhere, with another folder of that name, are not shared."""
    asked = []

    def blocks_of(size, folder, **settings):
        asked.append(settings["data_root"])
        raise ValueError("enough")

    monkeypatch.setattr(blocks, "blocks_of", blocks_of)
    for cwd in ("a", "b"):
        (here / cwd / "data").mkdir(parents=True)
        monkeypatch.chdir(here / cwd)
        call("paper", "--hours", "1", "--data-root", "data")
    assert asked == [str(here / "a" / "data"), str(here / "b" / "data")]


def test_a_file_is_no_run_folder(call, here):
    (here / "notes").write_text("")
    for hours in ([], ["--hours", "1"]):
        assert call("paper", *hours, "--run", "notes") == (
            2,
            "",
            "orderdp: --run must be a folder, new or of an earlier call, got the file notes; write another --run\n",
        )


def test_several_ranks_are_refused(call, here, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert call("paper", "--hours", "1") == (
        2,
        "",
        "orderdp: the paper is run by one process, got 2 by WORLD_SIZE; start it without a launcher, with "
        "--processes 2, or write 'orderdp study NAME'\n",
    )
    assert not list(here.iterdir())


def test_what_failed_is_said_even_if_nothing_is_left_to_show(call, here, monkeypatch):
    monkeypatch.setattr(blocks, "blocks_of", lambda *given, **changes: [])
    monkeypatch.setattr(blocks, "run", lambda *given, **named: {"table8, digits, seed 0": "no memory"})
    status, printed, told = call("paper", "--hours", "1")
    assert (status, printed) == (2, "")
    assert "orderdp: table8, digits, seed 0 failed: no memory\n" in told
    assert told.endswith("got none in runs/paper-cpu; write more --hours, or --archives PATH\n")


def test_what_was_typed_reaches_the_studies_and_archives_are_no_work(call, here, made, monkeypatch):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=("full",)).finish("full data", (90.0,))
    head = {"study": "table8", "size": "smoke", "title": "Table 8", "parts": ["digits"]}
    write_archive(here / "kept.jsonl.xz", Archive("Table 8", head, {"digits": read_folder(folder.path)}))
    (here / "tables.md").touch()
    asked = {}

    def run(given, folder, *, log, **named):
        asked.update(named)
        return {"figure8": "no memory"}

    monkeypatch.setattr(
        blocks, "blocks_of", lambda *given, **changes: asked.update(given=given, **changes) or ["block"]
    )
    monkeypatch.setattr(blocks, "run", run)
    monkeypatch.setattr(blocks, "state_of", lambda block, there=None: SimpleNamespace(done=there is asked["archived"]))
    typed = (
        "--size smoke --hours 2 --data-root new --download --device cpu --studies figure8 --run made --page new/p.md"
    )
    status, out, err = call("paper", *typed.split(), "--archives", "kept.jsonl.xz")
    assert (status, out) == (1, "new/p.md\n")  # a page, though something failed
    assert "[digits](../tables.md)" in Path(out.strip()).read_text(encoding="utf-8")
    assert err.splitlines()[0].startswith("1 of 1 blocks are finished")
    assert list(asked.pop("archived").tasks) == ["table8"]
    assert asked == {
        "given": ("smoke", Path("made")),
        "studies": ["figure8"],
        "data_root": str(here.resolve() / "new"),
        "download": True,
        "device": "cpu",
        "hours": 2,
        "processes": 1,
    }


@pytest.fixture
def two_studies(monkeypatch):
    """The paper has a figure of the theory, and a study that is shrunk to an epoch of 200 digits."""
    there = [place for place in places() if place.name in ("figure8", "figure9")]
    monkeypatch.setattr(blocks, "places", lambda: there)
    tiny = {"train_size": 200, "epochs": 1, "num_threads": 1}
    recipes_of = study._recipes
    monkeypatch.setattr(study, "_recipes", lambda *given: [each.model_copy(update=tiny) for each in recipes_of(*given)])


@pytest.mark.usefixtures("two_studies")
def test_the_page_is_written_after_the_runs_and_again_from_archives(call):
    status, out, err = call("paper", "--size", "smoke", "--hours", "1", "--device", "cpu")
    assert (status, out) == (0, "runs/paper-smoke/paper.md\nruns/paper-smoke/paper.html\n")
    assert err.endswith("3 of 3 blocks are finished: a block is all runs of one task and one seed\n")
    page = Path("runs/paper-smoke/paper.html").read_text(encoding="utf-8")
    assert '<div class="charts">' in page
    assert '<h2 id="figure9">Figure 9: how often samples are used at 30 %</h2>' in page
    assert call("report", "runs/paper-smoke/figure9", "--archive", "kept.jsonl.xz")[0] == 0
    assert (
        call("paper", "--size", "smoke", "--run", "none", "--archives", "kept.jsonl.xz", "--page", "p.md")[1]
        == "p.md\n"
    )
    text = Path("p.md").read_text(encoding="utf-8")
    assert "| digits | 0, 1 | 8 |" in text
    assert not Path("none").exists()


@pytest.mark.usefixtures("two_studies")
def test_an_interrupted_call_says_how_to_go_on(call, monkeypatch):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "_make", interrupt)
    status, out, err = call("paper", "--size", "smoke", "--hours", "1")
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "orderdp: stopped; the same call continues"

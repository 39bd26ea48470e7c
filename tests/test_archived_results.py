"""What is committed under results/: few small files, from which every table is made again."""

import json
import lzma
import subprocess
from pathlib import Path

import pytest

import same_numbers
from orderdp.cli import main
from orderdp.comparison.archive import read_archive, study_in, write_archive
from orderdp.paper.contents import places
from same_numbers import differences, lines_of, numbers_in

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
ARCHIVES = sorted(RESULTS.rglob("runs.jsonl.xz"))

pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the sdist holds no results")


def test_the_results_are_few_small_files():
    files = [path for path in RESULTS.rglob("*") if path.is_file() and "report" not in path.relative_to(RESULTS).parts]
    assert len(files) <= 100
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    for archive in ARCHIVES:
        beside = [path for path in files if path.parent == archive.parent]
        assert len(beside) <= 4
        assert sum(path.stat().st_size for path in beside) <= 2_000_000
        assert archive.stat().st_size <= 500_000
    assert {path.suffix for path in files} == {".xz", ".md", ".csv", ".svg", ".json"}
    assert len(ARCHIVES) == 18


def test_the_paper_has_one_archive_of_each_study_and_the_page_is_its_tables():
    files = sorted((RESULTS / "paper").iterdir())
    assert {path.name.partition(".")[0] for path in files} <= {place.name for place in places()}
    archives = [path for path in files if path.name.endswith(".jsonl.xz")]
    for path in archives:
        assert path.stat().st_size <= 500_000
        assert study_in(path)["size"] == "cpu"
    computed = [path for path in files if path not in archives]  # by a study without recipes: its tables alone
    for path in computed:
        assert {path.with_suffix(form) for form in (".csv", ".json", ".md")} <= set(computed)
        assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["size"] == "cpu"


SLOW = pytest.mark.slow
EACH = [
    pytest.param(path, marks=[] if path.stat().st_size < 50_000 else SLOW, id=str(path.parent.relative_to(RESULTS)))
    for path in ARCHIVES
]


@pytest.mark.parametrize("archive", EACH)
def test_the_tables_are_made_from_the_archive_beside_them(archive, tmp_path, capsys):
    assert main(["report", str(archive), "--tables", str(tmp_path / "tables.md")]) == 0
    made = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert made == (archive.parent / "tables.md").read_text(encoding="utf-8"), "write: make results"


@pytest.mark.parametrize("archive", EACH)
def test_an_archive_written_again_holds_the_same(archive, tmp_path):
    write_archive(tmp_path / "again", read_archive(archive))
    assert lzma.decompress((tmp_path / "again").read_bytes()) == lzma.decompress(archive.read_bytes())


OLD = """\
| method | 30 % |
| --- | ---: |
| OrderDP | 90.1 ± 0.2 |
| UCB (prunes 28 %) | −1.5 [−2.0, −1.0] |
"""


def test_numbers_are_compared_and_words_are_not():
    assert numbers_in("−1,234.50 [+0.1, 2e-05]") == ["-1234.50", "+0.1", "2e-05"]
    old = lines_of(OLD)
    assert old == [["method", "30 %"], ["OrderDP", "90.1 ± 0.2"], ["UCB (prunes 28 %)", "−1.5 [−2.0, −1.0]"]]
    assert list(differences(old, lines_of(OLD.replace("prunes", "really leaves out")))) == []
    for right, wrong in (("90.1", "90.2"), ("28", "29"), ("30", "40"), ("−2.0", "2.0"), ("90.1", "90.10")):
        assert len(list(differences(old, lines_of(OLD.replace(right, wrong))))) == 1
    assert len(list(differences(old, old[:-1]))) == 1


@pytest.fixture
def commit():
    """The commit of the tables as they were published before."""
    found = subprocess.run(["git", "cat-file", "-e", "d7287e3^{commit}"], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        pytest.skip("needs the history of the repository")
    return "d7287e3"


def test_every_published_table_has_its_archive(commit):
    found = list(same_numbers.old_tables(commit))
    assert len(found) == 102
    for _, folder, name in found:
        assert (ROOT / folder / "runs.jsonl.xz").exists() or (ROOT / folder / name).exists(), (folder, name)


@pytest.mark.slow
def test_no_published_number_changed(commit, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["same_numbers.py", "--commit", commit])
    assert same_numbers.main() == 0
    assert "102 tables, 12," in capsys.readouterr().out

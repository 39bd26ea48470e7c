"""The contents of the paper: each study that is named after a part of it has its place."""

import pytest

from orderdp.paper import contents
from orderdp.paper.contents import CONTENTS, DRAWN, Kind, label_of, places
from orderdp.paper.studies import catalogue
from orderdp.paper.study import load_study

PRINTED = {f"table{number}" for number in range(1, 12)} | {f"figure{number}" for number in range(1, 14)}


def test_every_table_and_figure_of_the_paper_has_its_place():
    assert set(CONTENTS) >= PRINTED
    assert set(DRAWN) <= set(CONTENTS)
    for kind in ("figure",):
        numbers = [int(name.removeprefix(kind)) for name in CONTENTS if name.startswith(kind)]
        assert numbers == sorted(numbers)


def test_every_study_of_the_paper_has_its_place_in_the_papers_order():
    """A study that comes later is found without a change here, unless the paper has not what it is named after."""
    there = places()
    assert [place.name for place in there if place.kind is Kind.PRINTED] == list(CONTENTS)
    assert {place.name for place in there if place.row} == set(catalogue())
    for place in there:
        printed = place.kind is Kind.PRINTED
        assert printed == place.name.startswith(("table", "figure", "theorem", "appendix")), place.name
        assert not printed or place.name == "appendix_d6" or place.title.startswith(f"{label_of(place.name)}: ")
        assert (place.kind is Kind.OPEN) == place.name.startswith("open_")


def test_a_study_without_a_place_is_named_at_the_end(monkeypatch):
    monkeypatch.setattr(contents, "CONTENTS", {name: text for name, text in CONTENTS.items() if name != "table8"})
    there = places()
    assert {place.name for place in there if place.kind is Kind.OWN} >= {"table8", "worth"}


@pytest.mark.parametrize("name", ["figure2", "table1"])
def test_what_nothing_is_computed_of_has_no_study(name):
    assert (name in catalogue()) == (name not in DRAWN)


@pytest.mark.parametrize(
    "file", [row.file for row in catalogue().values() if row.name.startswith("open_") and row.file]
)
def test_what_the_paper_leaves_open_is_compared_with_the_shorter_schedule_and_a_random_choice(file):
    study = load_study(file, "cpu")
    for part in study.parts.values():
        names = {method["name"] for method in part.methods}
        assert names >= {"orderdp", "dynamic_random"}
        assert set(part.against) >= {"full", "short"}
        assert len(part.seeds) >= 3
        ratios = {method["prune_ratio"] for method in part.methods if method["name"] == "orderdp"}
        assert ratios >= {0.5, 0.7}

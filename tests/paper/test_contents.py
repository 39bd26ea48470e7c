"""The contents of the paper: each study that is named after a part of it has its place."""

import pytest

from orderdp.paper import contents
from orderdp.paper.contents import CONTENTS, DRAWN, label_of, places
from orderdp.paper.studies import catalogue

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
    assert [place.name for place in there if place.in_paper] == list(CONTENTS)
    assert {place.name for place in there if place.row} == set(catalogue())
    for place in there:
        assert place.in_paper == place.name.startswith(("table", "figure", "theorem", "appendix")), place.name
        assert not place.in_paper or place.name == "appendix_d6" or place.title.startswith(f"{label_of(place.name)}: ")


def test_a_study_without_a_place_is_named_at_the_end(monkeypatch):
    monkeypatch.setattr(contents, "CONTENTS", {name: text for name, text in CONTENTS.items() if name != "table8"})
    there = places()
    assert not any(place.in_paper for place in there if place.name == "table8")
    assert {place.name for place in there if not place.in_paper} >= {"table8", "worth"}


@pytest.mark.parametrize("name", ["figure2", "table1"])
def test_what_nothing_is_computed_of_has_no_study(name):
    assert (name in catalogue()) == (name not in DRAWN)

"""The benchmark of the trainer, on versions whose rates and seconds are known: which way its ratios go."""

import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"old": Path("old"), "new": Path("new")}


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import trainer

    return trainer


@pytest.mark.parametrize(("new", "said"), [(150, "reached"), (149, "MISSED")])
def test_the_rate_of_images_is_that_of_the_new_version_over_the_old_one(trainer, monkeypatch, capsys, new, said):
    rates = {"old": "100", "new": str(new)}
    monkeypatch.setattr(trainer, "run", lambda command, source: rates[source.name])
    for found in trainer.measure_images(SOURCES, 2).values():
        assert found["ratio"]["median"] == pytest.approx(new / 100)
        assert (found["old"]["median"], found["new"]["median"]) == (100, new)
    assert capsys.readouterr().out.count(f"target at least 1.5: {said}") == 3


@pytest.mark.parametrize(("new", "said"), [(8, "reached"), (9, "MISSED")])
def test_the_seconds_of_training_are_those_of_the_new_version_over_the_old_one(trainer, monkeypatch, capsys, new, said):
    """In each round anew, while the processor works half of the time."""
    clock, takes = [0.0], {"old": 10.0, "new": float(new)}

    def run(command, source):
        clock[0] += takes[source.name]

    monkeypatch.setattr(trainer, "run", run)
    monkeypatch.setattr(trainer, "processor_s", lambda: clock[0] / 2)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    found = trainer.measure_train(SOURCES, 2)
    assert [found[name]["old"]["median"] for name in ("wall_s", "processor_s")] == [10, 5]
    assert [found[name]["ratio"]["median"] for name in ("wall_s", "processor_s")] == pytest.approx([new / 10] * 2)
    assert capsys.readouterr().out.count(f"target at most 0.8: {said}") == 2

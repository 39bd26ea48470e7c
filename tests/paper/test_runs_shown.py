"""Which settings of runs the page names as other than the paper's."""

from types import SimpleNamespace

import pytest

from orderdp.output.toml import parse_toml
from orderdp.paper.runs_shown import other_settings
from orderdp.paper.studies import find_study
from orderdp.paper.study import load_study
from orderdp.training.recipe import gathered


@pytest.fixture
def named():
    """Returns the table of settings of a study at a size, with those of a task changed; its lines by setting."""

    def found(name, size, **changes):
        file = find_study(name).file
        study = load_study(file, size)
        tasks = {}
        for part, plan in study.parts.items():
            recipe = gathered(parse_toml(plan.recipe.model_copy(update=changes).to_toml()))
            tasks[part] = SimpleNamespace(results=SimpleNamespace(recipe=recipe, seeds=plan.seeds))
        tables = other_settings(file, study, tasks)
        return {key: cells for key, *cells in tables[0].lines[1:]} if tables else {}

    return found


def test_every_setting_of_a_recipe_is_compared(named):
    found = named("table5", "cpu")
    assert found.keys() >= {"dataset", "train_size", "ema", "drop_path", "final_div_factor", "batch_size", "finetune"}
    assert found["drop_path"] == ["0.0, 0.1", "0.0, 0.2"]
    assert found["finetune"][0] == "none, epochs 8 and max_lr 0.001"
    assert found["train_size"][1] == "all"
    assert not found.keys() & {"data_root", "num_threads", "num_workers", "evaluations", "seed", "strategy"}


def test_one_setting_alone_is_seen(named):
    before = named("table2", "cpu")
    assert "label_smoothing" not in before
    after = named("table2", "cpu", label_smoothing=0.0)
    assert after == {**before, "label_smoothing": ["0.0", "0.1"]}

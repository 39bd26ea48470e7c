"""Each "yes" in the table of frameworks stands for a test that runs the real framework beside a bare loop."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "frameworks.md").read_text(encoding="utf-8")
COLUMNS = (
    "ids, losses",
    "steps",
    "learning rate",
    "resume inside",
    "resume at the end",
    "sizes vary",
    "accumulation",
    "2 processes",
)

LIGHTNING = "lightning::test_a_trainer_trains_what_a_bare_loop_trains"
TRAINER = "transformers::test_a_run_makes_the_steps_of_a_plain_loop"
ACCELERATE = "accelerate::test_a_run_is_the_bare_run"
TIMM = "timm::test_a_run_is_the_bare_run"
IGNITE = "ignite::test_an_attached_engine_trains_as_a_bare_loop"
FABRIC = "fabric::test_a_loop_with_fabric_trains_what_a_bare_loop_trains"
TORCHDATA = "torchdata::test_a_run_is_that_of_the_pruned_loader"
SKORCH = "skorch::test_epochs_of_fit_and_partial_fit_are_those_of_a_bare_loop"
# The test behind each cell, or what stands there instead.
CELLS = {
    "Lightning": (
        *(LIGHTNING, LIGHTNING, "lightning::test_the_callback_counts_the_steps_of_the_run"),
        *("lightning_resume::test_any_checkpoint_resumes", "lightning_resume::test_any_checkpoint_resumes"),
        *(LIGHTNING, LIGHTNING, "lightning_ranks::test_two_processes_with_default_settings"),
    ),
    "Fabric": (
        *(FABRIC, FABRIC, FABRIC),
        *["fabric::test_a_loop_with_fabric_resumes_inside_and_at_the_end_of_an_epoch"] * 2,
        *(FABRIC, "your loop", "lightning_ranks::test_fabric_on_two_processes_resumes_inside_an_epoch"),
    ),
    "HF Trainer": (
        *(TRAINER, TRAINER, TRAINER),
        *["transformers_resume::test_a_run_goes_on_from_inside_an_epoch_and_from_its_end"] * 2,
        *(TRAINER, TRAINER, "transformers_ranks::test_two_processes_train_as_a_plain_loop_on_two"),
    ),
    "accelerate": (
        *(ACCELERATE, ACCELERATE, ACCELERATE),
        *["accelerate::test_save_state_and_load_state_alone_go_on_as_if_unbroken"] * 2,
        *(ACCELERATE, ACCELERATE, "accelerate::test_two_processes_train_and_resume_as_a_bare_loop_of_two"),
    ),
    "timm": (
        *(TIMM, TIMM, "your loop"),
        *["timm::test_a_run_goes_on_although_a_batch_is_prefetched"] * 2,
        *(TIMM, "your loop", "timm::test_two_processes_train_and_resume_as_a_bare_loop_of_two"),
    ),
    "torchdata": (
        *(TORCHDATA, TORCHDATA, "your loop"),
        *["torchdata::test_a_run_goes_on_from_the_state_of_its_loader"] * 2,
        *(TORCHDATA, "your loop", "torchdata::test_two_processes_train_and_resume_what_the_pruned_loader_of_two_does"),
    ),
    "Ignite": (
        *(IGNITE, IGNITE, IGNITE),
        *["ignite::test_a_run_goes_on_from_the_state_of_its_loader"] * 2,
        *(IGNITE, "your loop", "ignite::test_two_processes_train_and_resume_as_a_bare_loop_of_two"),
    ),
    "skorch": (SKORCH, SKORCH, "your loop", "no", "your loop", "not tested", "your loop", "no"),
}


def rows() -> dict[str, tuple[str, ...]]:
    table = PAGE.partition("## What is tested")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    assert tuple(cells[0][1:]) == COLUMNS
    return {row[0]: tuple(row[1:]) for row in cells[2:]}


def test_the_table_of_the_page_is_that_of_the_tests():
    assert rows() == {name: tuple("yes" if "::" in cell else cell for cell in cells) for name, cells in CELLS.items()}


@pytest.mark.parametrize("test", sorted({cell for cells in CELLS.values() for cell in cells if "::" in cell}))
def test_the_test_behind_a_cell_exists(test):
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (HERE / f"test_{file}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)

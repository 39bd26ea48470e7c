"""The tool that holds the warning of little mastered against results, on folders whose numbers are known."""

import pytest

from mastered_rule import as_tables, cases_of, main
from orderdp.training.progress import Progress
from reference.made_runs import SIZES
from reference.reported import methods
from report.test_page import study_of

SHORT = "full data, steps of OrderDP 50 %"
N = SIZES.num_samples
PRUNED = 0.6
LIMIT = PRUNED / 20


@pytest.fixture
def study(made, tmp_path):
    """Makes a study of tasks with OrderDP at 50 %: the share mastered after each epoch, and its lead in points."""

    def make(tasks, epochs=10, also=()):
        for name, (shares, lead) in tasks.items():
            folder = made(name, methods=methods("orderdp,prune_ratio=0.5", *also), seeds=(0, 1, 2))
            folder.finish("full data", (90.0, 91.0, 92.0), epochs=epochs, samples_backward=lambda _, epoch: N * epoch)
            folder.finish(SHORT, (80.0, 81.0, 82.0), epochs=epochs)
            folder.finish(
                "OrderDP 50 %",
                [80.0 + lead, 81.0 + lead, 82.1 + lead],
                epochs=epochs,
                mastered=lambda seed, epoch, shares=shares: shares(seed, epoch),
                samples_backward=lambda _, epoch: N + (epoch - 1) * int(N * (1 - PRUNED)),  # the first epoch is whole
            )
        study_of(tmp_path, *tasks)
        return list(cases_of(tmp_path))

    return make


def at_fourth(share):
    """This share after the fourth of ten epochs, which ends a third of the run; else another."""
    return lambda _, epoch: share if epoch == 4 else 1.0 if share < LIMIT else 0.0


@pytest.mark.parametrize("share", [0.0, LIMIT - 1e-6, LIMIT, LIMIT + 1e-6, 1.0])
def test_a_case_is_warned_of_where_a_run_warns(study, share, caplog):
    (case,) = study({"task": (at_fourth(share), 1.0)})
    Progress(history=[{"mastered": share}] * 4).warn_of_ratio(PRUNED, 10)
    assert case.warned == bool(caplog.messages)
    assert case.mastered == pytest.approx(share)


def test_the_share_is_the_mean_over_the_seeds(study):
    (case,) = study({"task": (lambda seed, epoch: (0.0, 0.0, 0.06)[seed] if epoch == 4 else 1.0, 1.0)})
    assert case.mastered == pytest.approx(0.02)
    assert case.warned


def test_runs_of_nine_epochs_and_runs_without_a_share_are_left_out(study):
    assert study({"task": (at_fourth(0.0), 1.0)}, epochs=9) == []


def test_a_method_without_a_share_is_left_out(study):
    assert study({"task": (lambda *_: None, 1.0)}) == []


def test_outcomes_are_counted_by_task_and_every_case_is_listed(study):
    cases = study(
        {
            "better": (at_fourth(0.0), 3.0),
            "worse": (at_fourth(0.0), -3.0),
            "level": (at_fourth(0.01), 0.0),
            "far": (at_fourth(0.9), 3.0),
        }
    )
    counts, each = as_tables(cases)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in counts.splitlines()]
    assert rows[0][1:4] == ["warned: better", "warned: cannot be told apart", "warned: worse"]
    assert rows[0][4:] == ["not warned: better", "not warned: cannot be told apart", "not warned: worse"]
    assert rows[2:] == [
        ["better", "1", "0", "0", "0", "0", "0"],
        ["worse", "0", "0", "1", "0", "0", "0"],
        ["level", "0", "1", "0", "0", "0", "0"],
        ["far", "0", "0", "0", "1", "0", "0"],
        ["all", "1", "1", "1", "1", "0", "0"],
    ]
    lines = each.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [
        f"{name}: OrderDP 50 %" for name in ("better", "worse", "level", "far")
    ]
    assert "| 1.0 % |" in lines[2]
    assert "+3.03 [" in lines[0]
    assert lines[0].endswith("| yes |")
    assert lines[3].endswith("|  |")


def test_it_prints_the_tables_and_asks_for_a_folder(study, tmp_path, capsys):
    study({"task": (at_fourth(0.0), 1.0)})
    main([str(tmp_path), str(tmp_path)])
    assert capsys.readouterr().out.count("| task: OrderDP 50 % | 0.0 % |") == 2
    with pytest.raises(SystemExit, match=r"^mastered_rule\.py needs the folders of a study"):
        main([])

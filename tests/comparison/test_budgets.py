"""Full data for multiples of its steps: which runs a plan lists for them, and what it refuses."""

import re

import pytest

from orderdp.comparison.grid import Comparison
from orderdp.training.recipe import Recipe
from orderdp.training.steps import total_steps

N = 200  # in batches of 32 and three epochs, 21 steps of full data


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_a_budget_is_a_run_unless_another_reference_makes_its_steps(tiny):
    plan = Comparison(tiny(prune_ratio=0.3), budgets=(1.5, 0.1, 1, 0.71))  # 15 of 21 steps are those of the pruned run
    assert [(member.label, member.name, total_steps(member.recipe, N)) for member in plan.members(N)] == [
        ("OrderDP 30 %", "OrderDP-30-seed0", 15),
        ("full data", "full-data-seed0", 21),
        ("full data, steps of OrderDP 30 %", "full-data-steps-of-OrderDP-30-seed0", 15),
        ("full data, 150 % of the steps", "full-data-150-of-the-steps-seed0", 32),
        ("full data, 10 % of the steps", "full-data-10-of-the-steps-seed0", 2),
    ]


REFUSED = {
    "budget of nothing": (
        {"budgets": (0.5, 0)},
        "budgets are multiples of full data's steps and must lie in (0, 2], got 0; write 0.5 for half of them",
    ),
    "budget in percent": (
        {"budgets": (50,)},
        "budgets are multiples of full data's steps and must lie in (0, 2], got 50; write 0.5 for half of them",
    ),
    "budget twice": ({"budgets": (0.5, 0.5)}, "budgets must be given once each, got [0.5, 0.5]; leave the repeats out"),
    "budgets without full data": (
        {"budgets": (0.5,), "against": ("short",)},
        "budgets are multiples of full data's steps, got [0.5] without full data; add full to against",
    ),
}


@pytest.mark.parametrize(("settings", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_budgets_that_cannot_be_are_refused(settings, message):
    with raises(ValueError, message):
        Comparison(Recipe(), **settings)


def test_a_budget_of_no_step_is_refused(tiny):
    with raises(ValueError, "a budget must leave at least one of the 21 steps, got 0.02; write 0.048 or more"):
        Comparison(tiny(), budgets=(0.02,)).members(N)


def test_a_longer_schedule_ends_with_its_steps(tiny):
    longer = Comparison(tiny(), budgets=(1.5,)).members(N)[-1].recipe
    assert (longer.epochs, longer.max_steps, longer.strategy.name) == (5, 32, "full")

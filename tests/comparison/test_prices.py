"""What a run cost, by the prices of its passes."""

import pytest

from orderdp.comparison.prices import cost_of, rule_of

PRICES = {"first": 2e-6, "kept": 6e-6, "full": 5e-6}
# Samples forward, backward and what else the result holds, then the rule and the cost in training steps of a sample.
COSTS = {
    "one pass": (300, 300, {"pass_s": None}, "one pass", 300),
    "one pass, of release 0.1": (300, 300, {}, "one pass", 300),
    "proxies before": (300, 300, {"pass_s": None, "samples_before": 50}, "one pass", 350),
    "two passes": (300, 100, {"pass_s": PRICES}, "measured", 200 * 0.4 + 100 * 1.2),
    "two passes, all kept": (400, 200, {"pass_s": PRICES}, "measured", 200 * 0.4 + 200 * 1.2),
    "two passes, not measured": (300, 100, {"pass_s": None}, "assumed", 200 / 3 + 100),
    "masked": (200, 100, {}, "masked", 200),
}


@pytest.mark.parametrize("case", list(COSTS))
def test_a_run_costs_what_its_passes_do(case):
    forward, backward, also, rule, cost = COSTS[case]
    result = {"samples_forward": forward, "samples_backward": backward, **also}
    assert rule_of(result) == rule
    assert cost_of(result) == pytest.approx(cost)


@pytest.mark.parametrize("slower", [1, 10])
def test_a_slower_machine_changes_no_cost(slower):
    result = {"samples_forward": 300, "samples_backward": 100}
    prices = {name: slower * value for name, value in PRICES.items()}
    assert cost_of({**result, "pass_s": prices}) == pytest.approx(200)

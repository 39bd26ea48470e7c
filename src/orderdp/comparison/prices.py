"""What a run cost, in training steps of full data, by the prices of its passes.

A training step of a sample is a forward pass, a backward pass and its share of the optimiser's step. Most methods train
every sample that passes through the model, so their cost is the number of samples. A method that chooses within the
batch makes two passes: a first one without gradient over the whole batch, and a training step of the samples kept. What
proxies trained before the run counts too, in full for each run that needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

FORWARD = 1 / 3  # of a training step, if it was not measured: a backward pass as two forward passes

Rule: TypeAlias = Literal["one pass", "measured", "assumed", "masked"]


def rule_of(result: Mapping[str, Any]) -> Rule:
    """Returns how the passes of a run are priced.

    Returns:
        "one pass" if all samples that passed through the model were trained. "measured" if the run measured the prices,
        and "assumed" if it did not. "masked" for runs of earlier releases that chose within the batch: they masked the
        loss, so the backward pass ran over the whole batch.
    """
    if result["samples_forward"] == result["samples_backward"]:
        return "one pass"
    if "pass_s" not in result:
        return "masked"
    return "assumed" if result["pass_s"] is None else "measured"


def cost_of(result: Mapping[str, Any]) -> float:
    """Returns what a run cost, in training steps of one sample of full data.

    >>> cost_of({"samples_forward": 150, "samples_backward": 50, "pass_s": {"first": 1, "kept": 5, "full": 4}})
    87.5
    >>> cost_of({"samples_forward": 50, "samples_backward": 50, "samples_before": 20})
    70.0
    """
    return int(result.get("samples_before", 0)) + _of_run(result)


def _of_run(result: Mapping[str, Any]) -> float:
    trained = result["samples_backward"]
    first, rule = result["samples_forward"] - trained, rule_of(result)
    if rule == "masked":
        return float(result["samples_forward"])
    if rule == "measured":
        prices = result["pass_s"]
        return float((first * prices["first"] + trained * prices["kept"]) / prices["full"])
    return float(first * FORWARD + trained)

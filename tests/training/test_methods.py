"""Every method trains and can be resumed, also where its number of steps depends on the losses."""

import json
import math

import pytest
import torch

from orderdp import SeTa
from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import resume, start
from orderdp.strategies.registry import BY_NAME
from orderdp.training.optim import build_schedule
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, total_steps

N = 200
OPEN = ["infobatch", "seta", "kakurenbo"]
# A subset in a file needs the file.
TRAINED_BY_RATIO = [name for name, cls in BY_NAME.items() if cls.ratio_setting is not None and cls.argument is None]


@pytest.mark.parametrize("strategy", TRAINED_BY_RATIO)
def test_every_method_trains(train, strategy):
    smoothing = {"label_smoothing": 0.0} if strategy == "kakurenbo" else {}
    folder = train(strategy=strategy, prune_ratio=0.5, epochs=3, **smoothing)
    result, metrics = folder.result(), folder.metrics()
    assert (result["epochs"], len(metrics)) == (3, 3)
    steps = total_steps(folder.recipe(), N)
    assert (steps is None) == (strategy in OPEN)
    if steps is None:
        assert metrics[0]["samples_forward"] <= result["samples_forward"] <= 3 * N
        assert result["steps"] <= most_steps(folder.recipe(), N) == 3 * math.ceil(N / 32)
        assert metrics[-1]["lr"] < 0.1 * max(line["lr"] for line in metrics)
    else:
        assert result["steps"] == steps
    batchwise = strategy in ("ordered_sgd", "selective_backprop")
    assert (result["samples_backward"] < result["samples_forward"]) == batchwise


def test_where_the_steps_are_open_the_rate_follows_the_share_of_the_run(train, tiny):
    """Each epoch's last rate is that of its end on a schedule with the steps of full data."""
    folder = train(strategy="infobatch", prune_ratio=0.9, epochs=4)
    recipe, metrics = folder.recipe(), folder.metrics()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    steps = most_steps(recipe, N)
    schedule = build_schedule(
        optimizer,
        total_steps=steps,
        max_lr=recipe.max_lr,
        pct_start=recipe.pct_start,
        div_factor=recipe.div_factor,
        final_div_factor=recipe.final_div_factor,
        name=recipe.schedule,
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    before = 0
    for epoch, line in enumerate(metrics):
        made, before = line["step"] - before, line["step"]
        assert line["lr"] == pytest.approx(rates[round((epoch + (made - 1) / made) / 4 * steps)], rel=1e-9)
    assert metrics[1]["step"] - metrics[0]["step"] < metrics[0]["step"]  # fewer steps an epoch


def test_a_fixed_number_of_steps_needs_epochs_of_known_length():
    with pytest.raises(
        ValueError, match=r"^max_steps needs epochs of known length, got 5 with strategy 'seta', whose ch"
    ):
        total_steps(Recipe(strategy=SeTa(prune_ratio=0.5, epochs=30), max_steps=5), N)


def test_the_shorter_schedule_takes_the_steps_that_the_method_made(tiny, tmp_path):
    path = tmp_path / "run"
    start(Comparison(tiny(strategy="infobatch", prune_ratio=0.8, epochs=3)), path, show=False)
    runs = {run["name"]: run for run in json.loads((path / "result.json").read_text())["runs"]}
    pruned, short = runs["InfoBatch-80-seed0"], runs["full-data-steps-of-InfoBatch-80-seed0"]
    assert short["steps"] == pruned["steps"] < runs["full-data-seed0"]["steps"]
    for name in ("full-data-steps-of-InfoBatch-80-seed0", "InfoBatch-80-seed0"):
        (path / name / "result.json").unlink()
    resume([path], show=False)
    again = {run["name"]: run for run in json.loads((path / "result.json").read_text())["runs"]}
    assert {name: run["digests"] for name, run in again.items()} == {name: run["digests"] for name, run in runs.items()}

"""`orderdp plan` on the command line."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orderdp.report.plan import as_page
from orderdp.theory import plan, proportional_draw

PLAN = ["plan", "--num-samples=1000", "--epochs=20", "--batch-size=32"]


def test_plan_prints_a_page(call):
    status, out, err = call(*PLAN, "--prune-ratio", "0.5")
    assert (status, err) == (0, "")
    assert out == as_page(plan(1_000, 0.5, epochs=20, batch_size=32)) + "\n"


@pytest.mark.parametrize(
    ("budget", "q"),
    [
        (["--steps", "320"], 512),
        (["--samples", "6000"], 300),
        (["--hours", "1.5", "--full-hours", "2"], 750),
        (["--prune-ratio", "0.9"], 100),
    ],
)
def test_plan_takes_any_budget_and_prints_json(call, budget, q):
    status, out, _ = call(*PLAN, *budget, "--json")
    assert (status, json.loads(out)["q"]) == (0, q)


def test_plan_shows_a_proportional_choice_by_losses(call, here):
    losses = np.random.default_rng(0).gamma(1.0, size=1_000)
    np.save("losses.npy", losses)
    status, out, err = call(*PLAN, "--prune-ratio", "0.7", "--losses", "losses.npy")
    assert (status, err) == (0, "")
    table = [re.split(r"  +", line.strip()) for line in out.splitlines()[-4:]]
    assert table[0] == ["uniform share", "hardest", "median", "easiest", "certain", "mean age", "dormant", "n_eff"]
    draw = proportional_draw(losses, 300, epochs=20)
    assert table[2][:3] == ["0.1", f"{draw.largest:.3g}", f"{draw.median:.3g}"]
    assert table[2][5:] == [f"{draw.mean_age:.3g}", f"{100 * draw.dormant:.1f} %", f"{draw.effective_samples:,.0f}"]
    status, out, _ = call(*PLAN, "--prune-ratio", "0.5", "--losses", "losses.npy", "--json")
    assert [row["uniform_share"] for row in json.loads(out)["proportional"]] == [0.0, 0.1, 0.3]
    for name, line in {
        "no.npy": "--losses must be an array in a .npy file, got no.npy (No such file or directory); "
        "write it with np.save",
        "text.npy": "--losses must be an array in a .npy file, got text.npy (",
        "empty.npy": "--losses must be an array in a .npy file, got empty.npy (",
        "several.npz": "--losses must be an array in a .npy file, got several.npz (",
        "words.npy": "--losses must be an array in a .npy file, got words.npy (",
        "short.npy": "--losses must be one for each of the 1000 samples, got shape (3,); write --num-samples 3",
        "square.npy": "--losses must be one for each of the 1000 samples, got shape (2, 500); write one number",
        "none.npy": "--losses must be finite, got none that is; train for more epochs",
    }.items():
        if name in ("text.npy", "empty.npy"):
            (here / name).write_text("1 2 3" if name == "text.npy" else "")
        elif name == "several.npz":
            np.savez(name, losses=losses)
        elif name != "no.npy":
            of = {"short": losses[:3], "words": np.array(["a"] * 1000), "none": np.full(1000, np.inf)}
            of["square"] = losses.reshape(2, 500)
            np.save(name, of[name.removesuffix(".npy")])
        status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--losses", name)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"orderdp: {line}")


def test_samples_without_a_loss_are_left_out_of_the_proportional_choice(call, here):
    losses = np.random.default_rng(0).gamma(1.0, size=1_000)
    np.save("losses.npy", np.r_[np.full(300, np.inf), [-np.inf, np.nan], losses[302:]])
    status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--losses", "losses.npy", "--json")
    assert (status, err) == (
        0,
        "losses: 302 of 1,000 samples have none yet; the table of a proportional choice is of the others, at the same "
        "prune ratio\n",
    )
    expected = proportional_draw(losses[302:], 349, epochs=20, uniform_share=0.0)
    assert json.loads(out)["proportional"][0]["largest"] == expected.largest


def test_the_settings_of_the_proportional_choice_are_options(call, here):
    losses = np.random.default_rng(0).gamma(1.0, size=1_000)
    np.save("losses.npy", losses)
    shape = ["--floor", "-0.5", "--ceiling", "0.69", "--power", "4"]
    status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--losses", "losses.npy", "--json", *shape)
    assert (status, err) == (0, "")
    for row in json.loads(out)["proportional"]:
        share = row["uniform_share"]
        of = {"floor": -0.5, "ceiling": 0.69, "power": 4, "uniform_share": share}
        assert row == dataclasses.asdict(proportional_draw(losses, 500, epochs=20, **of))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["--power", "0"], "--power must be finite and above 0, got 0; write 1 for the excess itself"),
        (["--power", "much"], "--power must be a number, got 'much'; write a number such as 2"),
        (["--ceiling", "high"], "--ceiling must be a number, got 'high'; write a number such as 0.9"),
        (["--floor", "low"], "--floor must be a number, got 'low'; write a number such as 0.0"),
        (["--floor", "nan"], "--floor must be finite, got nan; leave it out for the lowest loss"),
        (["--floor", "1", "--ceiling", "0.5"], "--ceiling must lie above the floor, got 0.5 and 1; write inf for none"),
    ],
)
def test_settings_that_the_choice_refuses_are_named_by_their_options(call, here, settings, line):
    np.save("losses.npy", np.ones(1_000))
    status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--losses", "losses.npy", *settings)
    assert (status, out, err) == (2, "", f"orderdp: {line}\n")


def test_settings_of_the_choice_without_losses_are_refused(call):
    status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--power", "4")
    assert (status, out) == (2, "")
    assert err == "orderdp: --power needs the losses of the samples, got 4 without them; write --losses FILE\n"


def test_equal_losses_are_said_to_give_a_uniform_choice(call, here):
    np.save("losses.npy", np.ones(1_000))
    for ratio, ends in ("0.5", True), ("0", False):
        _, out, _ = call(*PLAN, "--prune-ratio", ratio, "--losses", "losses.npy")
        assert out.endswith("\n\nAll losses are equal, so the choice is uniform.\n") == ends


def test_the_losses_of_a_pruner_are_saved_as_the_documents_say(call, here):
    text = (Path(__file__).parents[2] / "docs/plan.md").read_text(encoding="utf-8")
    code = text.partition("```python\nimport numpy")[2].partition("```")[0]
    epoch = (
        "for index, losses in ((batch, torch.rand(len(batch))) for batch in torch.tensor(pruner.begin_epoch().indices)"
        ".split(128)):\n    pruner.record(index, losses)\n"
    )
    exec(f"import torch\nimport numpy{code.replace('...', epoch).replace('50_000', '1_000')}", {})
    status, out, err = call(*PLAN, "--prune-ratio", "0.7", "--losses", "losses.npy")
    assert (status, err.startswith("losses: 7")) == (0, True)
    assert "uniform share" in out


def test_plan_draws(call, here):
    status, out, err = call(*PLAN, "--prune-ratio", "0.5", "--plot", "plan.svg")
    assert (status, [path.name for path in here.iterdir()]) == (0, ["plan.svg"])
    assert err == "\nplot: plan.svg\n"
    assert out.startswith("1,000 samples, 20 epochs")


REFUSED_PLANS = {
    "no budget": ("", "one budget is needed, got none; give --prune-ratio, steps, samples or hours"),
    "percent": ("--prune-ratio 50", "--prune-ratio is a fraction and must lie in [0, 1), got 50; for 50 % write 0.5"),
    "no samples": (
        "--steps 40 --num-samples 0",
        "--num-samples must be at least 1, got 0; write a positive whole number",
    ),
    "half a batch": ("--steps 40 --batch-size 0.5", "--batch-size must be a whole number, got 0.5; write an int"),
    "words": ("--steps 40 --epochs ten", "--epochs must be a whole number, got 'ten'; write an int"),
    "hours of what": (
        "--hours 3",
        "--hours must be a share of something, got hours=3 without full_hours; "
        "give the hours of a run on full data as --full-hours",
    ),
}


@pytest.mark.parametrize(("options", "line"), list(REFUSED_PLANS.values()), ids=list(REFUSED_PLANS))
def test_a_wrong_plan_gets_one_line_and_leaves_no_trace(call, here, options, line):
    assert call(*PLAN, *options.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("plan.doc", "a plot is a picture such as .png, .svg or .pdf, got plan.doc; write another ending"),
        ("batch_size/p.png", "a plot needs an existing folder, got batch_size/p.png; create that folder first"),
    ],
)
def test_a_plot_that_cannot_be_written_gets_one_line_after_the_page(call, here, path, line):
    status, out, err = call(*PLAN, "--steps", "40", "--plot", path)
    assert (status, err) == (2, f"orderdp: {line}\n")
    assert out.startswith("1,000 samples")
    assert not list(here.iterdir())


def test_a_plan_without_sizes_is_a_mistaken_call(call):
    status, _, err = call("plan", "--prune-ratio", "0.5")
    assert status == 2
    assert err.startswith("orderdp plan: the following arguments are required: --num-samples, --epochs, --batch-size; ")


def test_planning_loads_no_torch():
    code = (
        "import sys; from orderdp.cli import main; "
        "main(['plan', '--num-samples=10000000', '--epochs=90', '--batch-size=1024', '--prune-ratio=0.4']); "
        "assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("10,000,000 samples, 90 epochs")


def test_a_plan_takes_no_shortened_options(call):
    status, _, err = call(*PLAN, "--prune=0.5")
    assert (status, "no option --prune=0.5; did you mean '--prune-ratio'?" in err) == (2, True)


def test_a_plot_without_matplotlib_says_what_to_install(call, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, _, err = call(*PLAN, "--prune-ratio", "0.5", "--plot", "p.png")
    assert (status, err) == (1, "orderdp: plots need matplotlib: pip install matplotlib\n")

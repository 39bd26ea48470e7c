"""Every example runs as a user would run it, prints what its header says, and keeps its claim."""

import importlib.util
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import orderdp
from reference.scripts import SOURCE

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?"
# What depends on the machine beside the numbers: the device, and which way a measured difference goes.
VARIES = r"cuda|cpu|pruning is (?:better|worse) than the [\w ]+|statistically indistinguishable.*"


# The frameworks that examples need and `orderdp[train]` does not bring.
FRAMEWORKS = {
    "hf_text_classification": "transformers",
    "hf_causal_lm": "transformers",
    "ignite_engine": "ignite",
    "lightning_fit": "lightning",
    "skorch_net": "skorch",
}


@pytest.fixture
def run(scripts, tmp_path):
    """Runs an example on one thread, where warnings are errors."""

    def ran(name: str) -> subprocess.CompletedProcess[str]:
        if importlib.util.find_spec(FRAMEWORKS.get(name, "torch")) is None:
            pytest.skip(f"needs {FRAMEWORKS[name]}")
        return scripts.run(EXAMPLES / f"{name}.py", tmp_path, [SOURCE])

    return ran


def example(name: str) -> ModuleType:
    """The example as a module; its `main` does not run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]


def shape(text: str) -> list[str]:
    """The lines of an output without what may differ from machine to machine."""
    lines = [re.sub(NUMBER, "#", re.sub(VARIES, "#", line)) for line in text.splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, line)]


def four_lines(lines: list[str], folder: Path) -> None:
    steps, full = numbers(lines[0])
    selected, total, visits = numbers(lines[1])
    assert (selected, total) == (718, 1437)
    assert (steps, full) == (20 * -(-718 // 32), 20 * -(-1437 // 32))
    assert visits == 20 * selected
    assert numbers(lines[2])[0] > 93


def resume(lines: list[str], folder: Path) -> None:
    killed, total = numbers(lines[0])
    resumed, epoch = numbers(lines[1])
    assert resumed < killed < total
    steps_per_epoch = total / 8
    assert resumed // steps_per_epoch == epoch
    assert resumed % steps_per_epoch > 0  # inside the epoch
    assert lines[2].endswith("True")


def mixed_precision(lines: list[str], folder: Path) -> None:
    first_scale, last_scale = numbers(lines[0])
    first_loss, last_loss = numbers(lines[1])
    assert last_scale != first_scale
    assert 1 < first_loss < 2.5  # ln 10 before training, where a scaled loss would be in the thousands
    assert last_loss < 0.3
    assert numbers(lines[2]) == [0]
    assert numbers(lines[3])[0] > 93


def gradient_accumulation(lines: list[str], folder: Path) -> None:
    made, planned, batches = numbers(lines[0])
    before, after = numbers(lines[1])
    assert made == planned
    assert batches == 4 * made  # here every epoch's last step has four batches too
    assert after < 0.3 < before
    assert numbers(lines[2])[1] < 1e-12


def regression(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [1000, 2000]
    assert 0.85 < float(lines[1].split()[2].rstrip(",")) < 0.97


def multi_label(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [750, 1500]
    learnt, always = numbers(lines[1])[1:]
    assert learnt > always + 0.1


def language_model(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [800, 1600]
    shortest, longest = numbers(lines[1])
    assert longest > 5 * shortest  # so there is much padding
    before, after = numbers(lines[2])
    assert before > 6
    assert after < 4.2  # knowing only how often each character occurs gives 4.7


def small_gpt(lines: list[str], folder: Path) -> None:
    windows, length = numbers(lines[0])
    assert windows == (200_000 - 65) // 64 + 1
    assert length == 64
    (stopped,), (resumed,) = numbers(lines[1]), numbers(lines[2])
    assert stopped == resumed == 70
    before, after, steps = numbers(lines[3])
    assert steps == 3 * -(-1562 // 32)
    assert resumed % (steps / 3) > 0  # inside an epoch
    assert before > 8 > 5 > after
    assert lines[4].endswith("True")


def class_weights(lines: list[str], folder: Path) -> None:
    drop_in, torchs, ours = numbers(lines[0])
    assert ours == torchs
    assert drop_in > 2 * torchs
    (of_data,) = numbers(lines[1])
    plain, weighted, both = (numbers(line) for line in lines[2:])
    share, recall = 0, 1
    assert plain[share] > of_data  # hard samples are kept
    assert weighted[recall] > plain[recall] + 10
    assert both[recall] > plain[recall] + 10
    assert both[share] > weighted[share] + 1


def infobatch(lines: list[str], folder: Path) -> None:
    steps = numbers(lines[0])
    assert len(steps) == 16
    assert steps[0] == steps[-2] == steps[-1] == -(-1437 // 32)  # the first epoch and the annealed ones
    assert max(steps[1:-2]) < steps[0]
    assert numbers(lines[1])[0] > 15
    last_rate, largest_change = numbers(lines[2])
    assert last_rate < 1e-4
    assert largest_change < 0.005  # of a highest rate of 0.3; with a wrong number of steps it jumps between epochs
    assert numbers(lines[3])[0] > 90


def tensorboard_log(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [13, 10]
    first, total, last = numbers(lines[1])
    assert total - first == round(total / 2)
    assert last < 0.05 * total
    events = EventAccumulator(str(folder / "runs" / "tensorboard_log")).Reload()
    assert set(events.Tags()["scalars"]) == {f"pruner/{field}" for field in orderdp.Report.__dataclass_fields__}
    visits = [(event.step, event.value) for event in events.Scalars("pruner/visits")]
    assert visits == [(epoch, (total - first) * (epoch + 1)) for epoch in range(10)]


def two_passes(lines: list[str], folder: Path) -> None:
    visits, epochs, selected = numbers(lines[0])
    assert visits == epochs * selected
    assert lines[1].endswith("True")
    assert numbers(lines[2])[0] > 93


def choose_in_batch(lines: list[str], folder: Path) -> None:
    steps, first, second = numbers(lines[0])
    assert (steps, first) == (20 * 45, 20 * 1437)
    assert second == 20 * 45 * 16  # half of 31 or 32
    assert numbers(lines[1])[0] == second
    assert lines[1].endswith("True")
    assert numbers(lines[2])[0] > 93


def stream(lines: list[str], folder: Path) -> None:
    full, fresh, remembered = (numbers(line.partition("  ")[2]) for line in lines)
    assert full[:3] == [20 * 45, 20 * 1437, 0]
    assert fresh[1] == remembered[1] == 20 * 1437 // 2
    assert fresh[2] == round(0.5**0.5 * 20 * 1437)
    assert remembered[2] == 0
    assert min(full[3], fresh[3], remembered[3]) > 93


def small_judge(lines: list[str], folder: Path) -> None:
    share, judge = numbers(lines[0])
    assert judge < 20 < 40 < share < 80
    steps, judged = numbers(lines[1])
    assert steps == 20 * 12
    assert judged > 93
    fewer, plain = numbers(lines[2])
    assert fewer == pytest.approx(share / 100 * steps, abs=0.01 * steps)
    assert plain > 90


def label_noise(lines: list[str], folder: Path) -> None:
    wrong = -1
    orderdp_arm, uniform, short, full = ([*numbers(line.partition("steps")[2])] for line in lines[1:5])
    steps = [int(line.partition(" steps")[0].split()[-1]) for line in lines[1:5]]
    assert steps == [600, 600, 600, 1920]
    assert orderdp_arm[wrong] > 30 > 21 > max(uniform[wrong], short[wrong], full[wrong])
    assert uniform[0] - orderdp_arm[0] > 2
    assert short[0] > full[0]  # long training learns the wrong labels
    difference, worse, seeds = numbers(lines[5])
    assert difference == pytest.approx(orderdp_arm[0] - uniform[0], abs=0.11)
    assert 4 <= worse <= seeds == 5


def bfloat16(lines: list[str], folder: Path) -> None:
    tied, plain = (numbers(line.partition("  ")[2]) for line in lines)
    zeros, samples, _, values, found, top = range(6)
    assert tied[samples] == plain[samples] == 1797
    assert tied[zeros] > 60 > 5 > plain[zeros]
    assert plain[values] > 10 * tied[values]
    assert tied[top] == plain[top] == 30
    assert tied[found] < 85 < plain[found] == 100


def static_start(lines: list[str], folder: Path) -> None:
    (first_with, _, last_with), (first_without, _, last_without) = map(numbers, lines[:2])  # the 2 of EL2N between
    assert first_with > 65  # OrderDP draws 71 % and keeps the hardest of them
    assert 45 < first_without < 55
    assert abs(last_with - last_without) < 10  # the losses have taken over
    assert min(numbers(lines[2])) > 93


def accelerate_loop(lines: list[str], folder: Path) -> None:
    whole, first, second = (numbers(line) for line in lines[:3])
    assert whole == [0, 6, 6 * 16, 6 * 16, 0]  # 1,000 samples at 2 x 32 a step
    assert first == [0, 3, 3 * 16, 6 * 16, 0.01]
    assert second == [3, *whole[1:]]
    assert lines[3].endswith("True")
    assert numbers(lines[4])[0] > 80
    assert (folder / "runs/accelerate_loop/stopped/epoch5/pruned_loader.bin").exists()


def ignite_engine(lines: list[str], folder: Path) -> None:
    assert [numbers(line)[1] for line in lines[:4]] == [63, 63 + 32, 63 + 64, 63 + 96]
    assert numbers(lines[4]) == [63 + 96, 0]
    assert numbers(lines[5])[0] > 80


def skorch_net(lines: list[str], folder: Path) -> None:
    assert [numbers(line)[:2] for line in lines[:4]] == [[epoch, 32] for epoch in range(1, 5)]
    assert numbers(lines[3])[2] < numbers(lines[0])[2]
    assert numbers(lines[4])[0] > 80


def timm_train(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [12 * 12, 16, 12, 2 * 12]  # 200 of 400 samples, in full batches of 16
    assert numbers(lines[1])[0] > 80


def hf_text_classification(lines: list[str], folder: Path) -> None:
    assert numbers(lines[0]) == [12 * -(-1000 // 32), 0]
    assert numbers(lines[1]) == [1000, 2000, 12 * 1000]
    assert numbers(lines[2])[0] > 90


def hf_causal_lm(lines: list[str], folder: Path) -> None:
    stopped, planned = numbers(lines[0])
    assert stopped % 15 > 0  # after the last checkpoint
    assert (stopped // 15 * 15) % (planned / 5) > 0  # which is inside an epoch
    assert numbers(lines[1]) == [planned, 0]
    assert numbers(lines[2]) == [500, 1000, 5 * 500]
    before, after = numbers(lines[3])
    assert before > 6
    assert after < 4.2  # knowing only how often each character occurs gives 4.7
    assert lines[4].endswith("True")


def lightning_fit(lines: list[str], folder: Path) -> None:
    whole, resumed = (numbers(line) for line in lines[:2])
    assert whole == resumed
    assert whole[:2] == [6 * -(-718 // 32), 0]
    assert whole[2] > 90
    assert lines[2].endswith("True")
    assert (folder / "runs/lightning_fit/step=50.ckpt").exists()


def worth_it(lines: list[str], folder: Path) -> None:
    told = {
        name: [float(value) for value in values.split(", ")]
        for name, values in (line.split(": ") for line in lines[15:18])
    }
    assert list(told) == ["pruned", "shorter schedule", "full data"]
    assert min(map(min, told.values())) > 85
    for name, line in zip(("shorter schedule", "full data"), lines[18:20], strict=True):
        mean, confidence, low, high, seeds = numbers(line)
        differences = [one - other for one, other in zip(told["pruned"], told[name], strict=True)]
        assert mean == pytest.approx(statistics.fmean(differences), abs=0.011)  # of numbers with two decimals
        assert (confidence, seeds) == (95, 5)
        assert low < mean < high
    low, high = numbers(lines[18])[2:4]
    assert ("Worth it" in lines[20]) == (low > 0)
    assert ("Open" in lines[20]) == (low <= 0 <= high)


CLAIMS: dict[str, Callable[[list[str], Path], None]] = {
    claim.__name__: claim
    for claim in (
        *(four_lines, resume, mixed_precision, gradient_accumulation, regression, multi_label, language_model),
        *(
            small_gpt,
            class_weights,
            bfloat16,
            label_noise,
            infobatch,
            tensorboard_log,
            two_passes,
            choose_in_batch,
            small_judge,
            stream,
            static_start,
            lightning_fit,
            accelerate_loop,
            ignite_engine,
            skorch_net,
            timm_train,
            hf_text_classification,
            hf_causal_lm,
            worth_it,
        ),
    )
}


SLOW = {"label_noise", "small_gpt"}  # over ten seconds


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CLAIMS]
)
def test_an_example_prints_what_its_header_says_and_keeps_its_claim(name, run, tmp_path):
    done = run(name)
    assert (done.returncode, done.stderr) == (0, "")
    shown = header(name).partition("\nPrints")[2].partition(":\n\n")[2]
    assert shape(done.stdout) == shape(shown)
    CLAIMS[name](done.stdout.splitlines(), tmp_path)


def test_every_example_is_run_and_stands_in_the_table():
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    assert set(CLAIMS) == files
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\.py\]\((\w+)\.py\) \| \S", table, flags=re.MULTILINE) == [(n, n) for n in CLAIMS]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_header_states_a_claim_and_the_command_that_runs_it(name):
    text = header(name)
    assert "\n\nClaim: " in text
    assert f"\n    python examples/{name}.py" in text


def test_without_tensorboard_the_example_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SystemExit, match=r"^this example needs TensorBoard: pip install tensorboard$"):
        example("tensorboard_log")


@pytest.mark.parametrize(
    "strategy",
    [
        orderdp.OrderDP(prune_ratio=0.5),
        orderdp.InfoBatch(prune_probability=0.5),  # weights of the epoch
        orderdp.OrderDP(explore=0.9, exploit=0.5, per="iteration", fresh=True),  # a choice within the batch
        orderdp.UCB(prune_ratio=0.3),  # averages
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_the_coefficients_of_two_passes_reduce_and_record_as_update_does(strategy):
    record = example("two_passes").record
    ours, theirs = (orderdp.Pruner(strategy, 60, seed=1) for _ in range(2))
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        pairs = zip(ours.loader(range(60), batch_size=8), theirs.loader(range(60), batch_size=8), strict=True)
        for (index, _), (same, _) in pairs:
            assert torch.equal(index, same)
            losses = torch.rand(len(index), generator=draws).requires_grad_()
            expected = theirs.update(index, losses)
            coefficients = record(ours, index, losses)
            assert (coefficients * losses).sum().item() == pytest.approx(expected.item(), rel=1e-5)
            assert torch.equal(coefficients, torch.autograd.grad(expected, losses)[0])
    for name, column in theirs.scores().items():
        assert torch.equal(ours.scores()[name], column), name


def test_the_language_model_trains_the_mean_over_tokens_without_padding():
    module = example("language_model")
    tokens = module.padded([torch.tensor([1, 2, 3]), torch.tensor([1, 2])])
    losses, lengths = module.losses_of(module.Model(), tokens)
    assert lengths.tolist() == [2, 1]
    assert losses[1, 1].item() == 0  # padding
    pruner = orderdp.Pruner(orderdp.FullData(), 2)
    index, _ = next(iter(pruner.loader(range(2), batch_size=2)))
    trained = pruner.update(index, (losses.sum(1) / lengths)[index], weights=lengths.float()[index])
    assert trained.item() == pytest.approx((losses.sum() / 3).item())


def test_a_loss_that_broadcast_is_refused_as_the_regression_example_says():
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), 10, seed=0)
    index, targets = next(iter(pruner.loader(torch.rand(10), batch_size=5)))
    predictions = torch.rand(5, 1, requires_grad=True)
    with pytest.raises(ValueError, match=r"losses has shape \(5, 5\)"):
        pruner.update(index, (predictions - targets) ** 2)

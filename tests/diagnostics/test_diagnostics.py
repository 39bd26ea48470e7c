"""Coverage, stability and alignment against slow definitions, and against what theory says of OrderDP."""

import itertools
import math
import statistics
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from orderdp import IndexedDataset, InfoBatch, Memory, OrderDP, Pruner
from orderdp.diagnostics import alignment, correlation, coverage, gini, gradient_norm, jaccard, rolling_deviation

counts = st.lists(st.integers(0, 9), min_size=1, max_size=40)


@given(counts)
def test_gini_is_half_the_mean_difference_over_the_mean(values):
    pairs = [abs(a - b) for a, b in itertools.product(values, repeat=2)]
    mean = statistics.fmean(values)
    assert gini(values) == pytest.approx(statistics.fmean(pairs) / (2 * mean) if mean else 0, abs=1e-12)


@given(counts, st.integers(0, 5))
def test_coverage_counts(visits, more):
    epochs = max(visits) + more + 1
    labels = [number % 3 for number in range(len(visits))]
    found = coverage(torch.tensor(visits), labels=np.array(labels), epochs=epochs)
    assert found.never_seen == visits.count(0) / len(visits)
    assert found.histogram.tolist() == [visits.count(number) for number in range(max(visits) + 1)]
    assert found.realised_ratio == pytest.approx(1 - sum(visits) / (epochs * len(visits)))
    for number, share in enumerate(found.class_shares):
        mine = sum(count for count, label in zip(visits, labels, strict=True) if label == number)
        assert share == pytest.approx(mine / max(sum(visits), 1))
    assert coverage(visits).realised_ratio is coverage(visits).class_shares is None


def test_the_realised_ratio_of_a_pruner_is_its_prune_ratio():
    pruner = Pruner(OrderDP(prune_ratio=0.3), 200)
    for _ in range(5):
        index = torch.from_numpy(pruner.begin_epoch().indices)
        pruner.update(index, torch.ones(140, requires_grad=True))
    assert coverage(pruner.visits(), epochs=5).realised_ratio == pytest.approx(0.3)


def test_ages_are_the_epochs_since_a_sample_was_trained():
    pruner, trained = Pruner(OrderDP(explore=0.5, exploit=0.5), 40), {}
    assert pruner.ages().tolist() == [-1] * 40
    for epoch in range(6):
        index = torch.from_numpy(pruner.begin_epoch().indices)
        assert pruner.ages().tolist() == [epoch - trained[i] if i in trained else -1 for i in range(40)]
        pruner.update(index, torch.ones(10, requires_grad=True))
        trained.update(dict.fromkeys(index.tolist(), epoch))
    ages = [5 - trained[i] for i in range(40) if i in trained]
    assert pruner.ages().tolist() == [5 - trained[i] if i in trained else -1 for i in range(40)]
    found, report = coverage(pruner.visits(), ages=pruner.ages()), pruner.report()
    assert found.mean_age == report.mean_age == pytest.approx(statistics.fmean(ages))
    assert found.max_age == report.max_age == max(ages) > 1


def test_of_samples_that_were_never_trained_there_is_no_age():
    found, report = coverage([0, 0], ages=[-1, -1]), Pruner(OrderDP(), 10).report()
    assert (found.max_age, report.max_age) == (0, 0)
    assert math.isnan(found.mean_age)
    assert math.isnan(report.mean_age)
    assert coverage([0, 0]).mean_age is coverage([0, 0]).max_age is None


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_jaccard_is_that_of_sets(first, second):
    if first | second:
        assert jaccard(sorted(first), torch.tensor(sorted(second), dtype=torch.int64)) == len(first & second) / len(
            first | second
        )


def test_jaccard_of_uniform_draws_is_what_its_text_says():
    rng = np.random.default_rng(0)
    n, q = 2_000, 600
    values = [jaccard(rng.permutation(n)[:q], rng.permutation(n)[:q]) for _ in range(300)]
    assert abs(np.mean(values) - q / (2 * n - q)) <= 5 * np.std(values) / math.sqrt(300) + 1 / n


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("prune_ratio", [0.4, 0.7])
def test_the_choices_of_orderdp_are_at_most_as_similar_as_its_draws(prune_ratio, noise):
    """Where the order of the losses stays, they are as similar; where it changes, less."""
    n = 4_000
    pruner, rng, before, values = Pruner(OrderDP(prune_ratio=prune_ratio), n), np.random.default_rng(0), None, []
    for epoch in range(40):
        chosen = pruner.begin_epoch().indices
        losses = (chosen + 1) / n + noise * rng.standard_normal(len(chosen))
        pruner.update(torch.from_numpy(chosen), torch.tensor(losses, requires_grad=True))
        if before is not None and epoch > 25:
            values.append(jaccard(before, chosen))
        before = chosen
    share = math.sqrt(1 - prune_ratio)
    most = share / (2 - share)
    assert max(values) < most + 0.02
    assert (np.mean(values) > most - 0.01) == (noise == 0)


@given(st.lists(st.floats(-5, 5), max_size=20), st.integers(2, 6))
def test_the_rolling_deviation_is_that_of_each_window(values, window):
    expected = [statistics.stdev(values[i : i + window]) for i in range(len(values) - window + 1)]
    np.testing.assert_allclose(rolling_deviation(values, window), expected, atol=1e-7)


def test_the_rolling_deviation_takes_little_memory(monkeypatch):
    values = np.random.default_rng(0).normal(size=1_000)
    expected = rolling_deviation(values, 300)
    monkeypatch.setattr("orderdp.diagnostics.dynamics._MOST_NUMBERS", 3_000)  # ten windows at a time
    tracemalloc.start()
    found = rolling_deviation(values, 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == expected.tolist()
    assert peak < 10 * 3_000 * 8 < 700 * 300 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_norm_is_that_of_the_gradient_in_one_piece(dtype):
    rng = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).to(dtype)
    model[0].bias.requires_grad_(False)
    assert float(gradient_norm(model.parameters())) == 0
    model(torch.randn(7, 5, generator=rng, dtype=dtype)).square().sum().backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    assert len(flat) == 20 + 12 + 3
    found = gradient_norm(model.parameters())
    assert float(found) == pytest.approx(float(flat.norm()), rel=1e-6)
    assert (found.shape, found.dtype, found.requires_grad) == ((), dtype, False)


series = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=12)


@given(series)
def test_the_correlation_is_pearson_s(pairs):
    first, second = ([float(pair[place]) for pair in pairs] for place in (0, 1))
    found = correlation(torch.tensor(first), np.array(second))
    if len(pairs) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(statistics.correlation(first, second), abs=1e-9)


def test_diagnostics_take_tensors_with_a_gradient():
    values = torch.tensor([1.0, 3.0, 3.0], requires_grad=True)
    assert rolling_deviation(values, 2).tolist() == rolling_deviation([1.0, 3.0, 3.0], 2).tolist()
    assert gini(values) == gini([1.0, 3.0, 3.0])


def test_an_empty_set_of_ids_has_nothing_in_common():
    assert jaccard([], [1]) == 0


N, BATCH = 60, 7


@pytest.fixture
def problem():
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, 5, generator=rng, dtype=torch.float64)
    labels = torch.randint(3, (N,), generator=rng)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=rng)
    order = torch.randperm(N, generator=rng)
    batches = [(part, (inputs[part], labels[part])) for part in order.split(BATCH)]

    def losses_of(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return model.eval(), losses_of, batches, (inputs, labels)


def flat_gradient(model, loss):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("weighted", [False, True])
def test_alignment_is_that_of_autograd(problem, weighted):
    model, losses_of, batches, everything = problem
    chosen = torch.tensor([3, 17, 5, 40])
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0]) if weighted else None
    losses = losses_of(model, everything)
    factor = torch.ones(4) if weights is None else weights
    mine = flat_gradient(model, (losses[chosen] * factor).mean())
    full = flat_gradient(model, losses_of(model, everything).mean())
    found = alignment(model, losses_of, batches, chosen, weights=weights)
    assert set(found) == {"full"}
    assert found["full"].cosine == pytest.approx(float(torch.cosine_similarity(mine, full, dim=0)), rel=1e-6)
    assert found["full"].norm_ratio == pytest.approx(float(mine.norm() / full.norm()), rel=1e-6)


def test_alignment_takes_a_selection_as_it_is(problem):
    model, losses_of, batches, everything = problem
    losses = losses_of(model, everything).detach().float().numpy()
    selection = InfoBatch().select(Memory(N, 1, {"loss": losses}), np.random.default_rng(0))
    found = alignment(model, losses_of, batches, selection.indices, weights=selection.weights)
    tensors = (torch.from_numpy(array) for array in (selection.indices, selection.weights))
    assert found == alignment(model, losses_of, batches, next(tensors), weights=next(tensors))
    assert found != alignment(model, losses_of, batches, selection.indices)


@pytest.mark.parametrize("weights", [torch.ones(1), torch.ones(2), torch.ones(3, 1), np.ones(4)], ids=str)
def test_weights_of_another_number_of_samples_get_one_line(problem, weights):
    model, losses_of, batches, _ = problem
    with pytest.raises(ValueError, match=r"^weights has one factor for each of the 3 chosen samples, got shape \("):
        alignment(model, losses_of, batches, torch.tensor([1, 2, 3]), weights=weights)


def test_sizes_of_another_choice_get_one_line(problem):
    model, losses_of, batches, _ = problem
    with pytest.raises(
        ValueError, match=r"^sizes must be \(s, q\) with the q of the selection, got \(9, 4\) for 3 chosen"
    ):
        alignment(model, losses_of, batches, torch.tensor([1, 2, 3]), sizes=(9, 4))


def test_all_samples_align_with_the_full_gradient_and_the_top_with_the_surrogate_s(problem):
    model, losses_of, batches, everything = problem
    found = alignment(model, losses_of, batches, torch.arange(N), sizes=(N, N))
    for one in found.values():
        assert tuple(one) == pytest.approx((1, 1), rel=1e-6)
    top = losses_of(model, everything).argsort(descending=True)[:20]
    found = alignment(model, losses_of, batches, top, sizes=(N, 20))
    assert tuple(found["surrogate"]) == pytest.approx((1, 1), rel=1e-6)
    assert found["full"].cosine < 0.99


def test_orderdp_s_gradient_aligns_with_the_surrogate_s_better_than_with_the_full_one(problem):
    model, losses_of, batches, everything = problem
    scores = losses_of(model, everything).detach().numpy().astype(np.float32)
    strategy = OrderDP(explore=0.9, exploit=0.4)
    rng = np.random.default_rng(0)
    cosines = []
    for epoch in range(20):
        kept = torch.from_numpy(strategy.select(Memory(N, epoch, {"score": scores}), rng).indices)
        found = alignment(model, losses_of, batches, kept, sizes=strategy.sizes(N))
        cosines.append((found["surrogate"].cosine, found["full"].cosine))
    assert np.mean(cosines, axis=0)[0] > np.mean(cosines, axis=0)[1]


def test_measuring_leaves_the_model_as_it_was(problem):
    model, losses_of, batches, _ = problem
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alignment(model, losses_of, batches, torch.tensor([1, 2]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: coverage([1, 2], epochs=0), "epochs must be at least 1, got 0"),
        (lambda: gini([1.0, math.nan]), "numbers must be finite, got nan; leave it out"),
        (lambda: gini([1.0, math.inf]), "numbers must be finite, got inf; leave it out"),
        (
            lambda: jaccard(torch.tensor([True, False]), torch.tensor([False, True])),
            r"ids are positions in the data set, got dtype bool; write np.flatnonzero\(mask\)",
        ),
        (lambda: jaccard([1.5], [2]), "ids are positions in the data set, got dtype float64; write whole numbers"),
        (lambda: coverage([[1]]), r"one number a sample is needed, \(n,\), got shape \(1, 1\)"),
        (lambda: coverage([0.5]), "visits holds whole numbers, got dtype float64; pass an integer array"),
        (lambda: coverage([-1]), "numbers must not be negative, got -1"),
        (lambda: coverage([1, 2], labels=[0]), r"labels has one class for each of the 2 samples, got shape \(1,\)"),
        (
            lambda: coverage([1, 3], epochs=2),
            "epochs must be at least the 3 visits of a sample, got 2; write the epochs",
        ),
        (lambda: correlation([1.0, 2.0], [1.0]), r"both series have shape \(t,\), got \(2,\) and \(1,\); pass one nu"),
        (lambda: correlation([[1.0]], [[1.0]]), r"both series have shape \(t,\), got \(1, 1\) and \(1, 1\)"),
        (lambda: coverage([1, 2], ages=[0]), r"ages holds a whole number for each of the 2 samples, got int64 of shap"),
        (lambda: coverage([1], ages=[0.5]), r"ages holds a whole number for each of the 1 samples, got float64 of sh"),
        (lambda: jaccard([], []), "at least one id is needed, got none"),
        (lambda: jaccard([1, 1], [2]), "ids must be distinct, got some repeated"),
        (lambda: rolling_deviation([1.0], 1), "window must be at least 2, got 1"),
        (lambda: rolling_deviation([[1.0]], 2), r"values has shape \(t,\), got \(1, 1\)"),
    ],
)
def test_wrong_arguments_get_one_line(call, line):
    with pytest.raises(ValueError, match=rf"^{line}"):
        call()


def test_epochs_are_a_whole_number():
    with pytest.raises(TypeError, match=r"^epochs must be a whole number, got 2.5; write an int$"):
        coverage([1, 2], epochs=2.5)


def test_measuring_leaves_the_generators_as_they_were(problem):
    model, losses_of, _, (inputs, labels) = problem
    noisy = nn.Sequential(nn.Dropout(0.5), model).train()
    before = torch.get_rng_state()
    loader = DataLoader([(i, (inputs[i], labels[i])) for i in range(N)], batch_size=BATCH)  # draws a seed in each pass
    alignment(noisy, losses_of, loader, torch.tensor([1, 2]))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="chosen must be ids"):
        alignment(noisy, losses_of, loader, torch.tensor([99]))
    assert torch.equal(torch.get_rng_state(), before)


def pruned(pruner, kind):
    dataset = IndexedDataset(range(N))
    return {
        "loader": lambda: pruner.loader(range(N), batch_size=BATCH),
        "batch sampler": lambda: DataLoader(dataset, batch_sampler=pruner.sampler(BATCH)),
        "sampler": lambda: DataLoader(dataset, sampler=pruner.sampler(), batch_size=BATCH),
    }[kind]()


@pytest.mark.parametrize("kind", ["loader", "batch sampler", "sampler"])
def test_alignment_begins_no_epoch(problem, kind):
    model, losses_of, _, _ = problem
    pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), N)
    with pytest.raises(
        TypeError, match=r"^batches must hold the full data and start no epoch, got a loader of the prun"
    ):
        alignment(model, losses_of, pruned(pruner, kind), torch.tensor([1, 2]))
    assert pruner.report().epoch == -1


WRONG_BATCHES = [
    (lambda batches: iter(batches), TypeError, "batches must be readable several times, got list_iterator, which"),
    (
        lambda batches: [*batches, batches[0]],
        ValueError,
        r"batches must hold each sample once, got \d+ twice; pass",
    ),
    (
        lambda batches: [(index[[0, *range(len(index) - 1)]], batch) for index, batch in batches],
        ValueError,
        r"batches must hold each sample once, got \d+ twice; pass batches over the data set",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "line"), WRONG_BATCHES)
def test_wrong_batches_get_one_line(problem, wrong, kind, line):
    model, losses_of, batches, _ = problem
    with pytest.raises(kind, match=rf"^{line}"):
        alignment(model, losses_of, wrong(batches), batches[1][0])


@pytest.mark.parametrize(
    ("reduced", "shape"),
    [(torch.mean, r"\(\)"), (lambda losses: losses[:, None], r"\(\d, 1\)")],
    ids=["mean", "matrix"],
)
def test_losses_that_are_not_one_a_sample_get_one_line(problem, reduced, shape):
    model, losses_of, batches, _ = problem
    with pytest.raises(
        ValueError, match=rf"^losses_of returned shape {shape} for a batch of \d samples; return one lo"
    ):
        alignment(model, lambda *given: reduced(losses_of(*given)), batches, torch.tensor([1]))


def test_a_gradient_that_is_not_finite_gets_one_line(problem):
    model, losses_of, batches, _ = problem
    with pytest.raises(ValueError, match=r"^both gradients must be finite, got norms nan and nan \(full\)"):
        alignment(model, lambda *given: losses_of(*given) * math.nan, batches, torch.tensor([1]))


def test_a_gradient_that_is_zero_gets_one_line(problem):
    model, losses_of, batches, _ = problem
    with pytest.raises(ValueError, match=r"^both gradients must differ from zero, got norms 0 and 0 \(full\)"):
        alignment(model, lambda *given: losses_of(*given) * 0, batches, torch.tensor([1]))


def test_ids_chosen_twice_get_one_line(problem):
    model, losses_of, batches, _ = problem
    with pytest.raises(ValueError, match=r"^chosen must be distinct ids, got 3 of which 2 differ; pass the ids of o"):
        alignment(model, losses_of, batches, torch.tensor([1, 1, 2]))


def test_an_id_that_no_batch_holds_gets_one_line(problem):
    model, losses_of, batches, _ = problem
    with pytest.raises(ValueError, match=r"^chosen must be ids that the batches hold, got 99; pass batches over"):
        alignment(model, losses_of, batches, torch.tensor([1, 99]))

"""Theorems 1, 3 and 4 on real data, small; the kept results are the large ones."""

import csv
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from orderdp.paper import exhibit, theorem1, theorem3, theorem4, theorem4_sides
from orderdp.paper.digits_models import digits, losses, models
from orderdp.paper.exhibit import Shown, read_summary
from orderdp.paper.studies import LOOPS, THEORY, find_study, run_computed
from orderdp.paper.theorem1 import gradient_means, sample_gradients
from orderdp.paper.theorem3 import best_of_mean, errors_after, problems, slope
from orderdp.paper.theorem4 import bias_terms
from orderdp.paper.theorem4_sides import SoftmaxRegression, minimiser, sides
from orderdp.theory import spectral_risk, spectrum, surrogate_loss

RESULTS = Path(__file__).parents[2] / "results" / "theory"


@pytest.fixture(scope="module")
def gradients():
    return gradient_means(draws=1_500, n=600)


def test_the_mean_gradient_is_that_of_the_surrogate(gradients):
    current = [row for row in gradients if row.scores == "current"]
    assert {(row.model, row.block) for row in current} == {
        ("logistic regression", "weight"),
        ("logistic regression", "bias"),
        ("network", "0.weight"),
        ("network", "0.bias"),
        ("network", "2.weight"),
        ("network", "2.bias"),
    }
    assert max(row.to_surrogate for row in current) < 5
    # Were the standard error too large, everything would agree: distances of about one are expected.
    assert 0.3 < np.mean([row.to_surrogate for row in current]) < 2


def test_the_mean_gradient_is_not_that_of_the_mean_loss(gradients):
    assert min(row.to_full for row in gradients if row.scores == "current") > 5


def test_with_stored_scores_the_theorem_does_not_hold(gradients):
    assert min(row.to_surrogate for row in gradients if row.scores == "stored") > 5


def test_sample_gradients_are_those_of_autograd():
    images, labels = digits(20)
    for model in models().values():
        found = sample_gradients(model, images, labels)
        for sample in range(3):
            expected = torch.autograd.grad(losses(model, images, labels)[sample], list(model.parameters()))
            for (name, _), gradient in zip(model.named_parameters(), expected, strict=True):
                torch.testing.assert_close(found[name][sample], gradient.flatten())


@pytest.fixture(scope="module")
def errors():
    return errors_after(horizons=(64, 256, 1_024), runs=2)


@pytest.mark.parametrize("problem", ["least absolute deviations", "logistic"])
def test_the_error_keeps_the_bound_at_every_number_of_steps(errors, problem):
    mine = [row for row in errors if row.problem == problem]
    assert [row.steps for row in mine] == [64, 256, 1_024]
    for row in mine:
        assert 0 < row.best <= row.averaged <= row.bound
        assert row.bound == pytest.approx(5 / row.steps**0.5)


@pytest.mark.parametrize("problem", ["least absolute deviations", "logistic"])
@pytest.mark.parametrize("error", ["best", "averaged"])
def test_the_error_falls_like_one_over_the_root_of_the_steps(errors, problem, error):
    assert slope([row for row in errors if row.problem == problem], error) <= -0.45


def test_the_problems_are_what_the_theorem_asks_for():
    for problem in problems().values():
        rng = np.random.default_rng(0)
        for distance in (1e-3, 0.1, 10):
            other = problem.optimum + distance * rng.standard_normal(len(problem.optimum))
            gradients = problem.subgradients(other)
            assert np.linalg.norm(gradients, axis=1).max() <= problem.lipschitz + 1e-12
            for s, q in ((100, 40), (200, 10), (50, 50)):
                assert float(surrogate_loss(problem.losses(other), s, q)) > problem.least
            sample = 7
            numeric = approx_fprime(other, lambda theta, mine=sample, of=problem: of.losses(theta)[mine], 1e-7)
            np.testing.assert_allclose(gradients[sample], numeric, atol=1e-5)
        at_optimum = surrogate_loss(problem.losses(problem.optimum), 100, 40)
        assert float(at_optimum) == pytest.approx(problem.least, abs=1e-12)
        assert np.linalg.norm(problem.steepest) == pytest.approx(1)


def test_both_bias_terms_shrink():
    rows = bias_terms(n=300)
    by_s: dict[int, list] = {}
    for row in rows:
        by_s.setdefault(row.s, []).append(row)
        assert row.distance <= row.distance_bound
        assert row.sampling == row.spectrum_gap * row.distance_bound
    for mine in by_s.values():
        bias = [row.bias for row in mine]
        assert bias == sorted(bias, reverse=True)
        assert mine[-1].q == mine[-1].s
        assert (mine[-1].bias, mine[-1].spectrum_gap) == (0, 0)
        assert all(row.spectrum_gap >= 1 for row in mine[:-1])  # C_s itself does not shrink to 0
    first = [mine[0] for mine in by_s.values()]
    assert [row.distance_bound for row in first] == sorted((row.distance_bound for row in first), reverse=True)
    assert (first[-1].s, first[-1].sampling, first[-1].distance) == (300, 0, 0)


def kept(module: ModuleType) -> list[Any]:
    """The rows of a study's kept CSV."""
    name = module.__name__.rpartition(".")[2]
    (row_type,) = {value for key, value in vars(module).items() if key.endswith("Row")}
    kinds = get_type_hints(row_type)
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return [row_type(**{key: kinds[key](cell) for key, cell in row.items()}) for row in csv.DictReader(file)]


def test_the_kept_results_say_the_same_at_full_size():
    for row in kept(theorem1):
        assert row.draws == 10_000
        assert (row.to_surrogate < 5) == (row.scores == "current")
        assert row.to_full > 100
    rows = kept(theorem3)
    assert all(0 < row.best <= row.averaged <= row.bound for row in rows)
    for problem in problems():
        mine = [row for row in rows if row.problem == problem]
        assert [row.steps for row in mine] == [64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192]
        assert max(slope(mine, error) for error in ("best", "averaged")) <= -0.45
    for old, new in zip(kept(theorem4), bias_terms(), strict=True):
        assert list(old) == pytest.approx(list(new), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("module", [theorem1, theorem3, theorem4, theorem4_sides], ids=lambda module: module.__name__)
def test_the_kept_tables_are_made_of_the_kept_numbers(module, tmp_path):
    name = module.__name__.rpartition(".")[2]
    module.show(kept(module)).write(name, tmp_path)
    for ending in ("md", "csv"):
        assert (tmp_path / f"{name}.{ending}").read_text() == (RESULTS / f"{name}.{ending}").read_text()


@pytest.fixture(scope="module")
def softmax_regression():
    images, labels = (tensor.numpy() for tensor in digits(120))
    return SoftmaxRegression(images, labels)


def test_softmax_regression_is_what_the_theorem_asks_for(softmax_regression):
    """Its losses are torch's, its gradients no longer than G, and convex: no minimum lies below L-BFGS's."""
    problem, rng = softmax_regression, np.random.default_rng(0)
    images, labels = digits(120)
    for size in (0.2, 3.0, 1e3):
        theta = size * rng.standard_normal((65, 10))
        losses, by_logits = problem.at(theta)
        logits = images @ torch.from_numpy(theta[:64]) + torch.from_numpy(theta[64])
        expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
        np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-9)
        norms = np.linalg.norm(by_logits, axis=1) * problem.norms
        assert norms.max() <= problem.lipschitz * (1 + 1e-12)
        numeric = approx_fprime(
            theta.ravel(), lambda flat: problem.at(flat.reshape(65, 10))[0][7], 1e-7 * size
        ).reshape(65, 10)
        one = np.zeros(120)
        one[7] = 1
        np.testing.assert_allclose(problem.gradient(by_logits, one), numeric, atol=1e-4)
    assert norms.max() > 0.9 * problem.lipschitz  # at huge weights p is all on one class: G is no larger than needed


@pytest.mark.parametrize(("s", "q"), [(120, 120), (120, 30), (60, 30)])
def test_the_minimiser_of_the_surrogate_is_one(softmax_regression, s, q):
    sigma = spectrum(120, s, q)
    best = minimiser(softmax_regression, sigma)
    least = spectral_risk(softmax_regression.at(best)[0], sigma)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(5):
            other = best + size * rng.standard_normal(best.shape)
            assert spectral_risk(softmax_regression.at(other)[0], sigma) > least - 1e-6


def test_both_sides_of_the_fourth_theorem_are_of_their_terms():
    for row in sides(explore=(0.5,), exploit=(0.4, 1.0), n=100, steps=20, runs=2):
        assert row.right == pytest.approx(row.sampling - row.bias + row.optimization)
        assert row.optimization == pytest.approx(row.distance * row.lipschitz / 20**0.5)
        assert row.left < row.right
        assert row.largest_gradient <= row.lipschitz
        assert (row.sampling == 0) == (row.bias < 1e-12) == (row.q == row.s)


def test_the_kept_sides_say_what_the_page_says():
    rows = kept(theorem4_sides)
    assert {(row.n, row.steps) for row in rows} == {(500, 1_000)}
    assert all(row.left < 0 < row.right for row in rows)
    assert all((row.left_limit > row.right_limit) == (row.sampling == 0) for row in rows)
    times = [row.sampling / row.left_limit for row in rows if row.sampling]
    page = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
    assert f"the sampling term is {min(times):.0f} to {max(times):.0f} times the left side" in page


@pytest.mark.parametrize("name", ["theorem1", "theorem3", "theorem4", "theorem4_sides"])
def test_each_theorem_has_a_small_form_that_shows_the_same(name, tmp_path):
    run_computed(find_study(name), tmp_path, "smoke")
    small, full = ((folder / f"{name}.md").read_text().splitlines() for folder in (tmp_path, RESULTS))
    assert small[0] == full[0]


def test_each_column_of_the_tables_is_what_its_header_says():
    row = theorem1.GradientRow("a model", "stored", "weight", 1_000, to_surrogate=1.25, to_full=30.04, shift=0.375)
    header, (line,) = theorem1.show([row]).summary
    assert dict(zip(header, line, strict=True)) == {
        "gradient of": "a model, weight",
        "scores": "stored",
        "draws": "1,000",
        "from L_q, std errors": "1.25",
        "from L, std errors": "30.0",
        "L_q from L, relative": "0.38",
    }
    rows = [
        theorem3.ConvergenceRow("p", steps, best=1 / steps, averaged=steps**-0.5, bound=2 * steps**-0.5)
        for steps in (4, 16, 64)
    ]
    assert theorem3.show(rows).summary[1] == [
        ("p, averaged iterate", "-0.500", "0.500"),
        ("p, best iterate", "-1.000", "0.250"),
    ]


def test_the_notes_of_the_theorems_count_what_would_contradict_them():
    """In the kept results nothing does."""
    row = theorem4.BiasRow(10, 5, 2, 1.5, 0.1, 0.4, 0.6, 0.7)
    assert "in 1 of 2 rows" in theorem4.show([row, row._replace(distance=0.41)]).note
    sides = theorem4_sides.SidesRow(10, 5, 2, 100, *[1.0] * 3, 0.5, 0.5, 1.0, 1.0, 0.9, 1.1, 0.1, 0.2)
    note = theorem4_sides.show([sides, sides._replace(left_unseen=0.9, left_limit=0.3)]).note
    assert "After 100 steps, it is larger in 0 of 2 rows on the training data, and in 1 on unseen data." in note
    assert "unseen data, it is larger in 1 of 2 rows, in 0 of which the" in note
    steps = [theorem3.ConvergenceRow("p", steps, 1 / steps, averaged=9 / steps, bound=1.0) for steps in (4, 16)]
    assert "the largest here is 2.250, over T from 4 to 16." in theorem3.show(steps).note


def test_the_best_iterate_is_that_of_the_mean_over_the_runs():
    assert best_of_mean(np.array([[1.0, 4.0, 2.5], [5.0, 0.0, 2.5]])) == 2.0


def test_the_kept_results_are_of_the_sizes_that_the_studies_have():
    def default(function: Any, name: str) -> Any:
        return inspect.signature(function).parameters[name].default

    assert {row.draws for row in kept(theorem1)} == {default(gradient_means, "draws")}
    assert {row.steps for row in kept(theorem3)} == set(default(errors_after, "horizons"))


def test_the_kept_biases_and_the_shortest_runs_come_out_again():
    fresh = gradient_means(draws=2)
    assert [row.shift for row in fresh] == pytest.approx([row.shift for row in kept(theorem1)], rel=1e-6)
    old = {row.problem: row for row in kept(theorem3) if row.steps == 64}
    for row in errors_after(horizons=(64,)):
        assert row[1:] == pytest.approx(old[row.problem][1:], rel=1e-6)


def test_the_table_and_the_picture_of_the_bias_terms_show_them():
    shown = theorem4.show([theorem4.BiasRow(10, 5, 2, 1.5, 0.1, 0.4, 0.6, 0.7)])
    assert shown.summary[1] == [("5, 2", "1.5", "0.1000", "0.4000", "0.6000", "0.7000")]
    sampling, bias, _ = shown.pictures["theorem4"].axes[0].lines
    assert (list(sampling.get_ydata()), list(bias.get_ydata())) == ([0.6], [0.7])


def test_every_study_has_a_function_of_its_name():
    for row in (*THEORY, *LOOPS):
        assert getattr(import_module(f"orderdp.paper.{row.module}"), row.name).__module__.endswith(row.module)


def test_a_study_writes_its_summary_under_its_name(tmp_path):
    table = "| a | b |\n| --- | ---: |\n| c | 1 |\n"
    for note, below in (("", ""), ("A note. Of two.", "\nA note. Of two.\n")):
        (path,) = Shown({}, {}, (("a", "b"), [("c", "1")]), note).write("x", tmp_path)
        assert (path.name, path.read_text()) == ("x.md", table + below)
        assert read_summary(path) == ([["a", "b"], ["c", "1"]], note)
    assert read_summary(tmp_path / "y.md") == ([], "")


def test_negative_numbers_of_a_summary_have_the_minus_sign_of_all_tables(tmp_path):
    (path,) = Shown({}, {}, (("a", "b-1"), [("c -1", "-0.5")])).write("x", tmp_path)
    assert read_summary(path)[0] == [["a", "b-1"], ["c -1", "−0.5"]]


def test_a_study_writes_its_pictures_in_both_forms_and_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(exhibit, "save", lambda picture, path: path)
    written = Shown({"p": None}, {"n": (("a",), [(1,)])}).write("x", tmp_path / "new")
    assert [file.name for file in written] == ["p.svg", "p.png", "n.csv"]
    assert written[-1].read_text().split() == ["a", "1"]

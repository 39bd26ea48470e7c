import shutil

import numpy as np
import pytest

from orderdp.report import plots
from orderdp.report.plots import draw_plots

FILES = ["accuracy_time.png", "accuracy_samples.png", "loss.png", "visits.png", "scores.png"]
PRUNED, FULL, SHORT = "OrderDP 50 %", "full data", "full data, steps of OrderDP 50 %"
REFERENCES = {FULL: None, SHORT: PRUNED}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws the plots of some runs and returns the axes of each by file name."""
    axes = {}
    save = plots.save

    def keep(figure, path):
        (axes[path.name],) = figure.axes
        return save(figure, path)

    monkeypatch.setattr(plots, "save", keep)

    def drawn(groups):
        written = draw_plots(groups, REFERENCES, tmp_path / "plots")
        assert [path.name for path in written] == FILES
        assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(FILES)
        for path in written:
            check_picture(path)
        return axes

    return drawn


def check_picture(path):
    from PIL import Image

    with Image.open(path) as picture:
        assert (picture.format, picture.width) == ("PNG", 1080)
        assert picture.height in (630, 666, 702)  # with no, one or two lines of legend
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 5
    with Image.open(path) as picture:
        picture.verify()


def labels(axes):
    return [text.get_text() for legend in axes.figure.legends for text in legend.get_texts()]


def test_each_label_is_one_series_with_its_runs_values(train, draw):
    runs = [train(f"a{seed}", prune_ratio=0.5, seed=seed) for seed in (0, 1)]
    groups = {
        PRUNED: runs,
        FULL: [train("b", strategy="full")],
        SHORT: [train("c", strategy="full", max_steps=12, epochs=2)],
    }
    axes = draw(groups)
    for name in FILES[:4]:
        assert labels(axes[name]) == list(groups)
    for name, column in (("accuracy_time.png", "accuracy"), ("accuracy_samples.png", "accuracy"), ("loss.png", "loss")):
        lines = {line.get_label(): line for line in axes[name].lines}
        assert list(lines) == list(groups)
        values = np.array([[line[column] for line in run.metrics()] for run in runs])
        np.testing.assert_allclose(lines[PRUNED].get_ydata(), values.mean(axis=0))
        assert [len(line.get_ydata()) for line in lines.values()] == [3, 3, 2]
        assert [line.get_linestyle() for line in lines.values()] == ["-", "-", "--"]
        colors = [line.get_color() for line in lines.values()]
        assert colors[0] == colors[2] != colors[1]
    lines = {line.get_label(): line for line in axes["accuracy_samples.png"].lines}
    assert list(lines[PRUNED].get_xdata()) == [100, 200, 300]
    assert list(lines[FULL].get_xdata()) == [200, 400, 600]
    lines = {line.get_label(): line for line in axes["loss.png"].lines}
    assert list(lines[FULL].get_xdata()) == [200, 400, 600]
    times = next(line for line in axes["accuracy_time.png"].lines if line.get_label() == FULL).get_xdata()
    metrics = groups[FULL][0].metrics()
    np.testing.assert_allclose(times, np.cumsum([line["processor_s"] for line in metrics]))
    assert axes["accuracy_time.png"].get_xlabel() == "processor seconds without evaluation"
    result = groups[SHORT][0].result()  # of one run of all, and all is by the clock
    groups[SHORT][0].write_result({**result, "processor_s": None})
    axes = draw(groups)
    times = next(line for line in axes["accuracy_time.png"].lines if line.get_label() == FULL).get_xdata()
    np.testing.assert_allclose(
        times, np.cumsum([line["training_s"] + line["selection_s"] + line["data_s"] for line in metrics])
    )
    assert axes["accuracy_time.png"].get_xlabel() == "seconds without evaluation"


def test_the_span_of_a_curve_is_from_the_lowest_to_the_highest_seed(train, draw):
    runs = [train(f"{seed}", strategy="full", seed=seed) for seed in range(3)]
    (span,) = draw({FULL: runs})["loss.png"].collections
    values = np.array([[line["loss"] for line in run.metrics()] for run in runs])
    heights = {*span.get_paths()[0].vertices[:, 1].tolist()}
    assert {*values.min(axis=0), *values.max(axis=0)} <= heights
    assert (min(heights), max(heights)) == (values.min(), values.max())


def test_visits_are_shares_of_the_samples_and_scores_densities(train, draw):
    axes = draw({PRUNED: [train("a", prune_ratio=0.5, epochs=1)], FULL: [train("b", strategy="full", epochs=1)]})
    shares = [patch.get_data().values for patch in axes["visits.png"].patches]
    np.testing.assert_allclose(shares, [[0.5, 0.5], [0, 1]])
    assert labels(axes["scores.png"]) == ["OrderDP 50 % (50.0 % unseen)"]


def test_a_bar_of_a_reference_does_not_flatten_the_others(train, draw):
    axes = draw({PRUNED: [train("a", prune_ratio=0.5)], FULL: [train("b", strategy="full")]})["visits.png"]
    pruned, full = (patch.get_data().values for patch in axes.patches)
    assert max(full) == 1
    assert axes.get_ylim() == (0, pytest.approx(1.15 * max(pruned)))
    assert [text.get_text() for text in axes.texts] == ["↑ 1.00"]


def test_every_plot_has_a_title(train, draw):
    axes = draw({PRUNED: [train(prune_ratio=0.5)]})
    titles = [axes[name].get_title(loc="left") for name in FILES]
    assert all(titles)
    assert len(set(titles)) == len(FILES)


def test_a_single_epoch_is_drawn_as_a_point(train, draw):
    axes = draw({FULL: [train(strategy="full", epochs=1)]})
    assert [line.get_marker() for line in axes["loss.png"].lines] == ["o"]


def test_runs_that_remember_no_scores_say_so(train, draw):
    axes = draw({FULL: [train(strategy="full")]})["scores.png"]
    assert labels(axes) == []
    assert [text.get_text() for text in axes.texts] == ["no run remembers scores"]
    assert not axes.patches


@pytest.mark.parametrize("method", ["per_class", "scheduled"])
def test_a_method_that_got_the_labels_of_the_data_is_drawn(train, draw, method):
    run = train(strategy={"name": method, "inner": "orderdp", "prune_ratio": 0.5})
    axes = draw({PRUNED: [run]})
    (bars,) = axes["visits.png"].patches
    shares = bars.get_data().values
    assert shares @ np.arange(len(shares)) == pytest.approx(1.5)  # three epochs of half the samples
    assert labels(axes["scores.png"])[0].startswith(PRUNED)


def test_a_finished_run_without_its_checkpoint_is_named(train, tmp_path):
    folder = train()
    shutil.rmtree(folder.path / "checkpoint")
    message = (
        f"^a finished run must keep its checkpoint, got none in {folder.path}; "
        "remove result.json there and --resume, to train it again$"
    )
    with pytest.raises(ValueError, match=message):
        draw_plots({PRUNED: [folder]}, REFERENCES, tmp_path / "plots")

"""How far static methods agree, against SciPy and by hand; and that the plots of scores are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from scipy.stats import spearmanr

from orderdp.data.base import ImageArrays, ImageFiles, from_arrays
from orderdp.output.subset_file import Kept
from orderdp.report import coreset_plots
from orderdp.report.agreement import correlation_table, overlap_table, overlaps, rank_correlations
from orderdp.report.coreset_plots import draw_coreset_plots
from orderdp.training.coreset_run import Coresets

N = 60


@pytest.fixture
def coresets():
    rng = np.random.default_rng(0)
    first = rng.standard_normal(N)
    held_out = first + rng.standard_normal(N)
    held_out[:6] = np.nan
    scores = {"a": first, "b": np.round(first), "c-2": held_out, "flat": np.ones(N), "last": -first}
    scores["last"][3] = -np.finfo(np.float32).max  # what stands for infinity
    kept = {key: {0.5: Kept(np.argsort(-values)[:30])} for key, values in scores.items()}
    kept["chosen"] = {0.5: Kept(np.arange(30), np.ones(30, dtype=np.float32))}
    return Coresets(scores, kept, {key: key.upper() for key in kept}, N)


@pytest.fixture
def data():
    images = torch.randint(256, (N, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    part = ImageArrays(images, torch.arange(N) % 3)
    return from_arrays(part, part)


def test_rank_correlations_are_scipys_over_the_samples_that_both_score(coresets):
    found = rank_correlations(coresets)
    columns = list(coresets.scores.values())
    for row, column in np.ndindex(found.shape):
        first, second = columns[row], columns[column]
        both = np.isfinite(first) & np.isfinite(second)
        if 3 in (row, column):
            assert np.isnan(found[row, column])
        else:
            assert found[row, column] == pytest.approx(spearmanr(first[both], second[both]).statistic)


def test_overlap_is_the_share_of_the_samples_kept(coresets):
    found = overlaps(coresets, 0.5)
    sets = [set(kept[0.5].ids.tolist()) for kept in coresets.subsets.values()]
    assert found.tolist() == [[len(one & other) / 30 for other in sets] for one in sets]


def test_the_tables_name_every_method_once_and_number_the_columns(coresets):
    table = correlation_table(coresets)
    assert table.lines[0] == ("method", "1", "2", "3", "4", "5")
    assert table.lines[1][:2] == ("1 A", "1.00")
    assert table.lines[4] == ("4 FLAT", "–", "–", "–", "–", "–")
    table = overlap_table(coresets, 0.5)
    assert [line[0] for line in table.lines[1:]] == ["1 A", "2 B", "3 C-2", "4 FLAT", "5 LAST", "6 CHOSEN"]
    assert "at 50 % pruned" in table.note
    assert table.note.endswith("Two uniform draws have 0.50 in common.")
    kept = {key: {0.75: Kept(np.arange(15))} for key in coresets.subsets}
    assert overlap_table(replace(coresets, subsets=kept), 0.75).note.endswith("Two uniform draws have 0.25 in common.")


def test_with_several_proxies_the_table_says_how_far_they_agree(coresets):
    table = correlation_table(replace(coresets, between_proxies={"a": 0.5, "c-2": -0.25}))
    assert [line[-1] for line in table.lines] == ["two proxies", "0.50", "–", "−0.25", "–", "–"]


def test_the_plots_are_drawn_for_every_score(coresets, data, tmp_path):
    files = draw_coreset_plots(coresets, data, tmp_path / "plots")
    names = ["scores", "correlations", *(f"images-{key}" for key in coresets.scores)]
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    assert all(imread(path).std() > 0.01 for path in files)


def test_the_images_are_those_with_the_highest_and_the_lowest_scores(coresets, data, tmp_path, monkeypatch):
    asked = []
    original = coreset_plots._images
    monkeypatch.setattr(coreset_plots, "_images", lambda data, ids: asked.append(ids.tolist()) or original(data, ids))
    draw_coreset_plots(Coresets({"c": coresets.scores["c-2"]}, {}, {"c": "C"}, N), data, tmp_path / "plots")
    order = (np.argsort(-coresets.scores["c-2"][6:], kind="stable") + 6).tolist()
    assert asked == [order[:24], order[::-1][:24]]


def test_images_in_files_are_drawn_too(coresets, data, tmp_path):
    from PIL import Image

    for number, image in enumerate(data.train.images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number}.png")
    part = ImageFiles(tuple(str(tmp_path / f"{number}.png") for number in range(N)), data.train.labels)
    files = from_arrays(data.train, data.train)
    object.__setattr__(files, "train", part)
    object.__setattr__(files, "in_channels", 3)
    assert len(draw_coreset_plots(Coresets({"a": coresets.scores["a"]}, {}, {"a": "A"}, N), files, tmp_path / "p")) == 2


def test_without_scores_there_is_nothing_to_draw(coresets, data, tmp_path):
    assert draw_coreset_plots(Coresets({}, coresets.subsets, coresets.labels, N), data, tmp_path / "plots") == []

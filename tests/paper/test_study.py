"""The studies that come with the library fit their data at every size, and print what the paper prints."""

import dataclasses
import hashlib
import json
import re
from fractions import Fraction
from math import inf, isclose

import pytest

from orderdp import DynamicRandom
from orderdp.comparison import checks
from orderdp.comparison.checks import check
from orderdp.comparison.grid import load_comparison
from orderdp.comparison.results import read_results
from orderdp.data.registry import DATASETS
from orderdp.paper import study as study_module
from orderdp.paper.studies import LOOPS, THEORY, catalogue, find_study
from orderdp.paper.study import load_study, resume_study, start_study
from orderdp.paper.study_file import SIZES, read_study
from orderdp.paper.table10 import table10
from orderdp.report import page
from orderdp.report.outline import SECTIONS, Outline, Published, load_outline
from orderdp.report.page import write_report
from orderdp.report.section import Choices
from orderdp.training.recipe import Recipe, load_recipe
from orderdp.training.steps import total_steps
from reference.log_lines import begun_or_failed

FILES = {row.name: row.file for row in catalogue().values() if row.file is not None}
TRAINED = ["figure1", "figure3", "figure4", "figure9", "figure10", "figure11", "figure12", "figure13"]
TRAINED += [
    "appendix_d6",
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "table7",
    "table8",
    "table9",
    "table11",
]
NUM_SAMPLES = {"digits": 1_437, "fashion_mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000, "sst2": 67_349}
NUM_SAMPLES |= {"letters": 16_000, "shuttle": 43_500}
NUM_SAMPLES |= {"solubility": 1_021, "freesolv": 512}
NUM_SAMPLES["folder"] = 1_281_167  # ImageNet-1K

# Studies of ours, which the paper has not, and those on what it leaves open.
OWN = ["worth", *(name for name in FILES if name.startswith("open_"))]

every_study = pytest.mark.parametrize("name", TRAINED)


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def samples_of(recipe):
    return recipe.train_size or NUM_SAMPLES[recipe.dataset]


def quiet(line):
    pass


def test_there_is_a_study_for_each_table_and_figure_that_trains():
    assert set(FILES) == {*TRAINED, *OWN}
    assert set(catalogue()) == {*TRAINED, *OWN, *(row.name for row in (*THEORY, *LOOPS))}
    assert all(row.shows for row in catalogue().values())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in TRAINED for size in SIZES),
        *((name, size) for name in OWN for size in ("smoke", "cpu")),
    ],
)
def test_every_study_loads_at_every_size_and_its_runs_fit_their_data(name, size):
    study = load_study(FILES[name], size)
    assert (study.name, study.size) == (name, size)
    assert study.parts
    for plan in study.parts.values():
        n = samples_of(plan.recipe)
        members = plan.members(n)
        for member in members:
            assert (total_steps(member.recipe, n) or 1) >= 1
        labels = {recipe.label for recipe in plan.pruned()}
        # Keeping all of a draw is a dynamic random choice by another name.
        chosen = [recipe.strategy for recipe in plan.pruned()]
        assert any(isinstance(one, DynamicRandom) or getattr(one, "exploit", None) == 1 for one in chosen), labels
        names = [member.name for member in members]
        assert len(set(names)) == len(names)
        seeds = {"smoke": 2}.get(size, 3)
        assert len(plan.seeds) >= seeds


@every_study
def test_every_study_asks_something_and_shows_known_sections(name):
    outline = load_study(FILES[name], "smoke").outline
    assert set(outline.sections) <= set(SECTIONS)
    assert len(set(outline.sections)) == len(outline.sections) > 0
    printed = {"figure": "Figure ", "table": "Table ", "appendix_d": "Appendix D."}
    kind = name.rstrip("0123456789")
    assert outline.title.startswith(f"{printed[kind]}{name[len(kind) :]}: ")
    assert outline.about.endswith((".", "?"))
    assert (outline.edges[0], outline.edges[-1]) == (0, 1)
    assert list(outline.edges) == sorted(set(outline.edges))
    assert FILES[name].read_text(encoding="utf-8").startswith("# Source: the OrderDP paper, ")


@pytest.mark.parametrize("size", SIZES)
def test_every_published_static_method_is_chosen_at_every_size_but_the_smallest(size):
    study = load_study(FILES["table1"], size)
    assert set(study.subsets) == set(study.parts)
    rows = {row for table in study.outline.published for row in table.rows} - {"OrderDP", "full data"}
    assert len(rows) == 15
    for name, plan in study.subsets.items():
        assert (plan.seeds, plan.prune_ratios) == (study.parts[name].seeds, plan.prune_ratios)
        assert plan.recipe.dataset == study.parts[name].recipe.dataset
        labels = set(plan.labels().values())
        assert size == "smoke" or rows | {"k-means prototypes", "entropy"} <= labels


@every_study
def test_the_smallest_size_needs_no_download_and_fits_its_data(name):
    for plan in load_study(FILES[name], "smoke", device="cpu").parts.values():
        assert plan.recipe.dataset == "digits"
        assert check(plan) == (1_437, 360, 1)


@every_study
def test_the_published_size_has_the_published_recipes(name):
    for part, plan in load_study(FILES[name], "paper").parts.items():
        recipe = plan.recipe
        if recipe.dataset == "folder":
            assert part == f"imagenet-{recipe.model}"
            if name == "table5":
                continue
            assert (recipe.epochs, recipe.optimizer, recipe.image_size) == (90, "lars", 224)
            continue
        assert (recipe.epochs, recipe.batch_size, recipe.precision, recipe.train_size) == (200, 128, "float32", None)
        of_optimizer = f"-{recipe.optimizer}" if name == "table7" else ""
        assert part == f"{recipe.dataset}-{recipe.model}{of_optimizer}"
        slow = recipe.model == "resnet50" or name in ("appendix_d6", "figure1", "table8", "table9", "table11")
        rates = {"sgd": 0.03 if slow else 0.2, "adamw": 0.001, "lars_release": 5.2, "lamb_release": 0.01}
        assert recipe.max_lr == rates[recipe.optimizer]


def test_every_split_of_a_ratio_keeps_as_many_samples():
    """So they make as many steps, and share one shorter schedule."""
    for size in SIZES:
        for part, plan in load_study(FILES["figure4"], size).parts.items():
            n, steps = samples_of(plan.recipe), {}
            for recipe in plan.pruned():
                ratio = recipe.strategy.asked_ratio
                if recipe.strategy.prune_ratio is None:
                    (near,) = (known for known in (0.3, 0.5, 0.7) if isclose(known, ratio, abs_tol=1e-4))
                    steps.setdefault(near, set()).add(total_steps(recipe, n))
            assert all(len(counts) == 1 for counts in steps.values()), (size, part)


@every_study
def test_tables_of_the_paper_have_rows_as_long_as_their_headings(name):
    number = r"−?\d+\.\d+( ± \d+\.\d+)?"
    for table in load_study(FILES[name], "smoke").outline.published:
        assert table.rows
        for label, cells in table.rows.items():
            assert len(cells) == len(table.columns) - 1, (table.title, label)
            assert all(re.fullmatch(number, cell) or not cell for cell in cells), (table.title, label)
            assert any(cells)


# A few cells of each published table: study, number of the table in it, row, column, what the paper prints.
PRINTED = [
    ("table1", 0, "random", "70 %", "90.2"),
    ("table1", 0, "herding", "50 %", "88.0"),
    ("table1", 0, "CRAIG", "70 %", "88.4"),
    ("table1", 0, "EL2N-20", "50 %", "95.1"),
    ("table1", 0, "OrderDP", "70 %", "95.0"),
    ("table1", 1, "random", "30 %", "73.8"),
    ("table1", 1, "contextual diversity", "70 %", "70.3"),
    ("table1", 1, "EL2N-20", "70 %", ""),
    ("table1", 1, "DP", "50 %", "73.1"),
    ("table1", 1, "DP", "70 %", ""),
    ("table2", 0, "OrderDP", "70 %", "95.0"),
    ("table2", 0, "dynamic random", "70 %", "93.0"),
    ("table2", 0, "ε-greedy", "50 %", "94.9"),
    ("table2", 0, "UCB", "30 %", "95.3"),
    ("table2", 1, "InfoBatch", "50 %", "95.3"),
    ("table2", 1, "OrderDP", "50 %", "95.4"),
    ("table2", 1, "UCB", "70 %", "94.2"),
    ("table2", 2, "ε-greedy", "30 %", "76.4"),
    ("table2", 2, "OrderDP", "50 %", "77.9"),
    ("table2", 2, "full data", "30 %", "78.2 ± 0.1"),
    ("table2", 3, "InfoBatch", "70 %", "76.4"),
    ("table2", 3, "OrderDP", "70 %", "77.9"),
    ("table2", 3, "dynamic random", "50 %", "76.1"),
    ("table2", 3, "full data", "30 %", "80.6 ± 0.1"),
    ("table3", 0, "dynamic random", "40 %", "73.4 ± 0.3"),
    ("table3", 0, "ε-greedy", "40 %", "75.2 ± 0.3"),
    ("table3", 0, "OrderDP", "40 %", "76.4 ± 0.2"),
    ("table3", 1, "UCB", "time, h", "21.1"),
    ("table3", 1, "InfoBatch", "node hours", "43.2"),
    ("table3", 1, "OrderDP", "time, h", "21.5"),
    ("table3", 1, "full data", "node hours", "70.4"),
    ("table4", 0, "InfoBatch", "40 %", "75.6"),
    ("table4", 0, "InfoBatch", "60 %", "74.9"),
    ("table4", 0, "OrderDP", "60 %", "76.0"),
    ("table4", 0, "full data", "30 %", "76.4 ± 0.1"),
    ("table5", 0, "OrderDP", "Swin-T", "81.4"),
    ("table5", 0, "full data", "ViT-B (MAE)", "82.8"),
    ("table5", 1, "OrderDP", "R-50, timm's recipe", "29.8"),
    ("table6", 0, "full data", "ImageNet, R-18", "70.5"),
    ("table6", 0, "InfoBatch, saved", "CIFAR-10, R-18", "36.5"),
    ("table6", 0, "InfoBatch, saved", "ImageNet, R-50", "34.3"),
    ("table6", 0, "OrderDP", "ImageNet, R-50", "76.5"),
    ("table6", 0, "OrderDP, saved", "CIFAR-100, R-18", "35.8"),
    ("table6", 0, "OrderDP, saved", "CIFAR-10, R-50", "42.6"),
    ("table7", 0, "OrderDP", "AdamW", "94.4"),
    ("table7", 0, "full data", "LARS", "95.5"),
    ("table7", 1, "InfoBatch", "AdamW", "37.0"),
    ("table7", 1, "OrderDP", "LARS", "42.5"),
    ("table7", 1, "OrderDP", "LAMB", "42.6"),
    ("appendix_d6", 0, "InfoBatch", "70 %", "75.9"),
    ("appendix_d6", 0, "OrderDP", "70 %", "76.7"),
    ("appendix_d6", 0, "full data", "70 %", "78.2 ± 0.1"),
    ("table8", 0, "InfoBatch 40 %", "0–20 %", "0.583 ± 0.050"),
    ("table8", 0, "InfoBatch 40 %", "last epoch", "0.522 ± 0.007"),
    ("table8", 0, "OrderDP 40 %", "60–80 %", "0.743 ± 0.023"),
    ("table8", 0, "InfoBatch 70 %", "60–80 %", "0.403 ± 0.018"),
    ("table8", 0, "OrderDP 70 %", "last epoch", "0.704 ± 0.090"),
    ("figure1", 0, "full data", "R", "−0.93"),
    ("figure3", 0, "InfoBatch", "CIFAR-100", "72.2"),
    ("table9", 0, "ε-greedy", "0–30 %", "48.01 ± 4.60"),
    ("table9", 0, "InfoBatch", "50–70 %", "47.72 ± 3.63"),
    ("table9", 0, "OrderDP", "final", "78.32 ± 0.20"),
    ("table9", 0, "full data", "30–50 %", "62.36 ± 0.76"),
    ("table9", 1, "InfoBatch", "50–70 %", "4.35 ± 9.48"),
    ("table9", 1, "UCB", "final", "1.33 ± 0.14"),
    ("table9", 1, "OrderDP", "0–30 %", "4.08 ± 1.19"),
    ("table11", 0, "InfoBatch 40 %", "20–40 %", "0.940 ± 0.008"),
    ("table11", 0, "OrderDP 40 %", "last epoch", "0.906 ± 0.011"),
    ("table11", 0, "InfoBatch 70 %", "80–100 %", "0.743 ± 0.026"),
    ("table11", 0, "OrderDP 70 %", "40–60 %", "0.901 ± 0.015"),
]


@pytest.mark.parametrize(("name", "number", "row", "column", "cell"), PRINTED)
def test_the_papers_numbers_are_the_papers(name, number, row, column, cell):
    table = load_study(FILES[name], "smoke").outline.published[number]
    assert table.rows[row][table.columns.index(column) - 1] == cell


# Headings of the sections that the paper's own numbers stand in.
BESIDE = {
    "appendix_d6": ["Accuracy"],
    "table1": ["Accuracy"] * 2,
    "table2": ["Accuracy"] * 4,
    "table3": ["Accuracy", "Cost"],
    "table4": ["Accuracy"],
    "table5": ["Accuracy", "Cost"],
    "table6": ["Largest lossless ratio"],
    "table7": ["Accuracy", "Cost"],
    "table8": ["Stability of the selection"],
    "table9": ["Progress"] * 2,
    "table11": ["Direction of the gradient"],
    "figure1": ["Gradients"],
    "figure3": ["Cost"],
}


TWINS = {"figure10", "figure13"}  # only their prune ratio differs from that of figure9 and figure12
WHOLE = {"table9"}  # how much InfoBatch leaves out depends on the size of the data


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in [*TRAINED, *OWN] if name not in TWINS])
def test_every_study_runs_at_its_smallest_size_and_shows_what_it_asks(name, tmp_path):
    few = {} if name in WHOLE else {"train_size": 400}
    study = load_study(FILES[name], "smoke", device="cpu", **few)
    for found in start_study(study, tmp_path / "run", log=quiet):
        assert (found.failed, found.damaged, found.open) == ({}, {}, [])
    outline, folders = load_outline(tmp_path / "run")
    choices = Choices(outline.edges)
    results = {each: read_results(path, together=outline.together_in(each)) for each, path in folders.items()}
    for part in (page._part(each, found, outline, choices) for each, found in results.items()):
        assert (part.missing, part.unplanned) == ({}, ())
        assert len(part.sections) == len(outline.sections)
        assert all(section.tables or section.charts for section in part.sections)
        tables = ((section.title, table.name) for section in part.sections for table in section.tables)
        assert [title for title, table in tables if table.startswith("paper-")] == BESIDE.get(name, [])
    assert write_report(tmp_path / "run").stat().st_size > 20_000
    if name == "table9":
        assert_even_and_filled(results["digits"], part)
    if name == "table8":
        (table,) = (table for table in tables_of(part, "Stability of the selection") if table.name == "jaccard")
        pruned = {entry.label for entry in results["digits"].entries.values() if not entry.reference}
        assert all(all(line) for line in table.lines if line[0] in pruned)


def tables_of(part, title):
    (section,) = (section for section in part.sections if section.title == title)
    return section.tables


def assert_even_and_filled(results, part):
    """Raises unless InfoBatch leaves out about as much as OrderDP, and all methods have means in all parts."""
    trained = {label: entry.mean("samples_backward") for label, entry in results.entries.items()}
    assert trained["InfoBatch 99 % least_kept 0.1"] == pytest.approx(trained["OrderDP 41 %"], rel=0.05)
    tables = [table for table in tables_of(part, "Progress") if table.name.startswith("progress_")]
    assert len(tables) == 4
    assert all(all(line) for table in tables for line in table.lines)


def test_methods_that_are_asked_for_different_ratios_are_shown_together_where_a_study_says_so(tmp_path, tiny_recipe):
    study = load_study(FILES["table9"], "smoke", seeds=(0,))
    plan = dataclasses.replace(study.parts["digits"], recipe=tiny_recipe(epochs=2))
    folder = tmp_path / "study"
    start_study(dataclasses.replace(study, parts={"digits": plan}), folder, log=quiet)
    write_report(folder)
    lines = (folder / "report" / "tables" / "digits-accuracy.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| method | 41 % |"
    names = [re.sub(r" \(prunes.*\)", "", line.split(" | ")[0][2:]) for line in lines[2:]]
    assert names[:7] == [
        "OrderDP",
        "OrderDP unseen at 3",
        "InfoBatch 99 % least_kept 0.1",
        "UCB every 1",
        "ε-greedy every 1",
        "dynamic random",
        "full data",
    ]


@pytest.mark.parametrize(
    ("size", "shown"),
    [("smoke", {"digits": 0.41}), ("gpu", 0.61), ("cpu", {"fashion_mnist": 0.645, "cifar10": 0.57, "cifar100": 0.48})],
)
def test_a_part_may_show_its_methods_under_a_ratio_of_its_own(size, shown):
    study = load_study(FILES["table9"], size)
    assert study.outline.together == shown
    for name, plan in study.parts.items():
        asked = {round(recipe.strategy.asked_ratio, 3) for recipe in plan.pruned()} - {0.99}
        assert asked == {study.outline.together_in(name)}
        assert any(getattr(recipe.strategy, "least_kept", 0) == 0.1 for recipe in plan.pruned())
    assert study.outline.together_in("other") == (shown if size == "gpu" else None)


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_the_third_and_fourth_table_train_alike_on_crops_of_56_of_64_pixels(size):
    third, fourth = (load_study(FILES[name], size).parts for name in ("table3", "table4"))
    assert [part.recipe for part in third.values()] == [part.recipe for part in fourth.values()]
    (plan,) = third.values()
    assert (plan.recipe.dataset, plan.recipe.image_size, plan.recipe.augment) == ("folder", 56, "flip_crop")
    assert plan.recipe.image_size * 256 // 224 == 64  # what an image is resized to before its centre is cropped
    assert {recipe.strategy.asked_ratio for recipe in plan.pruned()} == {0.4}


def test_the_fifth_table_has_a_strong_recipe_a_swin_transformer_and_a_masked_autoencoder():
    for size in SIZES:
        strong, swin, masked = (plan.recipe for plan in load_study(FILES["table5"], size).parts.values())
        assert (strong.mixes, strong.ema > 0, strong.augment) == (True, True, "flip_crop_random_erase")
        assert strong.label_smoothing == swin.label_smoothing == 0.1
        assert "swin" in swin.model
        assert (swin.drop_path > 0, swin.clip_norm, swin.schedule) == (True, 5.0, "cosine")
        assert masked.finetune is not None
        assert masked.finetuning().strategy.name == "full"
    published = [plan.recipe.epochs for plan in load_study(FILES["table5"], "paper").parts.values()]
    assert (published[1:], masked.finetuning().epochs) == ([300, 300], 100)


def test_the_seventh_table_trains_with_each_optimizer():
    used = {
        size: [plan.recipe.optimizer for plan in load_study(FILES["table7"], size).parts.values()] for size in SIZES
    }
    both = ["sgd", "adamw", "lars", "lamb", "lars_release", "lamb_release"]
    published = ["sgd", "adamw", "lars_release", "lamb_release"]
    assert used == {"smoke": both, "cpu": both, "gpu": published, "paper": published}
    for plan in load_study(FILES["table7"], "paper").parts.values():
        assert (plan.recipe.dataset, plan.recipe.model, plan.recipe.epochs) == ("cifar10", "resnet50", 200)


@pytest.mark.parametrize("name", ["table2", "table8", "table9", "table11"])
def test_the_first_score_of_the_release_is_a_row_beside_the_default(name):
    for size in SIZES:
        for part, plan in load_study(FILES[name], size).parts.items():
            chosen = [recipe.strategy for recipe in plan.pruned() if recipe.strategy.name == "orderdp"]
            split_evenly = {first: [] for first in (inf, 3.0)}
            for each in chosen:
                if each.prune_ratio is not None:
                    split_evenly[each.initial_score].append(each.prune_ratio)
            assert split_evenly[inf] == split_evenly[3.0] != [], (size, part)
            split_by_release = [(0.8, 0.375, 3.0)] if 0.7 in split_evenly[inf] else []
            given = [each for each in chosen if each.prune_ratio is None]
            assert [(each.explore, each.exploit, each.initial_score) for each in given] == split_by_release


def test_a_published_table_stands_beside_a_section_that_is_shown():
    table = Published("CIFAR", ("method", "30 %"), {"OrderDP": ["95.6"]}, section="usage")
    message = "a published table needs a section that the report shows, got 'usage' for 'CIFAR'; choose from accuracy"
    with raises(ValueError, message):
        Outline("mine", sections=("accuracy",), published=(table,))


def test_the_toy_example_stands_beside_what_is_printed():
    shown = table10()
    header, rows = shown.tables["table10"]
    chance = header.index("probability")
    for method in ("InfoBatch", "OrderDP"):
        assert sum(Fraction(row[chance]) for row in rows if row[0] == method) == 1
    infobatch = {row[1]: row for row in rows if row[0] == "InfoBatch"}
    assert {kept: (*row[2:5], round(row[5], 9)) for kept, row in infobatch.items()} == {
        "3 4 5": ("16/25", "12", 4.0, 0.4),
        "1 3 4 5": ("4/25", "17", 4.25, 0.2),
        "2 3 4 5": ("4/25", "22", 5.5, 0.2),
        "1 2 3 4 5": ("1/25", "27", 5.4, 0.0),
    }
    assert shown.summary[1] == [("InfoBatch", "4.336", "3", "3", "4.336"), ("OrderDP", "4.26", "0.852", "3", "4.06")]


def test_seeds_and_settings_can_be_given_for_all_parts(monkeypatch):
    row = dataclasses.replace(DATASETS["fashion_mnist"], is_installed=lambda: False)
    monkeypatch.setitem(DATASETS, "fashion_mnist", row)
    study = load_study(FILES["table8"], "cpu", seeds=(7, 8), data_root="data", device="cpu")
    assert set(study.parts) == {"fashion_mnist", "cifar10", "cifar100"}
    for plan in study.parts.values():
        assert (plan.seeds, plan.recipe.data_root, plan.recipe.device) == ((7, 8), "data", "cpu")


CUSTOM = """
title = "Two data sets"
methods = ["orderdp"]
prune_ratios = [0.5]
[[smoke]]
recipe = "digits"
[[smoke]]
recipe = "fashion_mnist"
[[cpu]]
recipe = "digits"
"""


def roots(path, size, **changes):
    """The folder and the download of each part of the custom study."""
    path.write_text(CUSTOM)
    parts = load_study(path, size, **changes).parts
    return {name: (part.recipe.data_root, part.recipe.download) for name, part in parts.items()}


@pytest.mark.parametrize("installed", [False, True])
def test_a_folder_of_data_goes_to_the_parts_that_use_it(tmp_path, monkeypatch, installed):
    row = dataclasses.replace(DATASETS["fashion_mnist"], is_installed=lambda: installed)
    monkeypatch.setitem(DATASETS, "fashion_mnist", row)
    found = roots(tmp_path / "my.toml", "smoke", data_root="data", download=True)
    assert found == {"digits": (None, False), "fashion_mnist": ("data", True)}


def test_a_folder_of_data_that_no_part_uses_is_refused(tmp_path):
    for changes in ({"data_root": "data"}, {"download": True}):
        with pytest.raises(
            ValueError, match=r"^(data_root|download) applies to data sets '.*, got \w+ for 'digits'; leave"
        ):
            roots(tmp_path / "my.toml", "cpu", **changes)


def test_what_is_installed_needs_no_folder_beside_what_is_not(monkeypatch):
    row = dataclasses.replace(DATASETS["fashion_mnist"], is_installed=lambda: True)
    monkeypatch.setitem(DATASETS, "fashion_mnist", row)
    parts = load_study(FILES["table8"], "cpu", data_root="data").parts
    places = {name: part.recipe.data_root for name, part in parts.items()}
    assert places == {"fashion_mnist": None, "cifar10": "data", "cifar100": "data"}


WRONG = {
    "size": ("smok", {}, "no size named 'smok'; did you mean 'smoke'?"),
    "size, far off": ("x", {}, "no size named 'x'; choose from smoke, cpu, gpu, paper"),
    "setting": ("smoke", {"devise": "cpu"}, "no recipe key 'devise'; did you mean 'device'?"),
    "seed": ("smoke", {"seeds": (1, 1)}, "seed must be given once each, got [1, 1]; leave the repeats out"),
}


@pytest.mark.parametrize(("size", "given", "message"), list(WRONG.values()), ids=list(WRONG))
def test_what_a_study_does_not_have_is_refused_with_the_nearest_name(size, given, message):
    with raises(ValueError, message):
        load_study(FILES["table8"], size, **given)


MISTYPED = {
    "method": ('"orderdp"', '"orderpd"', "no strategy named 'orderpd'; did you mean 'orderdp'?"),
    "section": ('"stability"', '"stabilty"', "no section named 'stabilty'; did you mean 'stability'?"),
    "recipe": ('recipe = "digits"', 'recipe = "digts"', "no recipe named 'digts'; did you mean 'digits'?"),
    "method twice": ('"orderdp"', '"ucb", "ucb"', "methods must be given once each, got ["),
    "ratio twice": ("= [0.7]", "= [0.7, 0.70]", "prune_ratios must be given once each, got [0.7, 0.7]; leave"),
    "reference": ("seeds = [0, 1]", 'seeds = [0]\nagainst = ["ful"]', "no reference named 'ful'; did you mean 'full'?"),
    "key": ("epochs = 10", "epoch = 10", "no recipe key 'epoch'; did you mean 'epochs'?"),
}


@pytest.mark.parametrize(("right", "wrong", "message"), list(MISTYPED.values()), ids=list(MISTYPED))
def test_a_mistake_in_a_study_is_refused_with_the_nearest_name(tmp_path, right, wrong, message):
    text = FILES["table8"].read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        load_study(path, "smoke")


def test_every_study_says_how_long_it_takes_at_each_of_its_sizes():
    for row in catalogue().values():
        if row.file is not None:
            sizes = [size for size in SIZES if size in read_study(row.file)]
            assert re.fullmatch(", ".join(rf"{size} [\d.]+ (s|min|h|d)" for size in sizes), row.takes), row.name
        assert row.takes


def test_ten_runs_are_ten_seeds_of_the_published_model():
    for size, dataset in (("cpu", "cifar100"), ("gpu", "cifar100"), ("paper", "cifar100")):
        (plan,) = load_study(FILES["appendix_d6"], size).parts.values()
        assert (plan.seeds, plan.recipe.dataset) == (tuple(range(10)), dataset)
        assert plan.recipe.model == ("small_cnn" if size == "cpu" else "resnet18")


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with raises(ValueError, "no study named 'tabel2'; did you mean 'table2'?"):
        find_study("tabel2")
    with pytest.raises(
        ValueError,
        match=r"^no study named 'x'; choose from appendix_d6, figure1, figure3, .*, theorem4, theorem4_sides, worth$",
    ):
        find_study("x")


@pytest.fixture
def small(tiny_recipe):
    """Table 8 of one method at one ratio, twice."""
    study = load_study(FILES["table8"], "smoke", seeds=(0,))
    plan = dataclasses.replace(
        study.parts["digits"],
        recipe=tiny_recipe(epochs=2),
        methods=({"name": "orderdp", "prune_ratio": 0.4},),
        against=("full",),
    )
    return dataclasses.replace(study, parts={"first": plan, "second": plan})


def test_a_study_makes_a_comparison_for_each_part_and_knows_what_to_show(tmp_path, small):
    folder, told = tmp_path / "study", []
    found = start_study(small, folder, log=told.append)
    assert [list(each.finished) for each in found] == [["OrderDP 40 %", "full data"]] * 2
    assert told[::2] == ["[1/2] OrderDP 40 %, seed 0", "[2/2] full data, seed 0"] * 2
    assert begun_or_failed(told[:4]) + begun_or_failed(told[4:]) == told[::2]
    assert {path.name for path in folder.iterdir()} == {"first", "second", "study.toml"}
    assert load_outline(folder) == (small.outline, {name: folder / name for name in ("first", "second")})
    assert load_comparison(folder / "first")[0] == small.parts["first"]
    page = write_report(folder).read_text(encoding="utf-8")
    assert "In the paper: Jaccard similarity to the epoch before" in page
    assert "0.767 ± 0.008" in page


def test_parts_with_equal_data_load_it_once(tmp_path, small, monkeypatch):
    load, loads = checks.load_dataset, []

    def loaded(name, **settings):
        loads.append(name)
        return load(name, **settings)

    monkeypatch.setattr(checks, "load_dataset", loaded)
    start_study(small, tmp_path / "study", log=quiet)
    assert loads == ["digits"]


def test_a_study_goes_on_where_it_was_stopped(tmp_path, small):
    folder, told = tmp_path / "study", []
    start_study(small, folder, log=quiet)
    (folder / "second" / "full-data-seed0" / "result.json").unlink()
    found = resume_study(folder, log=told.append)
    assert begun_or_failed(told) == ["[2/2] full data, seed 0"]
    assert [each.open for each in found] == [[], []]


def test_a_study_that_lacks_a_data_set_writes_nothing(tmp_path, small):
    lacking = dataclasses.replace(
        small.parts["second"],
        recipe=Recipe(dataset="cifar10", data_root=str(tmp_path / "none")),
    )
    study = dataclasses.replace(small, parts={"first": small.parts["first"], "second": lacking})
    with pytest.raises(FileNotFoundError, match=r"^data_root must be a folder that exists, got "):
        start_study(study, tmp_path / "study", log=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("processes", [0, "two"])
def test_a_study_by_no_process_is_refused_before_anything_is_written(tmp_path, small, processes):
    with pytest.raises(ValueError, match=rf"^processes must be a whole number from 1, .*, got {processes}; write"):
        start_study(small, tmp_path / "study", processes=processes, log=quiet)
    assert not list(tmp_path.iterdir())


def test_a_study_leaves_a_folder_that_is_there_alone(tmp_path, small):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match=r"^the run folder must be new, got "):
        start_study(small, tmp_path, log=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_study_by_several_processes_shares_the_threads(tmp_path, small, monkeypatch):
    monkeypatch.setattr(study_module, "resume_study", lambda folder, **named: [])
    monkeypatch.setattr("orderdp.comparison.engines.local.os.cpu_count", lambda: 8)
    free = dataclasses.replace(
        small.parts["first"], recipe=small.parts["first"].recipe.model_copy(update={"num_threads": None})
    )
    study = dataclasses.replace(small, parts={"first": free, "second": small.parts["second"]})
    start_study(study, tmp_path / "study", processes=4, log=quiet)
    assert [load_recipe(tmp_path / "study" / name / "recipe.toml").num_threads for name in study.parts] == [2, 1]


def test_a_comparison_alone_shows_every_section(pair):
    outline, paths = load_outline(pair.path)
    assert (outline.sections, outline.published, outline.title) == (tuple(SECTIONS), (), "Comparison: run")
    assert paths == {"": pair.path}


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    for text in (None, "parts = 3", "title = 'x'", "{"):
        if text is not None:
            (tmp_path / "study.toml").write_text(text)
        why = "; write" if text is None else r" \("
        message = rf"^a folder of runs must hold comparison\.toml or study\.toml, got {re.escape(str(tmp_path))}{why}"
        with pytest.raises(ValueError, match=message):
            resume_study(tmp_path, log=quiet)


RATIOS = {
    "appendix_d6": [0.7, 0.99],
    "figure1": [0.7],
    "figure3": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "figure4": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "figure9": [0.3],
    "figure10": [0.5],
    "figure11": [0.99],
    "figure12": [0.4],
    "figure13": [0.7],
    "table1": [0.3, 0.5, 0.7],
    "table2": [0.3, 0.5, 0.7],
    "table3": [0.4],
    "table4": [0.3, 0.4, 0.6],
    "table5": [0.221, 0.298, 0.308],
    "table6": [ratio / 100 for ratio in range(5, 80, 5)],
    "table7": [0.426, 0.5],
    "table8": [0.4, 0.7],
    "table9": [0.61, 0.99],
    "table11": [0.4, 0.7],
}


def test_the_search_for_the_largest_lossless_ratio_has_the_margin_of_its_size():
    for size, margin in (("cpu", 0.5), ("gpu", 0.5), ("paper", 0.1)):
        for part, plan in load_study(FILES["table6"], size).parts.items():
            assert (plan.lossless.margin, plan.against) == (margin, ("full",)), part
            assert {"OrderDP", "InfoBatch", "dynamic random"} < set(plan.lossless.arms)
    assert len(load_study(FILES["table6"], "paper").parts) == 6


SEARCHES = {
    "margin 0": ("{ margin = 0 }", "margin is in percentage points and must be above 0, got 0; write 0.5"),
    "two seeds": (
        "{ margin = 1, seeds_max = 2 }",
        "seeds_max must be a whole number from 3, which a test needs for its first look, got 2; write 20",
    ),
    "no margin": ("{ seeds_max = 9 }", "lossless in a [[smoke]] of '{}' must be a table of margin, and perhaps "),
    "another key": ("{ margin = 1, seed_max = 9 }", "lossless in a [[smoke]] of '{}' must be a table of margin, and "),
}


@pytest.mark.parametrize(("search", "message"), list(SEARCHES.values()), ids=list(SEARCHES))
def test_a_mistake_in_a_search_is_named(tmp_path, search, message):
    path = tmp_path / "mine.toml"
    path.write_text(f"{CUSTOM}".replace('"digits"', f'"digits"\nlossless = {search}', 1), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path))}"):
        load_study(path, "smoke")


@pytest.mark.parametrize("beside", ['static = ["random"]', 'against = ["full"]', "budgets = [0.5]", "max_lrs = [0.1]"])
def test_what_a_search_has_no_place_for_is_refused(tmp_path, beside):
    path = tmp_path / "mine.toml"
    path.write_text(CUSTOM.replace('"digits"', f'"digits"\nlossless = {{ margin = 1 }}\n{beside}', 1))
    name = beside.split()[0]
    with pytest.raises(ValueError, match=rf"^{name} is not for a part with lossless, which .*; leave one of them out$"):
        load_study(path, "smoke")


@every_study
def test_the_published_size_asks_for_the_published_ratios(name):
    asked = [
        sorted({round(recipe.strategy.asked_ratio, 3) for recipe in plan.pruned()})
        for plan in load_study(FILES[name], "paper").parts.values()
    ]
    if name == "table5":  # a ratio for each model
        asked = [sorted(ratio for ratios in asked for ratio in ratios)]
    assert all(ratios == RATIOS[name] for ratios in asked)


# Digests of all published cells, each held against the paper: one that changes is to be held against it anew.
CELLS = {
    "appendix_d6": "f9ba6c7dafc8",
    "figure1": "079f28f2b670",
    "figure3": "424e8ebe5e09",
    "table1": "c2f11425aed6",
    "table11": "7c9e63dbfc97",
    "table2": "3b67f6f36a4c",
    "table3": "db399cad4ea9",
    "table4": "b9124ad037e5",
    "table5": "6cadb77f661e",
    "table6": "df552bd0fa6a",
    "table7": "061ab1a7e47b",
    "table8": "39f8766ae1ce",
    "table9": "b8d2c4155380",
}


@every_study
def test_no_cell_of_the_paper_has_changed(name):
    cells = [
        [table.title, list(table.columns), {label: list(row) for label, row in table.rows.items()}]
        for table in load_study(FILES[name], "smoke").outline.published
    ]
    assert (hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12] if cells else None) == CELLS.get(name)

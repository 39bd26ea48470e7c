"""What the runs of a figure answer to its claim, on runs whose numbers are known."""

import math
from types import SimpleNamespace

import pytest

from orderdp.comparison.results import Entry, Results
from orderdp.paper.answers import ANSWERS, answers
from orderdp.paper.contents import places
from orderdp.paper.study_file import read_study
from orderdp.report.sections.lossless import sentences

SECONDS = {"training_s": 0.0, "selection_s": 0.0, "data_s": 0.0, "evaluation_s": 100.0}


def entry(name, ratio, results=None, epochs=None, **strategy):
    """Returns runs of a strategy: seed to its result, and seed to the rows of its epochs."""
    labels = {"orderdp": "OrderDP", "infobatch": "InfoBatch", "dynamic_random": "dynamic random", "full": "full data"}
    label = labels.get(name, name)
    label += f" {strategy}" if strategy else ""
    whole = ratio is None
    found = Entry(label if whole else f"{label} {ratio}", label, ratio, whole, None, {"name": name, **strategy})
    found.results.update({seed: {**SECONDS, **result} for seed, result in (results or {}).items()})
    found.metrics.update(epochs or {})
    return found


def results_of(*entries):
    planned = SimpleNamespace(sizes=SimpleNamespace(num_test_samples=1_000), seeds=(0, 1, 2))
    return Results(planned, {each.label: each for each in entries})


def said(study, *entries):
    return list(answers(study, {"task": results_of(*entries)}))


def accurate(*accuracies, seconds=1.0, samples=100):
    return {
        seed: {"accuracy_last": accuracy, "training_s": seconds + seed / 100, "samples_backward": samples}
        for seed, accuracy in enumerate(accuracies)
    }


def test_each_claim_is_answered_and_nothing_else():
    files = {place.name: place.row.file for place in places() if place.row is not None and place.row.file is not None}
    assert {name for name, file in files.items() if "claim" in read_study(file)} == set(ANSWERS)


def test_figures_of_one_kind_have_one_answer():
    assert ANSWERS["figure9"] is ANSWERS["figure10"] is ANSWERS["figure11"]
    assert ANSWERS["figure12"] is ANSWERS["figure13"]


def test_a_search_is_answered_by_the_sentences_of_its_report():
    assert ANSWERS["table6"] is sentences


def test_each_task_is_answered_by_its_own_runs():
    tasks = {part: results_of(entry("orderdp", 0.5, used(of))) for part, of in (("a", [0, 4]), ("b", [1, 4]))}
    a, b = answers("figure9", tasks)
    assert a.startswith("Here, a: OrderDP uses every sample in 1 of 1 seed.")
    assert b.startswith("Here, b: OrderDP uses every sample in 0 of 1 seed and leaves out up to 1 in the others.")


def test_a_study_without_claim_has_no_answer():
    assert said("table2", entry("orderdp", 0.5, accurate(90.0, 90.0, 90.0))) == []


def test_norms_are_those_of_full_data_times_so_much():
    def rows(norms, deviations):
        return [
            {"accuracy": 80.0 + number, "gradient_norm": norm, "gradient_norm_deviation": deviation}
            for number, (norm, deviation) in enumerate(zip(norms, deviations, strict=True))
        ]

    ones = (1.0, 1.0, 1.0)
    norms = [(2.0, 1.5, 1.0), (2.0, 1.0, 1.5), (2.0, 1.0, 1.5), (2.0, 1.5, 1.0)]
    of_full = {seed: rows(each, ones) for seed, each in enumerate(norms)} | {4: rows((1.0,), (1.0,))}  # which has no r
    full = entry("full", None, accurate(81.0), of_full)
    short = entry("short", None, accurate(81.0), {0: rows((1.0, 2.0, 3.0), ones)})
    epochs = [((3.0, 3.0, 3.0), (0.5, 0.5, 0.5)), ((1.5, 0.9, 1.2), (2.0, 4.0, 3.0)), ((1.0, 1.5, 2.0), ones)]
    method = entry("infobatch", 0.7, accurate(80.0), {seed: rows(*each) for seed, each in enumerate(epochs)})
    assert said("figure1", full, short, method) == [
        "Here, task: r of accuracy and norm over the epochs of full data is −0.75, from −1.00 to −0.50 in 4 seeds.",
        "Here, task: the norm of InfoBatch is 1.27 times that of full data, larger in 1 of 3 seeds. Its standard "
        "deviation over 20 steps is 1.50 times that of full data, larger in 1 of 3 seeds.",
    ]


def test_a_run_that_measured_no_norm_is_left_out_of_both():
    def rows(*norms):
        return [{"accuracy": 1.0 + norm, "gradient_norm": norm, "gradient_norm_deviation": 1.0} for norm in norms]

    unmeasured = [{**row, "gradient_norm": None} for row in rows(1.0, 2.0, 6.0)]
    full = entry("full", None, accurate(81.0), {0: rows(1.0, 2.0, 3.0), 2: rows(1.0, 2.0, 6.0)})
    method = entry("infobatch", 0.7, accurate(80.0), {0: rows(4.0, 4.0), 1: rows(9.0), 2: rows(6.0)})
    whole = said("figure1", full, method)[1]
    assert "2.00 times that of full data, larger in 2 of 2 seeds. " in whole
    full.metrics[2] = [{**row, "accuracy": None} for row in unmeasured]
    assert "2.00 times that of full data, larger in 1 of 1 seed. " in said("figure1", full, method)[1]


def test_ratios_are_compared_with_infobatch_at_the_same():
    runs = [
        entry("orderdp", 0.9, accurate(70.0, 70.5, 71.0, seconds=1.0, samples=100)),
        entry("orderdp", 0.5, accurate(92.0, 92.1, 92.2, seconds=3.0, samples=500)),
        entry("orderdp", 0.7, accurate(90.0, 91.0, 92.0, seconds=2.0, samples=300)),
        entry("infobatch", 0.5, accurate(90.0, 90.1, 90.2, seconds=3.0, samples=600)),
        entry("infobatch", 0.7, accurate(91.0, 91.0, 91.0, seconds=2.1, samples=450)),
        entry("infobatch", 0.9, accurate(80.0, 80.5, 81.0, seconds=2.0, samples=300)),
    ]
    assert said("figure3", *runs) == [
        "Here, task: OrderDP is more accurate than InfoBatch at 1 of 3 prune ratios, less accurate at 1, and open "
        "at 1. By seconds, it is faster at 2. InfoBatch trains 1.20 to 3.00 times as many samples."
    ]
    assert said("figure3", runs[0], runs[3]) == []  # no ratio in common


def test_time_holds_the_seconds_of_the_choice_and_of_the_data():
    runs = [
        entry(name, 0.5, accurate(90.0, 90.0, 90.0, seconds=of)) for name, of in (("orderdp", 1.0), ("infobatch", 2.0))
    ]
    for key in ("selection_s", "data_s"):
        assert "By seconds, it is faster at 1." in said("figure3", *runs)[0]
        for result in runs[0].results.values():
            result[key] = 1.5
        assert "By seconds, it is faster at 0." in said("figure3", *runs)[0]
        for result in runs[0].results.values():
            result[key] = 0.0


def test_two_seeds_leave_a_ratio_open():
    runs = [entry("orderdp", 0.5, accurate(92.0, 92.1)), entry("infobatch", 0.5, accurate(90.0, 90.1))]
    assert "at 0 of 1 prune ratio, less accurate at 0, and open at 1." in said("figure3", *runs)[0]


def test_splits_of_a_ratio_are_compared_in_pairs():
    uneven = accurate(90.1, 90.0, 90.3, seconds=4.0)
    uneven[2]["selection_s"], uneven[2]["data_s"] = 2.0, 2.98
    runs = [
        entry("orderdp", 0.5, accurate(90.0, 90.1, 90.2, seconds=5.0), explore=0.5, exploit=1.0),
        entry("orderdp", 0.5, uneven, explore=0.7, exploit=0.71),
        entry(
            "orderdp", 0.5, accurate(92.0, 92.1, 92.2, seconds=6.0), explore=1.0, exploit=0.5, initial_score=math.inf
        ),
        entry("orderdp", 0.5, accurate(50.0, 50.0, 50.0, seconds=9.0), explore=1.0, exploit=0.5, initial_score=0.0),
        entry("orderdp", 0.5, accurate(50.0, 50.0, 50.0, seconds=9.0), explore=1.0, exploit=0.5, initial_score=3.0),
        entry("orderdp", 0.6, accurate(88.0, 88.0, 88.0, seconds=9.0), explore=0.4, exploit=1.0),
        entry("orderdp", 0.4, accurate(88.0, 88.0, 88.0, seconds=9.0)),
    ]
    assert said("figure4", *runs) == [
        "Here, task: at 50 %, accuracy differs in 2 of 3 pairs of splits, by up to 2.00 points (2 after Holm's "
        "correction), and time in 1. A split takes 5.0 to 6.0 seconds on average."
    ]


def test_pairs_of_splits_are_judged_together_too():
    # Their p-values are 0.049, 0.029 and 0.013: each below 0.05, and the least of three below 0.017.
    runs = [
        entry("orderdp", 0.5, accurate(*accuracies), explore=explore, exploit=0.5 / explore)
        for explore, accuracies in {0.5: (90.0, 90.0, 90.0), 0.7: (90.6, 91.0, 91.4), 1.0: (91.4, 92.0, 92.6)}.items()
    ]
    (text,) = said("figure4", *runs)
    assert "accuracy differs in 3 of 3 pairs of splits, by up to 2.00 points (1 after Holm's correction)" in text
    # Two seeds are too few to say so, however near their differences are.
    for run in runs:
        del run.results[2]
    runs.append(entry("orderdp", 0.5, accurate(80.0, 80.0, 80.0), explore=0.9, exploit=0.5 / 0.9))
    runs.append(entry("orderdp", 0.5, accurate(85.0, 85.0, 85.2), explore=0.8, exploit=0.5 / 0.8))
    (text,) = said("figure4", *runs)
    assert "accuracy differs in 1 of 10 pairs of splits, by up to 5.07 points (1 after Holm's correction)" in text


def test_splits_without_a_seed_in_common_are_no_pair():
    runs = [entry("orderdp", 0.5, accurate(90.0, 90.1, 90.2), explore=explore) for explore in (0.5, 0.7, 0.9)]
    for seed in range(3):
        runs[2].results[seed + 3] = runs[2].results.pop(seed)
    assert said("figure4", *runs)[0].startswith("Here, task: at 50 %, accuracy differs in 0 of 1 pair of splits, ")
    assert said("figure4", *runs[1:]) == []


def test_what_is_left_out_stands_beside_the_difference_to_full_data():
    full = entry("full", None, {seed: {"accuracy_last": 90.0, "samples_backward": 200} for seed in range(3)})
    kept = {"orderdp": (89.0, 140), "infobatch": (90.5, 150), "dynamic_random": (80.0, 140)}
    runs = [
        entry(name, 0.3, {seed: {"accuracy_last": accuracy, "samples_backward": samples} for seed in range(3)})
        for name, (accuracy, samples) in kept.items()
    ]
    assert said("table5", full, *runs) == [
        "Here, task: the accuracy of OrderDP minus that of full data is −1.00 [−1.10, −0.90] points; it leaves out "
        "30.0 % of the samples.",
        "Here, task: the accuracy of InfoBatch minus that of full data is +0.50 [+0.40, +0.60] points; it leaves out "
        "25.0 % of the samples.",
    ]
    assert said("table7", *runs) == []


def directed(*cosines):
    """Returns the rows of seeds in which the cosines to the full gradient were measured in every second epoch."""
    return {
        seed: [
            {
                "epoch": 2 * at + odd,
                "alignment": {"full": {"cosine": cosine}, "surrogate": {"cosine": 0.9}} if odd else None,
            }
            for at, cosine in enumerate(of_seed)
            for odd in (0, 1)
        ]
        for seed, of_seed in enumerate(cosines)
    }


def test_the_direction_of_orderdp_is_compared_with_that_of_infobatch():
    runs = [
        entry("orderdp", 0.7, epochs=directed([0.8, 0.5], [0.6])),
        entry("orderdp", 0.7, epochs=directed([0.1, 0.1], [0.1]), explore=0.8, exploit=0.375),
        entry("orderdp", 0.7, epochs=directed([0.1, 0.1], [0.1]), initial_score=3.0),
        entry("orderdp", 0.4, epochs=directed([0.1, 0.1], [0.1])),
        entry("infobatch", 0.7, epochs=directed([0.7, 0.9], [0.6, 0.4])),
    ]
    assert said("table11", *runs) == [
        "Here, task: at 70 %, the cosine to the full gradient is 0.633 for OrderDP and 0.733 for InfoBatch on average, "
        "and larger for OrderDP in 1 of 3 measurements. That of OrderDP to its surrogate's gradient, "
        "∇L_q, is 0.900."
    ]
    assert said("table11", *runs[:-1]) == []


def alike(*similarities):
    """Returns the rows of seeds with the similarity of each epoch to the one before, which the first has not."""
    return {
        seed: [{"epoch": at, "jaccard": each} for at, each in enumerate([None, *of_seed])]
        for seed, of_seed in enumerate(similarities)
    }


def test_the_similarity_of_epochs_is_compared_with_that_of_infobatch_and_of_chance():
    runs = [
        entry("orderdp", 0.7, epochs=alike([0.2, 0.6], [0.4])),
        entry("orderdp", 0.7, epochs=alike([0.9, 0.9], [0.9]), initial_score=3.0),
        entry("orderdp", 0.4, epochs=alike([0.9, 0.9], [0.9])),
        entry("infobatch", 0.7, epochs=alike([0.1, 0.7], [0.4, 0.9])),
    ]
    told = (
        "Here, task: at 70 %, the similarity to the epoch before is 0.400 for OrderDP and 0.400 for InfoBatch on "
        "average, and larger for OrderDP in 1 of 3 epochs."
    )
    assert said("table8", *runs) == [told]
    chance = entry("dynamic_random", 0.7, epochs=alike([0.1, 0.2], [0.3]))
    assert said("table8", *runs, chance) == [f"{told} For dynamic random it is 0.200."]
    assert said("table8", *runs[:-1], chance) == []


def used(*histograms):
    return {seed: {"coverage": {"histogram": list(each)}} for seed, each in enumerate(histograms)}


def test_samples_never_used_are_counted():
    runs = [
        entry("orderdp", 0.5, used([0, 4, 8, 4], [3, 1, 4, 8], [1, 3, 4, 8])),
        entry("dynamic_random", 0.5, used([2, 0, 0, 0, 4, 0, 1, 0, 0, 0, 1])),
    ]
    assert said("figure9", *runs) == [
        "Here, task: OrderDP uses every sample in 1 of 3 seeds and leaves out up to 3 in the others. It uses the "
        "middle half of the samples 1 to 3 times.",
        "Here, task: dynamic random uses every sample in 0 of 1 seed and leaves out up to 2 in the others. It uses the "
        "middle half of the samples 0 to 4 times.",
    ]


def test_a_sample_that_all_seeds_use_is_not_left_out():
    assert said("figure11", entry("orderdp", 0.5, used([0, 4], [0, 2, 2]))) == [
        "Here, task: OrderDP uses every sample in 2 of 2 seeds. It uses the middle half of the samples 1 to 1 times."
    ]


@pytest.fixture
def timed():
    """Returns the rows of a run that reaches accuracies at epochs of so many seconds and samples each."""

    def rows(accuracies, seconds, samples):
        return [
            {**SECONDS, "training_s": seconds, "accuracy": accuracy, "samples_forward": samples * number}
            for number, accuracy in enumerate(accuracies, 1)
        ]

    return rows


def test_cases_are_accuracies_that_either_method_reaches(timed):
    full = entry("full", None, accurate(90.0), {0: timed([90.0], 1.0, 100)})  # goals 85, 88 and 89
    epochs = {0: timed([80.0, 86.0, 88.0], 1.0, 50), 1: timed([90.0], 1.0, 50)}  # no other has a seed 1
    own = entry("orderdp", 0.5, accurate(88.0, 90.0), epochs)
    unlike = entry("infobatch", 0.9, accurate(90.0), {0: timed([90.0], 0.1, 1)})  # at another prune ratio
    rival = entry("infobatch", 0.5, accurate(89.0), {0: timed([86.0, 87.0, 89.0], 0.9, 60)})
    random = entry("dynamic_random", 0.5, accurate(87.0), {0: timed([80.0, 87.0, 87.0], 1.5, 50)})
    assert said("figure12", full, own, rival, random, unlike) == [
        "Here, task: in 3 cases (accuracy 85, 88 and 89 %, 1 seed), OrderDP is first in 0 by seconds, InfoBatch in "
        "3, and neither gets there in 0. By samples: 1 and 2, and equal in 0.",
        "Here, task: in 3 cases (accuracy 85, 88 and 89 %, 1 seed), OrderDP is first in 2 by seconds, dynamic random "
        "in 0, and neither gets there in 1. By samples: 1 and 0, and equal in 1.",
    ]


def test_times_are_of_the_processor_where_all_runs_measured_them(timed):
    runs = [
        entry("full", None, accurate(90.0, 90.0, 90.0)),  # goals 85, 88 and 89
        entry("orderdp", 0.5, accurate(89.0, 89.0, 89.0, seconds=1.0), explore=0.5, exploit=1.0),
        entry("orderdp", 0.5, accurate(89.0, 89.0, 89.0, seconds=1.0), explore=1.0, exploit=0.5),
        entry("infobatch", 0.5, accurate(89.0, 89.0, 89.0, seconds=2.0)),
    ]
    for number, each in enumerate(runs):  # the order of the clock, the other way round
        each.metrics[0] = timed([89.0], 1.0 if number < 3 else 2.0, 50)
        each.metrics[0][0]["processor_s"] = [9.0, 8.0, 7.0, 3.0][number]
        for seed, result in each.results.items():
            result["processor_s"] = [9.0, 8.0, 7.0, 3.0][number] + seed / 100
    assert "By processor seconds, it is faster at 0." in said("figure3", *runs)[0]
    assert "and time in 1. A split takes 7.0 to 8.0 processor seconds on average." in said("figure4", *runs)[0]
    first = said("figure13", *runs)[0]
    assert "first in 0 by processor seconds, InfoBatch in 3, and neither gets there in 0." in first
    del runs[0].results[1]["processor_s"]  # of a single run, and all is by the clock
    assert "By seconds, it is faster at 2." in said("figure3", *runs)[0]
    assert "and time in 0. A split takes 1.0 to 1.0 seconds on average." in said("figure4", *runs)[0]
    assert "first in 3 by seconds, InfoBatch in 0, and neither gets there in 0." in said("figure13", *runs)[0]


def test_without_the_epochs_no_time_is_told():
    full, own, rival = (
        entry("full", None, accurate(90.0)),
        *(entry(name, 0.5, accurate(90.0)) for name in ("orderdp", "infobatch")),
    )
    assert said("figure13", full, own, rival) == []
    assert said("figure1", full, own, rival) == []

"""The summary that a report begins with."""

import re

import pytest

from orderdp.comparison.results import read_results
from orderdp.report.summary import conclusions, legend, summary_of
from reference.reported import SHORT, methods, without_results


@pytest.fixture
def judged(made):
    """OrderDP better than the shorter schedule at 30 %, worse at 60 %; other methods of each outcome."""
    names = ("orderdp", "dynamic_random", "infobatch")
    grid = tuple({"name": name, "prune_ratio": ratio} for ratio in (0.3, 0.6) for name in names)
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.5, 91.0))
    for label, accuracies in {
        "OrderDP 30 %": (90.0, 90.5, 91.0),
        "OrderDP 60 %": (87.0, 87.5, 88.0),
        "dynamic random 30 %": (89.0, 89.5, 89.9),
        "dynamic random 60 %": (88.0, 89.5, 88.0),
        "InfoBatch 30 %": (90.0, 90.5, 91.0),
        "InfoBatch 60 %": (80.0, 80.5, 81.0),
        "full data, steps of OrderDP 30 %": (89.0, 89.5, 90.0),
        "full data, steps of OrderDP 60 %": (88.0, 88.5, 89.0),
        "full data, steps of InfoBatch 30 %": (88.0, 88.5, 89.0),
        "full data, steps of InfoBatch 60 %": (88.0, 88.5, 89.0),
    }.items():
        folder.finish(label, accuracies)
    return folder


def test_it_says_what_the_first_method_gains_and_loses_and_counts_the_others(judged):
    # Worth: 15 steps at 30 % are as accurate as 21 of full data, and no schedule is better for certain. At 60 %, no
    # schedule of full data is as bad.
    assert conclusions(read_results(judged.path)) == [
        "OrderDP is worth 40 % more steps than stopping early [+27, ∞) at 30 % and fewer (−100, +0] at 60 %.",
        "Compared with full data trained for the same number of steps, OrderDP gains 1.00 points [0.72, 1.28] at 30 % "
        "and loses 1.00 points [0.72, 1.28] at 60 %.",
        "Compared with full data, OrderDP is statistically indistinguishable (+0.00 [−0.28, +0.28]) at 30 % "
        "and loses 3.00 points [2.72, 3.28] at 60 %.",
        "Compared with full data trained for the same number of steps, of 4 other cases (a method at a prune ratio) "
        "1 gains, 1 loses and 2 are statistically indistinguishable.",
    ]


def test_the_facts_name_the_wrong_labels(made, tiny_recipe):
    for noise, ending in ((0.0, "test samples"), (0.2, ", 20 % of the training labels wrong")):
        folder = made(f"run{noise}", recipe=tiny_recipe(label_noise=noise), methods=methods("orderdp"))
        assert dict(summary_of(read_results(folder.path)).facts)["Data"].endswith(ending)


def test_the_facts_count_the_files_that_could_not_be_decoded_each_once(made):
    folder = made(methods=(), seeds=(0, 1))
    for seed, names in ((0, ["train/a/0.jpg"]), (1, ["train/a/0.jpg", "val/b/1.jpg"])):
        folder.finish("full data", [90], seeds=[seed], also={"unreadable": names})
    told = dict(summary_of(read_results(folder.path)).facts)["Data"]
    assert told.endswith("test samples; 2 cannot be decoded, and others of their classes are read instead")


def test_a_difference_within_the_tolerance_is_said_to_be_one(judged):
    judged.plan.write(judged.path, sizes_of_many_images())
    first = conclusions(read_results(judged.path))[2]
    assert "OrderDP loses at most 0.1 points (+0.00 [−0.01, +0.01]) at 30 %" in first


def test_a_small_loss_within_the_tolerance_is_called_one(judged):
    judged.plan.write(judged.path, sizes_of_many_images())
    judged.finish("OrderDP 30 %", (89.95, 90.45, 90.95))
    first = conclusions(read_results(judged.path))[2]
    assert "OrderDP loses 0.05 points [0.04, 0.06], within the tolerance of 0.1 at 30 %" in first


def test_where_the_first_method_has_no_run_the_others_are_still_judged(judged):
    for label in ("OrderDP 30 %", "OrderDP 60 %"):
        without_results(judged, label, 0, 1, 2)
    assert conclusions(read_results(judged.path)) == [
        "Compared with full data trained for the same number of steps, of 4 other cases (a method at a prune ratio) "
        "1 gains, 1 loses and 2 are statistically indistinguishable."
    ]


def sizes_of_many_images():
    from orderdp.comparison.planned import Sizes

    return Sizes(200, 10_000)


def test_of_one_seed_it_says_what_it_ended_with_and_that_it_may_be_chance(made):
    folder = made(methods=methods("orderdp,prune_ratio=0.5"))
    folder.finish("OrderDP 50 %", (90.0,)).finish("full data", (91.0,)).finish(SHORT, (89.5,))
    (sentence,) = conclusions(read_results(folder.path))
    assert sentence == (
        "OrderDP at 50 % ended 1.00 points below full data and 0.50 points above full data trained for the same number "
        "of steps; with one seed this may be chance, so train at least 3 (--seed 0 1 2)."
    )
    limits = summary_of(read_results(folder.path)).may_not
    assert limits[0] == "A conclusion about accuracy needs at least 3 seeds; there is 1."


def test_where_nothing_can_be_compared_it_says_so(made, pair):
    alone = made("alone", methods=({"name": "full"},)).finish("full data", (90.0,))
    (sentence,) = conclusions(read_results(alone.path))
    assert sentence == "No method prunes here, so nothing may be concluded about pruning."
    without_results(pair, "OrderDP 50 %", 0, 1, 2)
    (sentence,) = conclusions(read_results(pair.path))
    assert sentence.startswith("No pair of a pruned run and its reference is finished")


def test_where_the_first_method_failed_with_one_seed_it_says_so(made):
    folder = made(methods=methods("orderdp,prune_ratio=0.5", "dynamic_random,prune_ratio=0.5"))
    folder.finish("dynamic random 50 %", (90.0,)).finish("full data", (91.0,))
    (sentence,) = conclusions(read_results(folder.path))
    assert sentence == "No pair of OrderDP and a reference is finished, so nothing may be concluded about it."


def test_too_few_pairs_support_nothing(pair):
    without_results(pair, "full data", 1)
    to_short, to_full = conclusions(read_results(pair.path))
    assert "OrderDP gains 0.83 points [0.12, 1.55] at 50 %" in to_short
    assert to_full == "Compared with full data, OrderDP has only 2 of the 3 pairs that a conclusion needs at 50 %."


def test_a_case_of_too_few_pairs_is_not_counted_among_the_others(judged):
    without_results(judged, "dynamic random 30 %", 0)
    assert conclusions(read_results(judged.path))[-1] == (
        "Compared with full data trained for the same number of steps, of 3 other cases (a method at a prune ratio) "
        "1 gains, 1 loses and 1 is statistically indistinguishable."
    )


def test_without_shorter_schedules_the_others_are_compared_with_full_data(made):
    grid = methods("orderdp,prune_ratio=0.5", "dynamic_random,prune_ratio=0.5")
    folder = made(methods=grid, against=("full",), seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.5, 91.0)).finish("OrderDP 50 %", (91.0, 91.5, 92.0))
    folder.finish("dynamic random 50 %", (88.0, 88.5, 89.0))
    assert conclusions(read_results(folder.path)) == [
        "Compared with full data, OrderDP gains 1.00 points [0.72, 1.28] at 50 %.",
        "Compared with full data, dynamic random at 50 % loses.",
    ]


def test_it_names_what_was_compared_on_what_when_and_with_which_version(pair):
    facts = dict(summary_of(read_results(pair.path)).facts)
    assert facts == {
        "Methods": "OrderDP",
        "Prune ratios": "50 %",
        "Compared with": "full data and full data trained for the same number of steps",
        "Data": "digits, 200 training and 360 test samples",
        "Training": "small_cnn, 3 epochs, seeds 0, 1, 2",
        "Finished": "2026-03-10",
        "Made with": "orderdp 0.1.0; commit not recorded; a processor",
    }
    run = pair.folder("full data", 1)
    run.write_result({**run.result(), "finished": "2026-03-11T00:00:00+00:00", "commit": "abc"})
    facts = dict(summary_of(read_results(pair.path)).facts)
    assert facts["Finished"] == "2026-03-10 to 2026-03-11"
    assert facts["Made with"] == "orderdp 0.1.0; commits abc, not recorded; a processor"


def test_runs_of_release_0_1_have_no_date(made):
    folder = made(methods=methods("orderdp,prune_ratio=0.5"), against=()).finish("OrderDP 50 %", (90.0,))
    run = folder.folder("OrderDP 50 %")
    result = run.result()
    del result["finished"]
    run.write_result(result)
    assert dict(summary_of(read_results(folder.path)).facts)["Finished"] == "not recorded"


def test_it_names_what_limits_a_conclusion(pair):
    limits = summary_of(read_results(pair.path)).may_not
    assert limits == [
        "With 3 seeds the intervals are wide. “Statistically indistinguishable” does not mean equal.",
        "All runs train small_cnn on digits with one schedule. "
        "Other data, models and schedules may give other results.",
    ]
    without_results(pair, SHORT, 2)
    run = pair.folder("full data", 1)
    run.write_result({**run.result(), "device": "another processor"})
    missing, mixed = summary_of(read_results(pair.path)).may_not[1:3]
    assert missing == "1 of 9 planned runs is missing."
    assert mixed.startswith("1 of 5 pairs joins runs of different commits or processors.")


def test_many_intervals_are_said_to_exclude_zero_by_chance(made):
    grid = tuple({"name": "orderdp", "prune_ratio": number / 20} for number in range(1, 16))
    folder = made(methods=grid, seeds=(0, 1, 2))
    for label in dict.fromkeys(member.label for member in folder.plan.members(200)):
        folder.finish(label, (90.0, 90.0, 90.0))
    limits = summary_of(read_results(folder.path)).may_not
    assert "There are 30 intervals. Without true differences, about 2 would still exclude 0." in limits


@pytest.fixture
def controlled(made):
    """Makes three methods beside a shorter schedule, and one with another augmentation that ended so."""

    def folder(control, seeds=(0, 1, 2)):
        grid = methods("orderdp,prune_ratio=0.5", "dynamic_random,prune_ratio=0.5", "ucb,prune_ratio=0.5")
        found = made("controlled", methods=grid, seeds=seeds, short_augment="crop")
        ends = {
            "full data": (90.0, 90.5, 91.0),
            "OrderDP 50 %": (88.0, 88.5, 89.0),
            "dynamic random 50 %": (87.0, 87.5, 88.0),
            "UCB 50 %": (86.0, 87.5, 88.0),
        }
        for member in found.plan.members(200):
            ends.setdefault(member.label, control if member.beside else (88.0, 88.5, 89.0))
        for label, accuracies in ends.items():
            found.finish(label, accuracies[: len(seeds)])
        return found

    return folder


def test_a_better_control_of_another_augmentation_is_named_with_what_follows(controlled):
    sentence = conclusions(read_results(controlled((94.0, 94.5, 95.0)).path))[-1]
    assert sentence == (
        "With augment crop, full data trained for the same number of steps ended 6.00 points [5.72, 6.28] above "
        "OrderDP at 50 %. Compared with that schedule, both other cases (a method at a prune ratio) lose. Compare "
        "again with --augment crop in all runs before you prune."
    )


def test_a_control_that_is_no_better_is_named_too(controlled):
    folder = controlled((87.0, 87.5, 88.0))
    sentence = conclusions(read_results(folder.path))[-1]
    assert sentence.startswith(
        "With augment crop, full data trained for the same number of steps ended 1.00 points [0.72, 1.28] below "
    )
    assert "Compare again" not in sentence
    against = dict(summary_of(read_results(folder.path)).facts)["Compared with"]
    assert against.endswith("full data trained for the same number of steps and the same with augment crop")


def test_of_one_seed_the_control_is_named_too(controlled):
    (sentence,) = conclusions(read_results(controlled((94.0,), seeds=(0,)).path))
    assert "and 6.00 points below the same with augment crop; with one seed this may be chance" in sentence


def test_a_worth_whose_interval_holds_0_is_called_unknown(made):
    grid = methods("orderdp,prune_ratio=0.3", "orderdp,prune_ratio=0.6")
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.5, 91.0)).finish("OrderDP 30 %", (89.2, 90.8, 89.9))
    folder.finish("full data, steps of OrderDP 30 %", (89.0, 89.5, 90.0))
    folder.finish("full data, steps of OrderDP 60 %", (80.0, 80.5, 81.0)).finish("OrderDP 60 %", (84.0, 84.5, 85.0))
    first = conclusions(read_results(folder.path))[0]
    assert re.fullmatch(
        r"OrderDP is worth \d+ % more steps than stopping early \[\+\d+, \+\d+\] at 60 %\. Whether it is worth more or "
        r"fewer is not known at 30 % \(from \d+ % fewer to no known limit\)\.",
        first,
    )
    folder.finish("OrderDP 60 %", (70.0, 99.0, 85.0)).finish("OrderDP 30 %", (70.0, 99.0, 85.0))
    unknown = "at 30 % (no limit is known) and at 60 % (no limit is known)."
    assert conclusions(read_results(folder.path))[0].endswith(unknown)
    folder.finish("OrderDP 60 %", (78.0, 84.5, 81.0)).finish("OrderDP 30 %", (89.2, 90.8, 89.9))
    first = conclusions(read_results(folder.path))[0]
    assert first.startswith(
        "Whether OrderDP is worth more or fewer steps than stopping early is not known at 30 % (from "
    )
    assert " at 60 % (from no known limit to " in first


def test_the_legend_explains_what_is_there():
    assert legend(["No method prunes here."]) == ""
    assert legend(["a [+1, +2]"]) == "Brackets and ranges: 95 % intervals."
    assert legend(["a (−100, ∞)", "a [1, 2]"]) == (
        "Brackets and ranges: 95 % intervals. −100: no schedule of full data is worse for certain. ∞: no schedule of "
        "full data is better for certain."
    )


def test_a_method_that_left_nothing_out_is_left_out_of_the_conclusions(made):
    grid = methods("dynamic_random,prune_ratio=0.5", "orderdp,prune_ratio=0.5", "repeated_random,prune_ratio=0.5")
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.5, 91.0)).finish("full data, steps of dynamic random 50 %", (86.0, 86.5, 87.0))
    all_of_it = {"samples_backward": read_results(folder.path).entries["full data"].results[0]["samples_backward"]}
    folder.finish("dynamic random 50 %", (90.0, 90.5, 91.0), also=all_of_it)
    folder.finish("OrderDP 50 %", (88.0, 88.5, 89.0)).finish("repeated random 50 %", (86.0, 86.5, 87.0))
    sentences = conclusions(read_results(folder.path))
    assert sentences[0].startswith("OrderDP is worth ")
    assert not any("dynamic random" in sentence for sentence in sentences[:-1])
    assert sentences[-1] == (
        "dynamic random at 50 % left nothing out: it trained as many samples as full data, so it shows nothing about "
        "pruning."
    )
    assert any("repeated random at 50 % is statistically indistinguishable" in sentence for sentence in sentences)
    for label in ("OrderDP 50 %", "repeated random 50 %"):
        folder.finish(label, (90.0, 90.5, 91.0), also=all_of_it)
    assert all("left nothing out" in sentence for sentence in conclusions(read_results(folder.path)))

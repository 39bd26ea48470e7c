"""Where entries stand, and in which colour."""

from orderdp.comparison.results import read_results
from orderdp.report.placement import colors_of, first_methods, left_nothing_out, percent, ratios_of, references_of
from reference.reported import methods


def test_every_run_has_a_place_by_method_and_ratio(many):
    results = read_results(many.path)
    assert ratios_of(results) == [0.3, 0.7]
    assert {label: (entry.method, entry.ratio) for label, entry in results.entries.items()} == {
        "OrderDP 30 %": ("OrderDP", 0.3),
        "dynamic random 30 %": ("dynamic random", 0.3),
        "ordered SGD 30 %": ("ordered SGD", 0.3),
        "OrderDP 70 %": ("OrderDP", 0.7),
        "dynamic random 70 %": ("dynamic random", 0.7),
        "OrderDP explore 0.5 exploit 0.6": ("OrderDP explore 0.5 exploit 0.6", 0.7),
        "full data": ("full data", None),
        "full data, steps of OrderDP 30 %": ("full data, steps of OrderDP", 0.3),
        "full data, steps of OrderDP 70 %": ("full data, steps of OrderDP", 0.7),
    }


def test_a_shared_shorter_schedule_has_the_ratio_of_the_run_that_it_is_named_after(made):
    folder = made(methods=methods("orderdp,prune_ratio=0.5", "dynamic_random,prune_ratio=0.501"))
    results = read_results(folder.path)
    entries = results.entries
    assert len({entry.short for entry in entries.values() if not entry.reference}) == 1
    short = entries["full data, steps of OrderDP 50 %"]
    assert (short.method, short.ratio) == ("full data, steps of OrderDP", 0.5)
    assert references_of(results) == {"full data": None, short.label: "OrderDP 50 %"}


def test_a_method_left_nothing_out_only_if_it_did_so_with_every_seed(made):
    folder = made(methods=methods("infobatch,prune_ratio=0.5"), against=("full",), seeds=(0, 1))
    folder.finish("full data", (90.0, 91.0), samples_backward=lambda _, epoch: 200 * epoch)
    for pruned, idle in (((0, 1), False), ((1,), False), ((), True)):
        folder.finish(
            "InfoBatch 50 %",
            (90.0, 91.0),
            samples_backward=lambda seed, epoch, pruned=pruned: (150 if seed in pruned else 200) * epoch,
        )
        results = read_results(folder.path)
        assert left_nothing_out(results, results.entries["InfoBatch 50 %"]) == idle


def test_each_method_has_a_colour_and_all_the_data_is_grey(many):
    colors = colors_of(read_results(many.path))
    pruned = {color for method, color in colors.items() if not method.startswith("full data")}
    assert len(pruned) == 4
    assert {color for method, color in colors.items() if method.startswith("full data")} == {"#767676"}
    assert "#767676" not in pruned


def test_the_ratio_of_sizes_is_what_they_leave_out(made):
    folder = made(
        methods=methods(
            "orderdp,explore=0.775,exploit=0.903226", "orderdp", "orderdp,exploit=0.5", "orderdp,explore=1"
        ),
        against=(),
    )
    entries = read_results(folder.path).entries.values()
    assert [entry.ratio for entry in entries] == [0.3, 0.7, 0.75, 0.4]
    assert [percent(ratio) for ratio in (0.3, 0.125, None)] == ["30 %", "12.5 %", ""]


def test_a_split_named_after_a_method_of_several_ratios_does_not_come_before_it(made):
    """A grid lists a split once, at its first ratio, so before the method at the later ones."""
    folder = made(
        methods=methods("orderdp,prune_ratio=0.3", "orderdp,explore=0.5,exploit=0.6", "orderdp,prune_ratio=0.7")
    )
    first = first_methods(read_results(folder.path))
    assert {ratio: entry.label for ratio, entry in first.items()} == {0.3: "OrderDP 30 %", 0.7: "OrderDP 70 %"}
    folder = made("split", methods=methods("orderdp,explore=0.5,exploit=0.6", "orderdp,prune_ratio=0.7"))
    (only,) = first_methods(read_results(folder.path)).values()
    assert only.label == "OrderDP explore 0.5 exploit 0.6"

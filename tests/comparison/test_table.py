from statistics import stdev

from orderdp.comparison.table import Row, lines, rows
from orderdp.output.text_table import as_markdown, as_text


def result(last, best, samples, steps, training_s, selection_s, data_s, evaluation_s):
    return {
        "accuracy_last": last,
        "accuracy_best": best,
        "samples_forward": samples,
        "steps": steps,
        "training_s": training_s,
        "selection_s": selection_s,
        "data_s": data_s,
        "evaluation_s": evaluation_s,
    }


def test_rows_are_means_over_seeds_and_savings_are_against_full_data():
    table = rows(
        {
            "OrderDP 50 %": [
                result(90.0, 91.0, 5000, 40, 50.0, 0.5, 10.0, 2.0),
                result(94.0, 95.0, 5000, 40, 52.0, 1.5, 11.0, 3.0),
            ],
            "full data": [
                result(92.0, 92.5, 10000, 80, 100.0, 0.25, 20.0, 2.0),
                result(94.0, 94.5, 10000, 80, 103.5, 0.25, 21.0, 4.0),
            ],
        }
    )
    pruned, full = table
    assert pruned == Row(
        label="OrderDP 50 %",
        seeds=2,
        accuracy_last=(92.0, stdev([90, 94])),
        accuracy_best=(93.0, stdev([91, 95])),
        samples=5000,
        steps=40,
        training_s=51.0,
        selection_s=1.0,
        data_s=10.5,
        evaluation_s=2.5,
        saved=1 - 62.5 / 122.5,
        samples_saved=0.5,
    )
    assert (full.label, full.saved, full.samples_saved) == ("full data", 0.0, 0.0)
    assert as_markdown(lines(table)).splitlines() == [
        "| run | last % | best % | samples | samples saved | steps "
        "| train s | select s | data s | eval s | time saved |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| OrderDP 50 % | 92.00 ± 2.83 | 93.00 ± 2.83 | 5,000 | 50.0 % | 40 | 51.0 | 1.00 | 10.5 | 2.5 | 49.0 % |",
        "| full data | 93.00 ± 1.41 | 93.50 ± 1.41 | 10,000 |  | 80 | 101.8 | 0.25 | 20.5 | 3.0 |  |",
    ]


def test_a_row_that_lacks_seeds_is_marked():
    one = result(90.0, 91.25, 5000, 40, 50.0, 0.5, 10.0, 2.0)
    cells = [line[:3] for line in lines(rows({"a": [one, one], "b": [one]}))]
    assert cells[1:] == [("a", "90.00 ± 0.00", "91.25 ± 0.00"), ("b", "90.00 (1 of 2)", "91.25 (1 of 2)")]


def test_without_full_data_nothing_is_said_to_be_saved():
    table = rows({"OrderDP": [result(90.0, 91.25, 5000, 40, 50.0, 0.5, 10.0, 2.0)]})
    assert (table[0].saved, table[0].samples_saved, table[0].accuracy_last) == (None, None, (90.0, 0.0))
    assert as_text(lines(table)).splitlines() == [
        "run      last %  best %  samples  samples saved  steps  train s  select s  data s  eval s  time saved",
        "OrderDP   90.00   91.25    5,000                    40     50.0      0.50    10.0     2.0",
    ]

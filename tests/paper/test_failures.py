"""What could not be run: kept beside the folders of the studies."""

import pytest

from orderdp.paper.failures import FILE, Failure, read_failures, sentences, write_failures

NO_DATA = [Failure("table2", "cifar100", f"table2, cifar100, seed {seed}", "", "no data") for seed in (0, 1)]


def test_failures_are_read_back_and_there_may_be_none(tmp_path):
    assert read_failures(tmp_path) == []
    write_failures(tmp_path, NO_DATA)
    assert read_failures(tmp_path) == NO_DATA
    write_failures(tmp_path, [])
    assert read_failures(tmp_path) == []


@pytest.mark.parametrize("text", ["{", '[["table2"]]', "3"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r"^the failures must be in .*failed\.json, got a damaged file .*; delete it$"):
        read_failures(tmp_path)


def test_equal_reasons_of_a_task_are_one_sentence():
    alone = Failure("open_stream", "", "open_stream", "open_stream", "no disk")
    assert sentences([*NO_DATA, alone]) == [
        "Could not be run: cifar100 (2 times): no data.",
        "Could not be run: all of it: no disk.",
    ]

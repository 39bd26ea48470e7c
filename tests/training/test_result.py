"""What a finished run hands out of its epochs."""

from types import SimpleNamespace

import pytest
import torch

from orderdp.training.result import _processor_s

ELSEWHERE = {
    "on a GPU": {"device": torch.device("cuda")},
    "in workers": {"num_workers": 1},
    "in a compiler": {"compile": True},
    "in other ranks": {"num_processes": 2},
    "under a release that did not measure it": {"history": [{"processor_s": 1.5}, {}]},
}


CPU = torch.device("cpu")


def run(device=CPU, num_workers=0, compile=False, num_processes=1, history=None):
    return SimpleNamespace(
        device=device,
        recipe=SimpleNamespace(num_workers=num_workers, compile=compile),
        accelerator=SimpleNamespace(num_processes=num_processes),
        progress=SimpleNamespace(history=history or [{"processor_s": 1.5}, {"processor_s": 2.0}]),
    )


def test_processor_seconds_are_those_of_all_epochs():
    assert _processor_s(run()) == 3.5


@pytest.mark.parametrize("change", list(ELSEWHERE.values()), ids=list(ELSEWHERE))
def test_there_are_no_processor_seconds_of_what_is_computed_elsewhere(change):
    assert _processor_s(run(**change)) is None

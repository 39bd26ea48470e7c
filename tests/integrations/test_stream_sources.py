"""A stream's pruner on real sources: torchdata's StatefulDataLoader, and shards read by webdataset."""

import gc
import io
import re
import tarfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

import orderdp
from orderdp import OrderDP
from orderdp.stream import StreamPruner


class Numbers(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        begin, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(begin, 200, step):
            yield i, torch.tensor([float(i * 7919 % 1009), 1.0])


def make(loader) -> StreamPruner:
    return StreamPruner(loader, OrderDP(prune_ratio=0.5), batch_size=5, window=4, key=lambda batch: batch[0])


def train(stream: StreamPruner, steps: int | None = None) -> list[list[int]]:
    found = []
    for index, (ids, x) in stream:
        assert index == ids.tolist()
        stream.update(index, x[:, 0].clone().requires_grad_())
        found.append(index)
        if len(found) == steps:
            break
    return found


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # called by torchdata 0.11
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [1, 4, 7, 20, 21])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pass_over_a_stateful_loader_resumes_where_it_stood(workers, steps):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        return stateful.StatefulDataLoader(Numbers(), batch_size=8, num_workers=workers)

    whole = make(loader())
    expected = train(whole) + train(whole)
    first = make(loader())
    before = train(first, steps)
    second = make(loader())
    second.load_state_dict(first.state_dict())
    rest = train(second)
    if len(before) + len(rest) < len(expected):
        rest += train(second)
    assert before + rest == expected


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # called by torchdata 0.11
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_after_one_that_was_left_early_resumes_too(workers, steps, shuffle):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        data, order = (list(Numbers()), {"shuffle": True}) if shuffle else (Numbers(), {})
        generator = torch.Generator().manual_seed(0)
        return stateful.StatefulDataLoader(data, batch_size=8, num_workers=workers, generator=generator, **order)

    whole, first, second = make(loader()), make(loader()), make(loader())
    train(whole, 9)
    expected = train(whole)
    train(first, 9)
    before = train(first, steps)
    second.load_state_dict(first.state_dict())
    assert before + train(second) == expected


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_are_read_by_their_keys(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for i in range(40):
                data = str(40 * shard + i).encode()
                entry = tarfile.TarInfo(f"sample{40 * shard + i:03d}.cls")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    source = webdataset.WebDataset(str(tmp_path / "{0..1}.tar"), shardshuffle=False).decode().to_tuple("__key__", "cls")
    loader = DataLoader(source.batched(10), batch_size=None)
    everything = OrderDP(explore=1.0, exploit=1.0)
    stream = StreamPruner(loader, everything, batch_size=8, window=4, key=lambda batch: batch[0])
    for index, (keys, y) in stream:
        assert index == keys
        stream.update(index, torch.as_tensor(y).float().requires_grad_())
    assert stream.report().remembered == 80
    top = StreamPruner(loader, OrderDP(explore=1.0, exploit=0.25), batch_size=10, window=4, key=lambda batch: batch[0])
    top._scores = dict(stream._scores)
    kept = []
    for index, _ in top:
        top.update(index, torch.ones(len(index)).requires_grad_())
        kept += index
    assert sorted(kept) == [f"sample{i:03d}" for i in [*range(30, 40), *range(70, 80)]]
    del source, loader, stream, top
    gc.collect()  # webdataset leaves its files to the garbage collector, which warns


def test_a_loader_that_accelerate_prepared_has_no_state():
    accelerate = pytest.importorskip("accelerate")
    loader = accelerate.Accelerator(cpu=True).prepare(DataLoader(Numbers(), batch_size=8))
    stream = make(loader)
    train(stream, 2)
    with pytest.raises(ValueError, match="needs a source that can resume, got DataLoader"):
        stream.state_dict()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # called by torchdata 0.11
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_loop_of_the_page_that_resumes_ends_as_one_that_was_not_stopped(tmp_path):
    pytest.importorskip("torchdata.stateful_dataloader")
    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Resume\n(.*?)^## ", page, flags=re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    rng = torch.Generator().manual_seed(0)
    train_set = TensorDataset(torch.randn(200, 4, generator=rng), torch.randint(3, (200,), generator=rng))

    def names_of_a_run():
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        names = {"StreamPruner": StreamPruner, "orderdp": orderdp, "model": model, "train_set": train_set}
        names["losses_of"] = lambda batch: F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return {**names, "path": tmp_path / "state.pt"}

    whole, stopped = names_of_a_run(), names_of_a_run()
    exec(block.partition("\nstream = build()")[0], whole)
    stream = whole["build"]()
    whole["train"](stream, passes=2)
    exec(block, stopped)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)["stream"]
    assert saved["inside"]
    assert 0 < len(saved["trained"]) < -(-len(saved["places"]) // 16)  # inside a window
    assert torch.equal(whole["model"].weight, stopped["model"].weight)
    assert stopped["stream"].report() == stream.report()
    assert stream.report().trained == 200

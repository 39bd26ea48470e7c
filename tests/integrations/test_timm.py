"""timm's loaders, Mixup and losses train the epochs of the pruner, as a bare loop does."""

import io

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from orderdp import InfoBatch, OrderDP, Pruner
from orderdp.data.imports import import_image_library
from reference.processes import run_ranks

try:
    import_image_library("timm")  # torchvision may be built for another torch
except ImportError:
    pytest.skip("needs timm", allow_module_level=True)
from timm.data import FastCollateMixup, Mixup, create_loader
from timm.data.loader import PrefetchLoader, fast_collate
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.task import ClassificationTask

from orderdp.integrations import timm

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, BATCH, EPOCHS, CLASSES = 50, 4, 3, 3
HALF = OrderDP(explore=1.0, exploit=0.5)
VARYING = InfoBatch(prune_probability=0.9, delta=0.75, epochs=EPOCHS)
STRATEGIES = pytest.mark.parametrize("strategy", [HALF, VARYING], ids=lambda strategy: type(strategy).__name__)
WORKERS = pytest.mark.parametrize("workers", [0, 2])
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")
NEVER = pytest.mark.filterwarnings("ignore:update was never called:RuntimeWarning")


class Pictures(Dataset):
    """Pictures of 8 x 8 pixels; `create_loader` sets `transform`."""

    transform = None

    def __init__(self):
        draws = np.random.default_rng(0)
        self.pixels = draws.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
        self.labels = [int(label) for label in draws.integers(0, CLASSES, N)]

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def timms(workers=0, **arguments):
    settings = {"no_aug": True, "device": torch.device("cpu"), "num_workers": workers, **arguments}
    return create_loader(Pictures(), (3, 8, 8), BATCH, is_training=True, **settings)


class Run:
    """A linear classifier, trained by the loop of timm's script or by a bare one."""

    def __init__(self, strategy, loader=None):
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
        nn.init.zeros_(self.model[1].weight)
        nn.init.zeros_(self.model[1].bias)
        self.net = DistributedDataParallel(self.model) if dist.is_initialized() else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.pruner = Pruner(strategy, N, seed=3)
        self.loader = self.bare_loader() if loader is None else timm.pruned(loader, self.pruner)
        self.criterion = nn.CrossEntropyLoss(reduction="none")
        self.trace = []

    def bare_loader(self):
        """The pixels, normalised as timm does."""
        plain = timms()
        loader = self.pruner.loader(plain.dataset, batch_size=BATCH, drop_last=True, collate_fn=fast_collate)
        self.normalised = lambda x: (x.float() - plain.mean) / plain.std
        return loader

    def train(self, stop=None):
        while self.pruner.next_epoch < EPOCHS:
            for number, (index, (x, target)) in enumerate(self.loader, 1):
                given = x if x.is_floating_point() else self.normalised(x)
                loss = self.pruner.update(index, self.criterion(self.net(given), target))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.trace.append([self.pruner.epoch, index.tolist(), loss.item()])
                if stop == (self.pruner.epoch, number):
                    return self
        return self

    def loaded(self, other):
        """Takes the state of another run."""
        stream = io.BytesIO()
        torch.save([part.state_dict() for part in (other.loader, other.model, other.optimizer)], stream)
        stream.seek(0)
        states = torch.load(stream, weights_only=True)
        for part, state in zip((self.loader, self.model, self.optimizer), states, strict=True):
            part.load_state_dict(state)
        return self


def assert_same(trace, expected):
    assert [entry[:2] for entry in trace] == [entry[:2] for entry in expected]
    assert [entry[2] for entry in trace] == pytest.approx([entry[2] for entry in expected], rel=1e-5)


@STRATEGIES
@WORKERS
@pytest.mark.parametrize("prefetch", [True, False])
def test_a_run_is_the_bare_run(strategy, workers, prefetch):
    run = Run(strategy, timms(workers, use_prefetcher=prefetch)).train()
    assert_same(run.trace, Run(strategy).train().trace)
    assert isinstance(run.loader._prefetch, PrefetchLoader) is prefetch
    sizes = {sum(entry[0] == epoch for entry in run.trace) for epoch in range(EPOCHS)}
    assert (len(sizes) > 1) == (strategy is VARYING)
    assert len(run.loader) in sizes


@STRATEGIES
@WORKERS
@pytest.mark.parametrize("stop", [(0, 2), (1, 3), (1, "last")])
def test_a_run_goes_on_although_a_batch_is_prefetched(strategy, workers, stop):
    unbroken = Run(strategy).train().trace
    if stop[1] == "last":
        stop = stop[0], sum(entry[0] == stop[0] for entry in unbroken)
    first = Run(strategy, timms(workers)).train(stop)
    second = Run(strategy, timms(workers)).loaded(first).train()
    assert first.trace
    assert second.trace
    assert_same(first.trace + second.trace, unbroken)


@LEFT
@WORKERS
def test_the_ids_are_those_of_their_pictures_after_an_epoch_that_was_left(workers):
    """A batch was prefetched when the loop left."""
    pruner = Pruner(HALF, N)
    loader = timm.pruned(timms(workers), pruner)
    for batches in (2, 1, 6):
        for number, (index, (_, target)) in enumerate(loader, 1):
            assert target.tolist() == [loader.dataset.labels[i] for i in index]
            pruner.update(index, torch.ones(len(index), requires_grad=True))
            if number == batches:
                break


def seed_of_a_worker(_):
    worker = torch.utils.data.get_worker_info()
    worker.dataset.dataset.labels = [7] * N


def test_workers_begin_as_timms_do():
    loader = timms(2)
    loader.loader.worker_init_fn = seed_of_a_worker
    pruner = Pruner(HALF, N)
    for index, (_, target) in timm.pruned(loader, pruner):
        assert target.tolist() == [7] * len(index)
        pruner.update(index, torch.ones(len(index), requires_grad=True))


def rank_of_a_run(rank, strategy):
    first = Run(strategy, timms(distributed=True)).train((1, 2))
    second = Run(strategy, timms(distributed=True)).loaded(first).train()
    return [Run(strategy).train().trace, first.trace + second.trace]


@STRATEGIES
def test_two_processes_train_and_resume_as_a_bare_loop_of_two(strategy, tmp_path):
    both = run_ranks(2, rank_of_a_run, tmp_path, strategy)
    for expected, trace in both:
        assert_same(trace, expected)
    ids = [sample for expected, _ in both for entry in expected if entry[0] == 0 for sample in entry[1]]
    assert len(ids) == len(set(ids)) == (24 if strategy is HALF else 48)  # full batches of 2 x 4


@WORKERS
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_a_mixed_sample_counts_by_its_loss_against_both_targets(workers, mode):
    mixup = FastCollateMixup(mode=mode, label_smoothing=0.0, num_classes=CLASSES, cutmix_alpha=1.0)
    loader = timms(workers, collate_fn=mixup)
    pruner = Pruner(HALF, N)
    pruned = timm.pruned(loader, pruner)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    losses_of, mixed = timm.per_sample(SoftTargetCrossEntropy()), 0
    recorded = torch.zeros(N)
    for index, (x, target) in pruned:
        losses = losses_of(model(x), target)
        labels = torch.tensor([loader.dataset.labels[i] for i in index])
        one, two = (F.cross_entropy(model(x), y, reduction="none") for y in (labels, labels.flip(0)))
        share = (target.gather(1, labels[:, None])[:, 0] - (labels == labels.flip(0)).float()).clamp(min=0)
        expected = torch.where(labels == labels.flip(0), one, share * one + (1 - share) * two)
        torch.testing.assert_close(losses, expected)
        torch.testing.assert_close(losses.mean(), SoftTargetCrossEntropy()(model(x), target))
        pruner.update(index, losses)
        recorded[index] = losses.detach()
        mixed += int(((target > 0) & (target < 1)).any())
    assert mixed
    kept = recorded > 0
    assert torch.equal(next(iter(pruner.scores().values()))[kept], recorded[kept])


class InMemory(Dataset):
    """Pictures of one colour each, in memory that workers share; each sample is a view of it."""

    def __init__(self, as_array):
        self.pixels = torch.arange(N, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8).share_memory_()
        self.views = self.pixels.numpy() if as_array else self.pixels

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.views[index], index % CLASSES


@NEVER
@WORKERS
@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_cutmix_leaves_the_pictures_of_the_data_set_as_they_are(workers, as_array, mode):
    """In mode "pair", timm 1.0.31 itself writes into them."""
    data = InMemory(as_array)
    whole = data.pixels.clone()
    mixup = FastCollateMixup(mixup_alpha=0.0, cutmix_alpha=1.0, mode=mode, num_classes=CLASSES)
    cpu = torch.device("cpu")
    loader = create_loader(
        data, (3, 8, 8), BATCH, is_training=True, no_aug=True, num_workers=workers, collate_fn=mixup, device=cpu
    )
    pruned = timm.pruned(loader, Pruner(HALF, N))
    mixed = [int((x.amax((1, 2, 3)) != x.amin((1, 2, 3))).sum()) for _, (x, _) in pruned]
    assert sum(mixed) > 0
    assert torch.equal(data.pixels, whole)


@NEVER
@LEFT
@WORKERS
@pytest.mark.parametrize("mode", ["batch", "pair"])
def test_mixup_that_is_switched_off_stays_off_in_persistent_workers(workers, mode):
    mixup = FastCollateMixup(mode=mode, label_smoothing=0.0, num_classes=CLASSES)
    pruned = timm.pruned(timms(workers, collate_fn=mixup), Pruner(HALF, N))
    assert pruned.loader.persistent_workers == (workers > 0)
    assert pruned.mixup_enabled
    assert any((target.max(1).values < 1).any() for _, (_, target) in pruned)
    pruned.mixup_enabled = False
    assert not pruned.mixup_enabled
    assert all((target.max(1).values == 1).all() for _, (_, target) in pruned)


def test_mixup_of_the_script_needs_nothing_else():
    """Without a prefetcher, timm's script mixes on the device."""
    mix = Mixup(label_smoothing=0.0, num_classes=CLASSES)
    pruner = Pruner(HALF, N)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    task = ClassificationTask(model, criterion=timm.per_sample(SoftTargetCrossEntropy()), device=torch.device("cpu"))
    for index, (x, target) in timm.pruned(timms(use_prefetcher=False), pruner):
        result = task(*mix(x, target))
        pruner.update(index, result["loss"]).backward()
    assert pruner.report().trained == 24


@pytest.mark.parametrize(
    ("criterion", "dense"),
    [
        (SoftTargetCrossEntropy(), True),
        (LabelSmoothingCrossEntropy(0.2), False),
        (BinaryCrossEntropy(0.1), False),
        (BinaryCrossEntropy(0.1), True),
        (BinaryCrossEntropy(0.1, sum_classes=True, target_threshold=0.2), True),
        (nn.CrossEntropyLoss(label_smoothing=0.1), False),
        (nn.CrossEntropyLoss(label_smoothing=0.1), True),
    ],
    ids=repr,
)
def test_the_mean_of_the_losses_of_samples_is_timms_loss(criterion, dense):
    draws = torch.Generator().manual_seed(0)
    output = torch.randn(6, CLASSES, generator=draws)
    target = torch.randint(CLASSES, (6,), generator=draws)
    if dense:
        target = torch.rand(6, CLASSES, generator=draws).softmax(1)
    losses = timm.per_sample(criterion)(output, target)
    assert losses.shape == (6,)
    torch.testing.assert_close(losses.mean(), criterion(output, target))
    assert criterion(output, target).ndim == 0  # it is left as it was


def test_what_cannot_be_pruned_is_refused():
    pruner = Pruner(HALF, N)
    with pytest.raises(TypeError, match=r"loader must be one of timm's create_loader, got list; give it unpruned"):
        timm.pruned([], pruner)
    with pytest.raises(TypeError, match="got PrunedLoader; give it unpruned"):
        timm.pruned(pruner.loader(Pictures()), pruner)
    with pytest.raises(ValueError, match="got ScheduledBatchSampler; leave num_aug_repeats and input_size_choices out"):
        timm.pruned(timms(input_size_choices=[8, 16]), pruner)
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * N, N)
    with pytest.raises(ValueError, match="got WeightedRandomSampler; leave num_aug_repeats"):
        timm.pruned(DataLoader(Pictures(), batch_size=4, sampler=weighted), pruner)
    with pytest.raises(ValueError, match="each sample of a batch an input, got 'half'; write 'batch'"):
        timm.pruned(timms(collate_fn=FastCollateMixup(mode="half", num_classes=CLASSES)), pruner)
    with pytest.raises(
        TypeError, match="known loss, got AsymmetricLossMultiLabel; compute one loss per sample yourself"
    ):
        timm.per_sample(AsymmetricLossMultiLabel())
    with pytest.raises(ValueError, match=r"no class weights, got some; write pruner.update\(index, losses, weights="):
        timm.per_sample(nn.CrossEntropyLoss(weight=torch.ones(CLASSES)))


def test_augmentation_splits_are_refused_at_the_first_batch():
    loader = timms(num_aug_splits=2, no_aug=False)
    loader.dataset.transform = lambda image: (np.array(image).transpose(2, 0, 1),) * 2
    with pytest.raises(RuntimeError, match="one target for each of its 4 samples, got 8; leave aug_splits out"):
        next(iter(timm.pruned(loader, Pruner(HALF, N))))


def test_a_pruned_loader_inside_a_prefetch_loader_is_refused():
    pictures = Pictures()
    loader = PrefetchLoader(Pruner(HALF, N).loader(pictures, batch_size=4), device=torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"write orderdp.integrations.timm.pruned\(loader, pruner\)"):
        next(iter(loader))

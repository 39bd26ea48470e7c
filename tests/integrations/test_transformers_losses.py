"""Which losses, models and arguments go with `PrunedTrainer`, and what it says of the others."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from orderdp import UCB, FullData, OrderDP, OrderedSGD, Pruner, Scheduled
from orderdp.sharded import ShardedPruner

transformers = pytest.importorskip("transformers", minversion="5.24")

from orderdp.integrations.sample_losses import sample_losses  # noqa: E402
from orderdp.integrations.transformers import IDS, PrunedTrainer  # noqa: E402
from reference.transformers_runs import BATCH, Language, Rates, Recorded, Text, padded, trainer_of  # noqa: E402

HALF = {"strategy": OrderDP(prune_ratio=0.5)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_that_do_not_count_have_no_loss_and_no_weight(smoothing):
    logits, labels = torch.randn(3, 4, 5), torch.tensor([[1, 2, -100, -100], [-100] * 4, [0, 1, 2, 3]])
    losses, counts = sample_losses(logits, labels, label_smoothing=smoothing)
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    assert counts.tolist() == [2, 0, 4]
    expected = [criterion(logits[0, :2], labels[0, :2]), torch.tensor(0.0), criterion(logits[2], labels[2])]
    torch.testing.assert_close(losses, torch.stack(expected))
    shifted, counts = sample_losses(logits, labels, shift=True)
    assert counts.tolist() == [1, 0, 3]
    torch.testing.assert_close(shifted[2], nn.CrossEntropyLoss()(logits[2, :3], labels[2, 1:]))


def test_shapes_of_no_known_kind_have_no_losses():
    assert sample_losses(torch.randn(3, 4, 5), torch.zeros(3, 5)) is None
    assert sample_losses(torch.randn(3, 4), torch.zeros(3, 5)) is None
    assert sample_losses(torch.randn(3, 4), torch.zeros(12)) is None
    assert sample_losses(torch.randn(3, 4, 5, 6), torch.zeros(3, 5, 6)) is None


class WithMetrics(transformers.Trainer):
    """A Trainer that computes the loss by the Trainer below it and looks at what the model returned, as TRL's does."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs["use_cache"] = False
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        self.hits = [*getattr(self, "hits", []), (outputs.logits.argmax(-1) == inputs["labels"]).float().mean().item()]
        return (loss, outputs) if return_outputs else loss


class Above(PrunedTrainer, WithMetrics):
    pass


class Below(WithMetrics, PrunedTrainer):
    pass


@pytest.mark.parametrize("kind", [Above, Below])
def test_a_trainer_that_computes_more_than_the_loss_goes_on_doing_so(kind, tmp_path):
    runs = []
    for each in (PrunedTrainer, kind):
        pruner = Recorded(UCB(prune_ratio=0.5), 26, seed=3)
        trainer = trainer_of(Language(), pruner, tmp_path, k=2, kind=each)
        trainer.train()
        runs.append((pruner.told, [p.tolist() for p in trainer.model.parameters()]))
    assert runs[0] == runs[1]
    assert len(trainer.hits) == len(pruner.told)


class PrunedSeq2SeqTrainer(PrunedTrainer, transformers.Seq2SeqTrainer):
    pass


@pytest.mark.parametrize("collated", [False, True])
def test_an_encoder_and_decoder_train_as_under_the_plain_trainer(collated, tmp_path):
    sizes = {"vocab_size": 20, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    heads = {f"{part}_{name}": 8 // 4 for part in ("encoder", "decoder") for name in ("attention_heads", "ffn_dim")}

    class Summaries(Language):
        def model(self, dropout=0.0):
            torch.manual_seed(0)
            return transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes, **heads))

    case, weights = Summaries(size=8), []
    for kind, given in (
        (PrunedSeq2SeqTrainer, Recorded(FullData(), 8)),
        (transformers.Seq2SeqTrainer, {}),
    ):
        settings = {"epochs": 2, "per_device_train_batch_size": 8}
        trainer = trainer_of(case, given, tmp_path, kind=kind, of=transformers.Seq2SeqTrainingArguments, **settings)
        if collated:
            decoder_inputs = trainer.model.prepare_decoder_input_ids_from_labels
            trainer.data_collator = lambda rows, make=decoder_inputs: {
                **(batch := padded(rows)),
                "decoder_input_ids": make(batch["labels"]),
            }
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)  # one batch an epoch, so the order does not matter


def test_a_choice_within_the_batch_counts_by_the_items_of_its_batch(tmp_path):
    case = Language()
    pruner, expected = (Recorded(OrderedSGD(keep=0.5), 26, seed=3) for _ in range(2))
    trainer = trainer_of(case, pruner, tmp_path, k=7, epochs=1)
    trainer.train()
    model, batches = case.model(), list(expected.loader(case.data, batch_size=BATCH, collate_fn=padded))
    total = sum(case.items_of(batch) for _, batch in batches)
    for index, batch in batches:
        losses, counts = case.losses(model, batch)
        (expected.update(index, losses, weights=counts) * counts.sum() / total).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "epochs", "steps"),
    [({"epochs": 1.5}, [0] * 7 + [1] * 2, 4 + 1), ({"max_steps": 5}, [0] * 7 + [1] * 2, 5)],
    ids=str,
)
def test_a_part_of_an_epoch_and_a_number_of_steps_are_trained_exactly(arguments, epochs, steps, tmp_path):
    pruner, rates = Recorded(UCB(prune_ratio=0.5), 26, seed=3), Rates()
    trainer = trainer_of(Language(), pruner, tmp_path, k=2, callbacks=[rates], **arguments)
    trainer.train()
    assert [epoch for epoch, *_ in pruner.told] == epochs
    assert trainer.state.global_step == steps
    assert rates.rates == pytest.approx([0.5 * (1 - step / steps) for step in range(steps)])
    assert rates.epochs[-1] == 1.5


def test_a_schedule_of_strategies_is_counted_epoch_by_epoch(tmp_path):
    pruner = Recorded(
        OrderDP(prune_ratio=0.5), 26, schedule=lambda strategy, epoch: FullData() if epoch == 1 else strategy
    )
    trainer = trainer_of(Language(), pruner, tmp_path, k=2)
    trainer.train()
    assert [sum(epoch == number for epoch, *_ in pruner.told) for number in range(3)] == [4, 7, 4]
    assert trainer.state.global_step == trainer.state.max_steps == 2 + 4 + 2


class Own(nn.Module):
    """A model that is none of transformers, with something beside the mean in its loss."""

    def __init__(self, *, twice=False, extra=None, plain=False):
        super().__init__()
        self.layer, self.twice, self.extra, self.plain = nn.Embedding(20, 20), twice, extra or {}, plain

    def forward(self, input_ids, attention_mask, labels):
        logits = self.layer(input_ids)[:, 0]
        loss = nn.functional.cross_entropy(logits, labels) * (1 + self.twice)
        return (loss, logits) if self.plain else {"loss": loss, "logits": logits, **self.extra}


def own_trainer(folder, kind=PrunedTrainer, **model):
    case = Text(lambda tokens: tokens[0])
    case.model = lambda dropout: Own(**model)
    return trainer_of(case, HALF, folder, kind=kind, epochs=1)


def test_a_model_of_ones_own_trains_if_it_returns_logits(tmp_path):
    trainer = own_trainer(tmp_path)
    trainer.train()
    assert trainer.pruner.report().visits == 13


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"twice": True},
            r"per_sample_losses must have the model's own loss as its mean, got \d.\d+ and \d.\d+; o",
        ),
        ({"extra": {"aux_loss": torch.tensor(0.1)}}, "per_sample_losses leaves out the loss of a router, got outputs"),
        (
            {"plain": True},
            r"per_sample_losses needs outputs\['logits'\] and inputs\['labels'\], got tuple and \['",
        ),
        ({"extra": {"logits": torch.zeros(4, 3, 2)}}, r"per_sample_losses knows one label a sample, several, or one a"),
    ],
    ids=["another loss", "a router", "a tuple", "other shapes"],
)
def test_a_loss_that_is_not_the_mean_of_the_samples_is_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        own_trainer(tmp_path, **model).train()


@pytest.mark.parametrize("with_counts", [True, False], ids=["with counts", "alone"])
def test_a_loss_of_ones_own_is_trained_and_remembered(tmp_path, with_counts):
    class Squared(PrunedTrainer):
        def per_sample_losses(self, outputs, inputs):
            losses, counts = super().per_sample_losses(outputs, inputs)
            return (losses**2, counts) if with_counts else losses**2

    trainer = own_trainer(tmp_path, kind=Squared, twice=True)
    pruner = trainer._pruner = Recorded(FullData(), 26)
    trainer.strategy = None
    before = Own()
    before.load_state_dict(trainer.model.state_dict())
    trainer.train()
    _, ids, losses = pruner.told[0]
    batch = padded([trainer.train_dataset[i] for i in ids])
    expected = nn.functional.cross_entropy(before(**batch)["logits"], batch["labels"], reduction="none") ** 2
    torch.testing.assert_close(torch.tensor(losses), expected.detach())


class LosesIds(PrunedTrainer):
    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        return [{name: batch[name] for name in batch if name != IDS} for batch in batches], items


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda losses: None, r"must return \(losses, counts\) or the losses, one for each sample, got NoneType"),
        (lambda losses: [losses, None], r"one for each sample, got list; write return losses, None"),
        (lambda losses: losses.mean(), r"one for each sample of the batch, got shape \(\)"),
    ],
    ids=["nothing", "a list", "a mean"],
)
def test_what_is_no_loss_of_each_sample_is_refused(tmp_path, returned, message):
    class Odd(PrunedTrainer):
        def per_sample_losses(self, outputs, inputs):
            return returned(super().per_sample_losses(outputs, inputs)[0])

    with pytest.raises(ValueError, match=message):
        own_trainer(tmp_path, kind=Odd).train()


def test_a_batch_that_lost_its_ids_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"^each batch must hold 'orderdp_ids', got \['attention_mask', 'input_ids'"):
        own_trainer(tmp_path, kind=LosesIds).train()


@pytest.mark.parametrize(
    ("collator", "error", "message"),
    [
        (lambda rows: tuple(padded(rows).values()), TypeError, "data_collator must return a dictionary without"),
        (lambda rows: padded(rows)["input_ids"], TypeError, "data_collator must return a dictionary without"),
        (
            lambda rows: {name: torch.cat([row[name] for row in rows])[None] for name in ("input_ids", "labels")},
            ValueError,
            r"per_sample_losses must return \(3,\) losses, one for each sample of the batch, got shape \(1,\)",
        ),
    ],
    ids=["tuple", "tensor", "one row"],
)
def test_batches_without_one_loss_a_sample_are_refused(collator, error, message, tmp_path):
    trainer = trainer_of(Language(), Pruner(FullData(), 26), tmp_path, remove_unused_columns=False)
    trainer.data_collator = collator
    with pytest.raises(error, match=f"^{message}"):
        trainer.train()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Language().data.rows)


class Endless:
    """As a data set of the package datasets, which is none of torch's."""

    __iter__ = Stream.__iter__


@pytest.mark.parametrize("kind", [Stream, Endless])
@pytest.mark.parametrize("how", ["named", "by position", "set later"])
def test_a_stream_is_refused_and_what_is_for_it_is_named(kind, how, tmp_path):
    """Before the Trainer asks for `max_steps`."""
    trainer = trainer_of(Language(), HALF, tmp_path)
    trainer.train_dataset = kind()
    parts = (trainer.model, trainer.args)
    tries = {
        "named": lambda: PrunedTrainer(*parts, train_dataset=kind(), **HALF),
        "by position": lambda: PrunedTrainer(*parts, padded, kind(), **HALF),
        "set later": trainer.train,
    }
    message = rf"^train_dataset must be map-style, .* got {kind.__name__}, .*write orderdp.stream.StreamPruner\(DataLo"
    with pytest.raises(TypeError, match=message):
        tries[how]()


def test_a_pruner_of_another_class_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"^pruner must be a Pruner, got ShardedPruner; write orderdp.Pruner"):
        trainer_of(Language(), ShardedPruner(OrderDP(prune_ratio=0.5), 26), tmp_path)


@pytest.mark.parametrize("given", ["plain", "pruned", "iterator"])
def test_a_loader_of_ones_own_is_refused(given, tmp_path):
    class Own(PrunedTrainer):
        def get_train_dataloader(self):
            if given == "plain":
                return DataLoader(self.train_dataset, batch_size=BATCH, collate_fn=padded)
            return self.pruner.loader(self.train_dataset) if given == "pruned" else iter(super().get_train_dataloader())

    got = {"plain": "DataLoader", "pruned": "PrunedLoader", "iterator": "map"}[given]
    trainer = trainer_of(Language(), HALF, tmp_path, kind=Own)
    with pytest.raises(
        TypeError,
        match=rf"^get_train_dataloader must return the loader of PrunedTrainer, got {got}; leave it out, or return sup",
    ):
        trainer.train()
    assert trainer.pruner.epoch is None


def test_the_loader_of_the_class_may_be_changed_and_returned(tmp_path):
    class Own(PrunedTrainer):
        def get_train_dataloader(self):
            self.seen = super().get_train_dataloader()
            return self.seen

    trainer = trainer_of(Language(), HALF, tmp_path, kind=Own, epochs=1)
    trainer.train()
    assert trainer.pruner.report().visits == 13


@pytest.mark.parametrize("how", ["train", "evaluate"])
def test_a_plain_trainer_over_a_pruned_loader_is_refused(how, tmp_path):
    pruner = Pruner(OrderDP(prune_ratio=0.5), 26)

    class Plain(transformers.Trainer):
        def get_train_dataloader(self):
            return self.accelerator.prepare(pruner.loader(self.train_dataset, batch_size=BATCH, collate_fn=padded))

        def get_eval_dataloader(self, eval_dataset=None):
            return self.get_train_dataloader()

    ours = trainer_of(Language(), HALF, tmp_path)
    trainer = Plain(ours.model, ours.args, train_dataset=ours.train_dataset)
    with pytest.raises(
        RuntimeError, match=r"^a Trainer of transformers .* got a pruned loader; write orderdp.integrat"
    ):
        getattr(trainer, how)()
    assert pruner.epoch is None


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, {}, "train_sampling_strategy must be 'random', got 'group"),
        ({"accelerator_config": {"split_batches": True}}, {}, "split_batches must be False, got True"),
        ({"accelerator_config": {"dispatch_batches": True}}, {}, "dispatch_batches must be False, got True"),
        ({"auto_find_batch_size": True}, {}, "auto_find_batch_size must be False, got True"),
        ({}, {"compute_loss_func": print}, "compute_loss_func must be left out, got one"),
        ({"dataloader_in_order": False, "dataloader_num_workers": 1}, {}, "in_order must be True, got False"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_arguments_that_do_not_go_with_pruning_are_refused(arguments, changes, message, tmp_path):
    trainer = trainer_of(Language(), HALF, tmp_path, **arguments)
    for name, value in changes.items():
        setattr(trainer, name, value)
    with pytest.raises(ValueError, match=f"^{message}"):
        trainer.train()


def test_what_the_trainer_decides_of_its_loader_is_kept(tmp_path):
    settings = {"num_workers": 1, "prefetch_factor": 3, "persistent_workers": True, "pin_memory": False}
    arguments = {f"dataloader_{name}": value for name, value in settings.items()}
    trainer = trainer_of(Language(), HALF, tmp_path, **arguments)
    ours, plain = trainer.get_train_dataloader(), transformers.Trainer.get_train_dataloader(trainer)
    assert {name: getattr(ours, name) for name in settings} == settings
    assert ours.worker_init_fn is not None  # it seeds the workers, and those of each rank otherwise
    one, other = (loader.worker_init_fn for loader in (ours, plain))
    assert (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)


def test_batches_may_be_those_of_a_tokenizer(tmp_path):
    runs = []
    for make in (dict, transformers.BatchEncoding):
        pruner = Recorded(OrderDP(prune_ratio=0.5), 26, seed=3)
        trainer = trainer_of(Language(), pruner, tmp_path, epochs=1)
        trainer.data_collator = lambda rows, make=make: make(padded(rows))
        trainer.train()
        runs.append(pruner.told)
    assert runs[0] == runs[1]


def test_a_data_set_of_another_size_and_a_missing_pruner_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^dataset must have the pruner's 25 samples, got 26"):
        trainer_of(Language(), Pruner(FullData(), 25), tmp_path).train()
    with pytest.raises(ValueError, match=r"^one of pruner and strategy must be given, got None and None; write strat"):
        trainer_of(Language(), {}, tmp_path)


def test_a_strategy_that_prunes_in_no_epoch_of_the_run_is_warned_of(tmp_path):
    pruner = Pruner(Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=40, start=0.5), 26)
    with pytest.warns(RuntimeWarning, match="no epoch of 1 prunes"):
        trainer_of(Language(), pruner, tmp_path, epochs=1).train()


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.modules['transformers'] = None", "PrunedTrainer needs transformers and accelerate: pip install"),
        (
            "old = sys.modules['transformers'] = types.ModuleType('transformers'); old.__version__ = '5.13.1'; "
            "old.Trainer = old.PreTrainedModel = object; names = types.ModuleType('transformers.trainer_utils'); "
            "names.PREFIX_CHECKPOINT_DIR = ''; sys.modules['transformers.trainer_utils'] = names",
            "PrunedTrainer needs transformers 5.24 or later, got 5.13.1: pip install 'transformers>=5.24'",
        ),
    ],
    ids=["none", "an older one"],
)
def test_what_is_missing_is_named(before, message, scripts, tmp_path):
    code = f"import sys, types; {before}; import orderdp.integrations.transformers"
    assert f"ImportError: {message}" in scripts.run_code(code, tmp_path).stderr.splitlines()[-1]


class LossOfItsOwn(PrunedTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(**{name: value for name, value in inputs.items() if name != IDS})["loss"]


def test_a_compute_loss_that_does_not_tell_the_pruner_is_refused(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"^compute_loss must tell the pruner the losses of a batch, got one that did"
    ):
        own_trainer(tmp_path, kind=LossOfItsOwn).train()


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForTokenClassification"])
def test_a_loss_of_single_tokens_is_that_of_the_model(name, tmp_path):
    """The first batch compares them."""
    case = Language()
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 20}
    case.model = lambda dropout: getattr(transformers, name)(transformers.BertConfig(intermediate_size=16, **sizes))
    trainer = trainer_of(case, HALF, tmp_path, epochs=1)
    trainer.train()
    assert trainer.pruner.report().visits == 13


def test_a_run_that_is_over_trains_nothing_when_it_resumes(tmp_path):
    pruners = [Recorded(OrderDP(prune_ratio=0.5), 26) for _ in range(2)]
    for pruner, resume in zip(pruners, (None, True), strict=True):
        trainer = trainer_of(Language(), pruner, tmp_path, epochs=1, save_strategy="epoch")
        metrics = trainer.train(resume_from_checkpoint=resume).metrics
    assert pruners[1].told == []
    assert metrics["train_samples_per_second"] == 0

"""Settings are values: compared, written, hashed and checked whatever they hold; wrong names get one clear error."""

import copy
import inspect
import math
import pickle
import re
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import orderdp
from orderdp import (
    UCB,
    DynamicRandom,
    FixedSubset,
    FullData,
    InfoBatch,
    OrderDP,
    OrderedSGD,
    PerClass,
    Scheduled,
    SeTa,
    Strategy,
)
from orderdp.strategies.registry import BY_NAME
from orderdp.strategies.settings import check_settings, key_of
from orderdp.testing import check_strategy

N = 50_000


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Inner:
    size: float
    labels: Any = None


@dataclass(frozen=True, kw_only=True)
class Labelled(DynamicRandom):
    """A method with a setting of any kind."""

    labels: Any = None


@dataclass(frozen=True)
class Plain(Strategy):
    """Decorated without any option of `dataclass`."""

    keep: Any = 0.5
    note: str = field(default="", compare=False)

    def num_selected(self, num_samples, epoch):
        return num_samples // 2

    def select(self, memory, rng):
        return orderdp.Selection(rng.permutation(memory.num_samples)[: memory.num_samples // 2])


def labelled(labels) -> Labelled:
    return Labelled(prune_ratio=0.5, labels=labels)


def changed(values):
    """A copy that differs in the middle, where a shortened repr shows nothing."""
    if isinstance(values, tuple):
        return (*values[: len(values) // 2], values[len(values) // 2] + 1, *values[len(values) // 2 + 1 :])
    other = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    other.reshape(-1)[len(values.reshape(-1)) // 2] = not other.reshape(-1)[len(values.reshape(-1)) // 2]
    return other


LARGE = {
    "int64 array": np.arange(N),
    "big-endian array": np.arange(N).astype(">i4"),
    "bool array": np.arange(N) % 3 == 0,
    "matrix that is a view": np.arange(2 * N).reshape(2, N).T,
    "tensor": torch.arange(N),
    "bfloat16 tensor": torch.arange(N).remainder(2).to(torch.bfloat16),
    "bool tensor": torch.arange(N) % 3 == 0,
    "complex tensor": torch.arange(N).to(torch.complex64),
    "tensor with gradient": torch.ones(N, requires_grad=True).detach().requires_grad_(),
    "long tuple": tuple(range(N)),
    "tuple of floats": tuple(number / 7 for number in range(1_001)),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_setting_is_a_value_by_its_digest(kind):
    values = LARGE[kind]
    plain = values.detach() if isinstance(values, torch.Tensor) else values
    strategy, same, other = labelled(values), labelled(copy.deepcopy(values)), labelled(changed(plain))
    check_settings(strategy)
    assert strategy == same != other
    assert hash(strategy) == hash(same) != hash(other)
    assert repr(strategy) == repr(same) != repr(other)
    assert re.fullmatch(r"<Labelled\(prune_ratio=0.5, labels=[^<>]*, sha256 [0-9a-f]{32}\)>", repr(strategy))
    assert len(repr(strategy)) < 200
    assert len({strategy, same, other}) == 2


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_setting_keeps_every_law(kind):
    check_strategy(labelled(LARGE[kind]))


def test_a_digest_shows_the_kind_and_the_shape():
    shown = repr(labelled(np.zeros((50, 2), dtype=np.float32)))
    assert shown.startswith("<Labelled(prune_ratio=0.5, labels=float32 array of shape (50, 2), sha256 ")
    assert repr(labelled(torch.zeros(3))).startswith(
        "<Labelled(prune_ratio=0.5, labels=float32 tensor of shape (3,), sha"
    )
    assert repr(labelled((1,) * 1_001)).startswith("<Labelled(prune_ratio=0.5, labels=tuple of 1001, sha256 ")
    assert repr(labelled(((np.zeros(1),), 2))).startswith(
        "<Labelled(prune_ratio=0.5, labels=((float64 array of shape (1,)"
    )


def test_arrays_are_compared_by_kind_shape_and_content():
    zeros = np.zeros(6, dtype=np.int32)
    different = [zeros, zeros.astype(np.int64), zeros.astype(np.float32), zeros.reshape(2, 3), torch.zeros(6).int()]
    assert len({labelled(each) for each in different}) == len(different)
    assert labelled(zeros) == labelled(zeros.astype(">i4")) == labelled(np.repeat(zeros, 2)[::2])
    assert labelled(zeros) != DynamicRandom(prune_ratio=0.5)


def test_a_long_tuple_is_compared_by_its_digest_and_a_short_one_by_its_entries():
    assert key_of(tuple(range(1_000))) == tuple(range(1_000))
    assert re.fullmatch("tuple of 1001, sha256 [0-9a-f]{32}", str(key_of(tuple(range(1_001)))))


def test_a_digest_is_computed_once(monkeypatch):
    strategy = labelled(np.arange(N))
    first = hash(strategy), repr(strategy)
    for name in ("key_of", "literal"):
        monkeypatch.setattr(orderdp.strategies.base, name, lambda value: pytest.fail("digested again"))
    assert (hash(strategy), repr(strategy)) == first
    assert strategy == strategy


@pytest.mark.parametrize("twin", [copy.deepcopy, copy.copy, replace, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_and_pickles_are_equal_before_and_after_the_digest(twin):
    strategy = labelled(np.arange(N))
    before, digest, shown = twin(strategy), hash(strategy), repr(strategy)
    for each in (before, twin(strategy)):
        assert each == strategy
        assert (hash(each), repr(each)) == (digest, shown)
        np.testing.assert_array_equal(each.labels, strategy.labels)


def test_a_copy_with_other_settings_has_its_own_digest():
    strategy = labelled(np.arange(N))
    assert hash(strategy) == hash(copy.copy(strategy))
    assert "array" in repr(strategy)
    other = replace(strategy, labels=np.arange(1, N + 1))
    assert other != strategy
    assert repr(other) != repr(strategy)


FIT = [
    None,
    True,
    3,
    2.5,
    1j,
    Fraction(1, 3),
    np.float32(0.5),
    np.int64(3),
    "a text",
    b"bytes",
    Colour.RED,
    (),
    (1,),
    (1, (2.0, "x"), math.inf),
    Inner(0.5),
    UCB(prune_ratio=0.5),
]


@pytest.mark.parametrize("value", FIT, ids=repr)
def test_a_small_setting_is_written_so_that_it_evaluates_back(value):
    strategy = labelled(value)
    check_settings(strategy)
    names = {"Labelled": Labelled, "Inner": Inner, "Colour": Colour, "Fraction": Fraction, "inf": math.inf, "UCB": UCB}
    assert eval(repr(strategy), names) == strategy
    assert hash(eval(repr(strategy), names)) == hash(strategy)


def test_a_method_of_another_one_leaves_out_what_is_at_its_default():
    half = OrderDP(prune_ratio=0.5)
    for strategy, text in (
        (PerClass(strategy=half), "PerClass(strategy=OrderDP(prune_ratio=0.5))"),
        (Scheduled(strategy=half, epochs=9), "Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=9)"),
    ):
        assert repr(strategy) == text
        assert eval(text, {"PerClass": PerClass, "Scheduled": Scheduled, "OrderDP": OrderDP}) == strategy
    labelled_one = PerClass(strategy=half, labels=np.arange(3))
    assert repr(labelled_one).startswith(
        "<PerClass(strategy=OrderDP(prune_ratio=0.5), labels=int64 array of shape (3,)"
    )
    subset = FixedSubset(np.arange(2_000))
    assert repr(Scheduled(strategy=subset, epochs=9)).startswith("<Scheduled(strategy=<FixedSubset of 2000 positions")


def test_a_setting_that_is_not_compared_is_not_compared_inside_another_method_either():
    assert Plain(note="a") == Plain(note="b")
    assert Scheduled(strategy=Plain(note="a"), epochs=9) == Scheduled(strategy=Plain(note="b"), epochs=9)


UNFIT = [
    ([1, 2], "a list; write a tuple, or an array of many numbers"),
    ((1, [2]), "a list; write a tuple, or an array of many numbers"),
    ({1: 2}, "a dict; write a tuple of pairs"),
    ({1}, "a set; write a sorted tuple"),
    (frozenset({1}), "a set; write a sorted tuple"),
    (len, "a function; write its name, and look the function up in select"),
    (lambda: 0, "a function; write its name, and look the function up in select"),
    (object(), "an object of object; write numbers, texts, tuples or arrays, or a frozen dataclass of them"),
    (Inner(0.5, [1]), "a list; write a tuple, or an array of many numbers"),
    (np.array([object()]), "an array of objects; write an array of numbers"),
    (torch.ones(2).to_sparse(), "a sparse or quantized tensor; write a dense tensor"),
]


@pytest.mark.parametrize(("value", "end"), UNFIT, ids=[str(number) for number in range(len(UNFIT))])
def test_a_setting_that_is_no_value_is_refused_by_name(value, end):
    line = f"labels of Labelled must be a value that cannot change, got {end}"
    with pytest.raises(TypeError, match=f"^{re.escape(line)}$"):
        check_settings(labelled(value))


def test_a_strategy_that_is_no_dataclass_is_refused():
    class Undecorated(Strategy):
        num_selected, select = Plain.num_selected, Plain.select

    line = "a strategy must be a frozen dataclass, got Undecorated; write @dataclass(frozen=True) above it"
    with pytest.raises(TypeError, match=f"^{re.escape(line)}$"):
        check_settings(Undecorated())


def test_a_plain_decorator_keeps_what_strategy_defines():
    check_strategy(Plain(), names={"Plain": Plain})
    assert repr(Plain(np.float64(0.25))) == "Plain(keep=0.25)"
    assert Plain(note="a") == Plain(note="b")  # a field that is not compared
    assert hash(Plain(note="a")) == hash(Plain(note="b"))
    assert Plain() != Labelled(prune_ratio=0.5)
    assert Plain().__eq__(3) is NotImplemented


def test_what_a_class_defines_itself_stays():
    @dataclass(frozen=True)
    class Own(Plain):
        def __repr__(self):
            return "<my own>"

        def __eq__(self, other):
            return isinstance(other, Own)

        def __hash__(self):
            return 7

    @dataclass(frozen=True)
    class Heir(Own):
        pass

    for cls in (Own, Heir):
        assert (repr(cls()), hash(cls()), cls(0.1) == cls(0.2)) == ("<my own>", 7, True)


# Names of settings

WRONG = [
    (
        lambda: InfoBatch(ratio=0.3),
        "ratio is no setting of InfoBatch, got 0.3; did you mean prune_probability=0.3? "
        "InfoBatch takes prune_probability, epochs, delta, least_kept",
    ),
    (
        lambda: OrderedSGD(prune_ratio=0.3),
        "prune_ratio is no setting of OrderedSGD, got 0.3; did you mean keep=0.7? OrderedSGD takes keep",
    ),
    (
        lambda: UCB(prune_ratio=0.5, evry=3),
        "evry is no setting of UCB, got 3; did you mean 'every'? UCB takes prune_ratio, c, smoothing, every",
    ),
    (
        lambda: UCB(prune_ratio=0.5, window=3),
        "window is no setting of UCB, got 3; UCB takes prune_ratio, c, smoothing, every",
    ),
    (
        lambda: InfoBatch(0.3),
        "InfoBatch takes prune_probability, epochs, delta, least_kept, got 0.3 without a name; "
        "write InfoBatch(prune_probability=0.3)",
    ),
    (lambda: FullData(0.3), "FullData takes no settings, got 0.3 without a name"),
    (lambda: FullData(ratio=0.3), "ratio is no setting of FullData, got 0.3; FullData takes no settings"),
    (
        lambda: Labelled(prune_ratio=0.5, label=3),
        "label is no setting of Labelled, got 3; did you mean 'labels'? Labelled takes prune_ratio, labels",
    ),
    (
        lambda: Plain(0.5, "", 3),
        "Plain takes keep, note, got 3 without a name; write Plain(keep=3)",
    ),
]


@pytest.mark.parametrize(("make", "line"), WRONG, ids=[line[:40] for _, line in WRONG])
def test_a_wrong_setting_gets_one_line_that_names_the_right_ones(make, line):
    with pytest.raises(TypeError, match=f"^{re.escape(line)}$"):
        make()


@pytest.mark.parametrize("cls", BY_NAME.values(), ids=list(BY_NAME))
def test_a_class_shows_its_settings_and_not_those_of_new(cls):
    shown = inspect.signature(cls).parameters
    assert list(shown) == [each.name for each in fields(cls)]
    assert inspect.Parameter.VAR_KEYWORD not in {parameter.kind for parameter in shown.values()}


def test_a_class_with_an_init_of_its_own_takes_what_that_takes():
    @dataclass(frozen=True, init=False)
    class Free(Plain):
        extra: ClassVar[int] = 3

        def __init__(self, **settings):
            object.__setattr__(self, "keep", settings["anything"])
            object.__setattr__(self, "note", "")

    assert Free(anything=0.25).keep == 0.25


def test_a_missing_setting_is_named():
    with pytest.raises(TypeError, match=r"missing 2 required keyword-only arguments: 'prune_ratio' and 'epochs'"):
        SeTa()
    with pytest.raises(TypeError, match=r"^prune_ratio is needed by SeTa, got none; write SeTa\(prune_ratio=\.\.\.\)$"):
        SeTa(epochs=3)


# What is left out where nothing says how much


def test_a_bare_orderdp_says_what_it_leaves_out():
    text = OrderDP().assumed_size
    assert text == OrderDP(initial_score=3.0, per="iteration").assumed_size
    assert "leaves out 70 % of the data in each epoch (explore=0.5, exploit=0.6)" in text
    assert OrderDP().num_selected(1_000, 0) == OrderDP(prune_ratio=0.7).num_selected(1_000, 0) == 300
    given = [OrderDP(prune_ratio=0.7), OrderDP(explore=0.5), OrderDP(exploit=0.6), UCB(prune_ratio=0.5), FullData()]
    assert [strategy.assumed_size for strategy in given] == [None] * len(given)


def test_a_fixed_subset_may_be_given_as_an_array_and_is_a_value():
    check_settings(FixedSubset(np.arange(0, 2 * N, 2)))
    assert FixedSubset(np.arange(N)) == FixedSubset(range(N)) != FixedSubset(range(1, N + 1))

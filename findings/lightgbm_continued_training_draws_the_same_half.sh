#!/usr/bin/env bash
# lightgbm 4.7.0: training that goes on from `init_model` draws the same samples and the same features in each call.
#
# A program trains some rounds, saves or looks at the model, changes the data or a parameter, and goes on with
# `lgb.train(..., init_model=model)`. Each call begins its random draws at the seed again, also if no seed is given, as
# the seeds have fixed numbers then. So with a round in each call, all bags are the first one: half of the samples are
# never trained at `bagging_fraction=0.5`. All their labels may be wrong, and the model is the same, bit for bit.
# `bagging_freq=5` with 5 rounds in each call does the same. `feature_fraction` takes the same features each time. And
# sampling by gradients, which begins after 1 / learning_rate rounds, counts them in each call: it never begins. Neither
# `init_model` nor the seeds are documented so, the number of trees is right, and nothing warns. A resumed run repeats the
# draws of its beginning alike. xgboost draws anew in each call. Another `seed` in each call avoids it, and so does
# `Booster.update` on one Booster, for sampling by gradients too.
#
# Seen with the 1,797 digits of scikit-learn, one half for training, 30 rounds in all.
#
# Output seen (Python 3.11, Linux), test accuracy in one call and in many, means of 3 seeds:
#     same model with 447 of 898 labels wrong: 1 call False, 30 calls True
#     bagging_fraction=0.2, bagging_freq=1: 1 call 0.93, 30 calls 0.83, 30 calls with seeds of their own 0.93
#     bagging_fraction=0.2, bagging_freq=5: 1 call 0.90, 6 calls 0.83, 6 calls with seeds of their own 0.90
#     feature_fraction=0.1: 1 call 0.93, 30 calls 0.65, 30 calls with seeds of their own 0.93
#     xgboost, subsample=0.2: 1 call 0.91, 30 calls 0.92
#     xgboost, colsample_bytree=0.1: 1 call 0.90, 30 calls 0.91
#     sampling by gradients is plain boosting: 1 call False, 3 calls of 10 rounds True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.7.0 xgboost-cpu==3.2.0 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/calls.py" <<'PYTHON'
import lightgbm as lgb
import numpy as np
import xgboost as xgb
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

train, test, labels, truth = train_test_split(*load_digits(return_X_y=True), test_size=0.5, random_state=0)
BASE = dict(objective="multiclass", num_class=10, num_leaves=7, min_data_in_leaf=5, boost_from_average=False)
QUIET = dict(verbose=-1, num_threads=1, deterministic=True, force_col_wise=True)


def light(calls, labels=labels, seeds=lambda call: {}, **extra):
    """Returns the test probabilities after 30 rounds in so many calls."""
    model = None
    for call in range(calls):
        data = lgb.Dataset(train, labels, params=dict(verbose=-1))
        model = lgb.train({**BASE, **QUIET, **extra, **seeds(call)}, data, 30 // calls, init_model=model)
    assert model.num_trees() == 300
    return model.predict(test)


def extreme(calls, seed, **extra):
    model = None
    params = dict(objective="multi:softprob", num_class=10, eta=0.1, max_depth=3, nthread=1, seed=seed, **extra)
    for _ in range(calls):
        model = xgb.train(params, xgb.DMatrix(train, labels), 30 // calls, xgb_model=model)
    return model.predict(xgb.DMatrix(test))


def accuracy(predict):
    return np.mean([np.mean(predict(seed).argmax(1) == truth) for seed in range(3)])


# With a feature of its own for each sample and a leaf for each, one tree meets the targets of its bag and no others.
count = len(labels)
targets = np.random.default_rng(0).standard_normal(count)
alone = lgb.Dataset(np.arange(count)[:, None], targets, params=dict(min_data_in_bin=1, max_bin=2 * count, verbose=-1))
leaves = dict(num_leaves=2 * count, min_data_in_leaf=1, min_sum_hessian_in_leaf=0, learning_rate=1)
bag = dict(bagging_fraction=0.5, bagging_freq=1)
tree = lgb.train({**leaves, **bag, **QUIET, "boost_from_average": False}, alone, 1)
out = np.abs(tree.predict(np.arange(count)[:, None]) - targets) > 1e-3
wrong = np.where(out, (labels + 5) % 10, labels)
same = {calls: np.array_equal(light(calls, **bag), light(calls, wrong, **bag)) for calls in (1, 30)}
print(f"same model with {out.sum()} of {count} labels wrong: 1 call {same[1]}, 30 calls {same[30]}")

found = {}
for name, calls, extra in (
    ("bagging_fraction=0.2, bagging_freq=1", 30, dict(bagging_fraction=0.2, bagging_freq=1)),
    ("bagging_fraction=0.2, bagging_freq=5", 6, dict(bagging_fraction=0.2, bagging_freq=5)),
    ("feature_fraction=0.1", 30, dict(feature_fraction=0.1)),
):
    one = accuracy(lambda seed: light(1, seed=seed, **extra))
    many = accuracy(lambda seed: light(calls, seed=seed, **extra))
    anew = accuracy(lambda seed: light(calls, seeds=lambda call: dict(seed=100 * seed + call), **extra))
    found[name] = one, many, anew
    print(f"{name}: 1 call {one:.2f}, {calls} calls {many:.2f}, {calls} calls with seeds of their own {anew:.2f}")
for name, extra in (("subsample=0.2", dict(subsample=0.2)), ("colsample_bytree=0.1", dict(colsample_bytree=0.1))):
    one, many = (accuracy(lambda seed: extreme(calls, seed, **extra)) for calls in (1, 30))
    found[name] = one, many
    print(f"xgboost, {name}: 1 call {one:.2f}, 30 calls {many:.2f}")

plain = light(1)
goss = {calls: np.array_equal(light(calls, data_sample_strategy="goss"), plain) for calls in (1, 3)}
print(f"sampling by gradients is plain boosting: 1 call {goss[1]}, 3 calls of 10 rounds {goss[3]}")
lost = [one - many for one, many, *_ in found.values()]
assert same == {1: False, 30: True} and goss == {1: False, 3: True}, "lightgbm behaves otherwise now"
assert min(lost[:3]) > 0.04 and max(lost[3:]) < 0.02, "lightgbm behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/calls.py"

#!/usr/bin/env bash
# lightgbm 4.7.0: sampling by gradients (GOSS) prunes nothing in the first 1 / learning_rate rounds.
#
# `data_sample_strategy="goss"` keeps the samples with the largest gradients and a part of the others. As published, each
# round samples. LightGBM grows the first 1 / learning_rate trees from all samples, and neither the parameters' page nor
# the log says so. At a learning rate of 0.01 these are 100 rounds, the default number. The whole run then is plain
# boosting, bit for bit, whatever `top_rate` and `other_rate` are: a comparison finds GOSS lossless, and no faster. A
# search over learning rates compares runs that sampled for most of their rounds with runs that never did.
#
# Output seen (Python 3.11, Linux), 2,000 samples, top_rate 0.05, other_rate 0.05:
#     learning rate 0.1, 10 rounds: the model of all samples: True
#     learning rate 0.1, 11 rounds: the model of all samples: False
#     learning rate 0.01, 100 rounds: the model of all samples: True
#     learning rate 0.01, 101 rounds: the model of all samples: False
#
# orderdp's methods prune from the first epoch, or as their schedule says, and its reports count the samples trained.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.7.0 numpy==2.4.6
cat > "$folder/goss.py" <<'PYTHON'
import lightgbm
import numpy as np

rng = np.random.default_rng(0)
features = rng.standard_normal((2_000, 5))
labels = features[:, 0] + features[:, 1] ** 2 + rng.standard_normal(2_000) > 1
GOSS = {"data_sample_strategy": "goss", "top_rate": 0.05, "other_rate": 0.05}


def predicted(rate, rounds, sampling):
    settings = {"objective": "binary", "learning_rate": rate, "num_threads": 1, "seed": 0, "verbose": -1}
    model = lightgbm.train(settings | sampling, lightgbm.Dataset(features, labels), rounds)
    return model.predict(features)


for rate in (0.1, 0.01):
    last = round(1 / rate)
    for rounds in (last, last + 1):
        same = np.array_equal(predicted(rate, rounds, {}), predicted(rate, rounds, GOSS))
        print(f"learning rate {rate}, {rounds} rounds: the model of all samples: {same}")
        assert same == (rounds == last), "lightgbm behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/goss.py" 2>/dev/null

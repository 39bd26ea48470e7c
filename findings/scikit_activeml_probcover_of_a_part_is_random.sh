#!/usr/bin/env bash
# scikit-activeml 1.0.1: ProbCover on a subsample of candidates draws at random, since the rest counts as labelled.
#
# ProbCover takes the sample that covers most samples within a radius, and marks those as covered. What is not a
# candidate it takes to be labelled. With `SubSamplingWrapper`, which is for pools that are too large, the candidates
# are a tenth of the unlabelled samples by default. The other nine tenths then count as labelled, and cover the pool. So
# nearly all candidates have the score 0, and the draw is uniform. The same holds with `candidates=` of some indices.
# The documentation allows both, and says that X holds labelled and unlabelled samples. The query returns as many
# samples as asked, no warning comes, and the work of distances and clusters is done for nothing. A study of ProbCover
# on a large pool so measures the random baseline. `exclude_non_subsample=True` gives the part alone to ProbCover, which
# then chooses well.
#
# Output seen (Python 3.11, Linux), 1,900 samples in four large and six small groups, 10 asked for, means of 10 runs:
#     ProbCover: best score 361, samples of 9.4 groups
#     ProbCover, subsample: best score 0, samples of 4.7 groups
#     ProbCover, a fourth as candidates: best score 0, samples of 5.2 groups
#     ProbCover, subsample, exclude_non_subsample=True: best score 38, samples of 8.3 groups
#     RandomSampling: samples of 5.1 groups
#
# The static methods of orderdp choose from all samples they are given, and mark nothing as chosen before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 scikit-learn==1.9.1 scikit-activeml==1.0.1
cat > "$folder/cover.py" <<'PYTHON'
import numpy as np
from skactiveml.pool import ProbCover, RandomSampling, SubSamplingWrapper

NUM_RUNS, ASKED = 10, 10

rng = np.random.default_rng(0)
groups = np.repeat(np.arange(10), [400] * 4 + [50] * 6)
samples = 6 * rng.normal(size=(10, 8))[groups] + 0.5 * rng.normal(size=(len(groups), 8))
unlabelled = np.full(len(groups), np.nan)


def prob_cover(seed):
    return ProbCover(n_classes=10, deltas=np.arange(0.5, 4, 0.25), random_state=seed)


def of_subsample(seed, **settings):
    return SubSamplingWrapper(prob_cover(seed), random_state=seed, **settings)


def show(name, method, num_candidates=None, scored=True):
    """Returns the best first score and the number of groups of the chosen samples, means over the runs."""
    best, reached = [], []
    for seed in range(NUM_RUNS):
        some = None
        if num_candidates:
            some = np.random.default_rng(seed).choice(len(groups), num_candidates, replace=False)
        chosen, scores = method(seed).query(samples, unlabelled, some, batch_size=ASKED, return_utilities=True)
        best.append(np.nanmax(scores[0]))
        reached.append(len(np.unique(groups[chosen])))
    score = f"best score {np.mean(best):.0f}, " if scored else ""
    print(f"{name}: {score}samples of {np.mean(reached):.1f} groups")
    return np.mean(best), np.mean(reached)


best, reached = show("ProbCover", prob_cover)
assert best > 100 and reached > 8
for name, method, num_candidates in (
    ("subsample", of_subsample, None),
    ("a fourth as candidates", prob_cover, len(groups) // 4),
):
    best, reached = show(f"ProbCover, {name}", method, num_candidates)
    assert best < 5 and reached < 7, "scikit-activeml behaves otherwise now"
name = "ProbCover, subsample, exclude_non_subsample=True"
best, reached = show(name, lambda seed: of_subsample(seed, exclude_non_subsample=True))
assert best > 10 and reached > 8
assert show("RandomSampling", lambda seed: RandomSampling(random_state=seed), scored=False)[1] < 7
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/cover.py" 2>/dev/null

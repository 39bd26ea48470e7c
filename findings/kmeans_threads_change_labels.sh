#!/usr/bin/env bash
# scikit-learn 1.9.1: KMeans with a fixed random_state gives other clusters from call to call on several threads.
#
# The threads add up their parts of the new centres in the order in which they finish, so rounding differs. A sample
# near a border then changes its cluster, and the runs drift apart: they stop after other numbers of iterations. On one
# thread every call gives the same bits. Seen in float32 with n = 20,000, d = 64 and 20 clusters.
#
# Output seen (Python 3.11, Linux, 4 threads on 2 cores):
#     1 thread: 1 different result in 6 calls
#     4 threads: more than 1 different result in 6 calls
#
# orderdp's k-means prototypes run on one thread, so equal seeds keep equal samples.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6 threadpoolctl==3.8.0
cat > "$folder/kmeans.py" <<'PYTHON'
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

x = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)


def different(threads):
    results = set()
    for _ in range(6):
        with threadpool_limits(threads):
            fitted = KMeans(20, random_state=0, n_init=1).fit(x)
        results.add((fitted.n_iter_, fitted.labels_.tobytes()))
    return results


one, four = different(1), different(4)
print(f"1 thread: {len(one)} different result in 6 calls")
print(f"4 threads: {'more than 1 different result' if len(four) > 1 else '1 different result'} in 6 calls")
print("iterations on 4 threads:", sorted({iterations for iterations, _ in four}))
assert len(one) == 1 < len(four), "scikit-learn behaves otherwise now"
PYTHON
OMP_NUM_THREADS=4 "$folder/venv/bin/python" "$folder/kmeans.py"

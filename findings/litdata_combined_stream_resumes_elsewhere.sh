#!/usr/bin/env bash
# litdata 0.2.76: a CombinedStreamingDataset with workers resumes elsewhere, repeats samples and leaves others out.
#
# The documentation says that it resumes with the same number of workers, batch size and ranks. The state holds, for each
# part, the number of samples that were read. On resume, each part divides its number among the workers in whole batches,
# as if all samples of a batch came from that part. But a batch has samples of several parts, so each worker has read
# other numbers. Some workers begin too early in a part, and others too late. This comes with each resume, and concerns
# more samples with more workers and larger batches. The length is about right, and nothing warns. A single
# StreamingDataset resumes exactly, and so does a combined one without workers.
#
# Output seen (Python 3.11, Linux), two parts of 400 samples, weights 0.7 and 0.3, batches of 16, stopped and resumed:
#     one part, 4 workers, after 6 batches: 0 repeated, 0 left out
#     one part, 4 workers, after 14 batches: 0 repeated, 0 left out
#     both parts, 0 workers, after 6 batches: 0 repeated, 0 left out
#     both parts, 0 workers, after 14 batches: 0 repeated, 0 left out
#     both parts, 4 workers, after 6 batches: 10 repeated, 12 left out
#     both parts, 4 workers, after 14 batches: 14 repeated, 22 left out
#
# StreamPruner resumes its source by the source's own state, so it would repeat them too. The page on streams says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 litdata==0.2.76
cat > "$folder/resume.py" <<'PYTHON'
import sys
from functools import partial
from operator import add

from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, optimize

FOLDERS = [f"{sys.argv[1]}/{name}" for name in "AB"]


def loader(way, num_workers):
    parts = [StreamingDataset(folder, shuffle=True, seed=0) for folder in FOLDERS]
    dataset = parts[0]
    if way == "both parts":
        dataset = CombinedStreamingDataset(parts, weights=[0.7, 0.3], iterate_over_all=False, seed=0)
    return StreamingDataLoader(dataset, batch_size=16, num_workers=num_workers)


def resumed(way, num_workers, stop):
    """Returns the samples of an epoch that was stopped after some batches, and of what followed on resume."""
    stopped = loader(way, num_workers)
    before = []
    for number, batch in enumerate(stopped, 1):
        before += batch.tolist()
        if number == stop:
            state = stopped.state_dict()
            break
    again = loader(way, num_workers)
    again.load_state_dict(state)
    return before, [sample for batch in again for sample in batch.tolist()]


def main():
    for number, folder in enumerate(FOLDERS):
        inputs = list(range(400 * number, 400 * (number + 1)))
        optimize(fn=partial(add, 0), inputs=inputs, output_dir=folder, chunk_size=20, num_workers=1)
    for way, num_workers in (("one part", 4), ("both parts", 0), ("both parts", 4)):
        whole = [sample for batch in loader(way, num_workers) for sample in batch.tolist()]
        for stop in (6, 14):
            before, after = resumed(way, num_workers, stop)
            repeated, missing = len(set(before) & set(after)), len(set(whole) - set(before) - set(after))
            print(f"{way}, {num_workers} workers, after {stop} batches: {repeated} repeated, {missing} left out")
            exact = before + after == whole
            assert exact == ((way, num_workers) != ("both parts", 4)), "litdata behaves otherwise now"


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" "$folder/resume.py" "$folder" 2>/dev/null | grep " batches: "

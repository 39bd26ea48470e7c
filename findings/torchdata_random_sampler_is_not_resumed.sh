#!/usr/bin/env bash
# torchdata 0.11.0: a StatefulDataLoader over torch's RandomSampler resumes in another order, and trains samples twice.
#
# Its tutorial, that of release 0.9 for example, says that torch's RandomSampler is patched by the import, so that no
# sampler of one's own is needed for resuming. Release 0.11 patches nothing. `shuffle=True` takes torchdata's own
# RandomSampler, which has a state. The same sampler from torch, given as `sampler=`, has none: the resumed loader draws
# a new permutation and leaves out as many batches of it as were trained. So samples of the rest of the epoch come that
# were trained already, and others never come. A seeded generator does not help, because its state is not saved: from
# the second epoch on, the resumed run draws the permutation of the first. Lengths are right, and nothing warns.
# SubsetRandomSampler and WeightedRandomSampler behave alike.
#
# Output seen (Python 3.11, Linux), second epoch of 40 samples, stopped after 6 of 10 batches and resumed:
#     shuffle=True, 0 workers: 40 trained, 40 different
#     shuffle=True, 2 workers: 40 trained, 40 different
#     RandomSampler, 0 workers: 40 trained, 27 different
#     RandomSampler, 2 workers: 40 trained, 27 different
#     SubsetRandomSampler, 0 workers: 40 trained, 31 different
#     SubsetRandomSampler, 2 workers: 40 trained, 31 different
#     WeightedRandomSampler, 0 workers: 40 trained, 29 different
#     WeightedRandomSampler, 2 workers: 40 trained, 29 different
#
# orderdp's loader and sampler have a state. StreamPruner resumes its source by the source's own state, so the page on
# streams says to write `shuffle=True` there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 torchdata==0.11.0
cat > "$folder/resume.py" <<'PYTHON'
import torch
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

DATA = list(range(40))
ORDERS = {
    "shuffle=True": lambda rng: {"shuffle": True, "generator": rng},
    "RandomSampler": lambda rng: {"sampler": RandomSampler(DATA, generator=rng)},
    "SubsetRandomSampler": lambda rng: {"sampler": SubsetRandomSampler(DATA, generator=rng)},
    "WeightedRandomSampler": lambda rng: {
        "sampler": WeightedRandomSampler([1.0] * 40, 40, replacement=False, generator=rng)
    },
}


def second_epoch(name, num_workers):
    """Returns the samples of the second epoch, which was stopped after 6 of 10 batches and resumed."""

    def build():
        order = ORDERS[name](torch.Generator().manual_seed(0))
        return StatefulDataLoader(DATA, batch_size=4, num_workers=num_workers, **order)

    stopped = build()
    assert sorted(sample for batch in stopped for sample in batch.tolist()) == DATA
    samples = []
    for number, batch in enumerate(stopped, 1):
        samples += batch.tolist()
        if number == 6:
            state = stopped.state_dict()
            break
    resumed = build()
    resumed.load_state_dict(state)
    return samples + [sample for batch in resumed for sample in batch.tolist()]


for name in ORDERS:
    for num_workers in (0, 2):
        samples = second_epoch(name, num_workers)
        different = len(set(samples))
        print(f"{name}, {num_workers} workers: {len(samples)} trained, {different} different")
        assert len(samples) == 40
        assert different == 40 if name == "shuffle=True" else different < 35, "torchdata behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/resume.py" 2>/dev/null

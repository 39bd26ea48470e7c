#!/usr/bin/env bash
# pytorch-ignite 0.5.5: after an error in a run, the next `run` of the same Engine trains nothing and returns None.
#
# A program calls `trainer.run` again after an error of the storage, or a user does so in a notebook after Ctrl-C. The
# Engine has kept the generator of the failed run. The error has ended that generator, so the next `run` trains no
# batch, fires no event and raises nothing: it looks like a finished training. The call after it goes on with the next
# epoch. It leaves out what the failed epoch still had, and in its first epoch as many batches as were begun in the
# failed one. So the state says epoch 3 of 3, after 7 batches of 12. With `interrupt_resume_enabled = False` no run is
# empty.
#
# Output seen (Python 3.11, Linux), as (epoch, batch):
#     OSError in (2, 2), until then: (1, 0) (1, 1) (1, 2) (1, 3) (2, 0) (2, 1)
#       run again: nothing, returned None
#       and again: (3, 0), returned a State of epoch 3 of 3
#     KeyboardInterrupt in (2, 2), until then: (1, 0) (1, 1) (1, 2) (1, 3) (2, 0) (2, 1)
#       run again: nothing, returned None
#       and again: (3, 0), returned a State of epoch 3 of 3
#
# orderdp's `attach` sets `interrupt_resume_enabled = False`, unless the program has set it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 pytorch-ignite==0.5.5
cat > "$folder/again.py" <<'PYTHON'
from ignite.engine import Engine

BATCHES = [0, 1, 2, 3]


def run_three_times(error):
    """Returns the batches that each of three runs trained, what the runs returned, and the epoch in the end."""
    failed = False
    trained = [[], [], []]
    returned = []

    def step(engine, batch):
        nonlocal failed
        if (engine.state.epoch, batch) == (2, 2) and not failed:
            failed = True
            raise error("cannot read")
        trained[len(returned)].append((engine.state.epoch, batch))

    trainer = Engine(step)
    for _ in trained:
        try:
            returned.append(trainer.run(BATCHES, max_epochs=3))
        except error:
            returned.append("nothing")
    return trained, returned, trainer.state.epoch


first = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
for error in (OSError, KeyboardInterrupt):
    (until, second, third), (_, after, last), epoch = run_three_times(error)
    print(f"{error.__name__} in (2, 2), until then:", *until)
    print("  run again:", *(second or ["nothing"]), end="")
    print(f", returned {after}")
    print("  and again:", *third, end="")
    print(f", returned a {type(last).__name__} of epoch {epoch} of 3")
    assert (until, second, after, third, epoch) == (first, [], None, [(3, 0)], 3), "Ignite behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/again.py" 2>/dev/null

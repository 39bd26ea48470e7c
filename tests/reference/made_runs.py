"""Folders of comparisons as the trainer would write them, made without training: every number is known."""

import torch

from orderdp.comparison.planned import Sizes
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import total_steps

SIZES = Sizes(200, 360)
OPEN_STEPS = 9  # of runs whose number of steps depends on the losses


class Made:
    """A folder of runs; each accuracy is that of its last epoch.

    Args:
        path: the folder.
        plan: its plan.
    """

    def __init__(self, path, plan):
        path.mkdir(parents=True)
        plan.write(path, SIZES)
        self.path, self.plan = path, plan

    def run(self, label, seed=None):
        """The member of that label and seed."""
        seed = self.plan.seeds[0] if seed is None else seed
        (member,) = (m for m in self.plan.members(SIZES.num_samples) if (m.label, m.recipe.seed) == (label, seed))
        return member

    def folder(self, label, seed=None):
        """The folder of that run."""
        return RunFolder(self.path / self.run(label, seed).name)

    def finish(self, label, accuracies, *, seeds=None, epochs=None, also=None, **line_of):
        """Writes runs that ended with these accuracies, one for each seed.

        Args:
            label: which runs.
            accuracies: in percent.
            seeds: whose they are; else the plan's.
            epochs: how many; else those of the recipe.
            also: further keys of the result.
            **line_of: key of the metrics to a function of (seed, epoch from 1).
        """
        for seed, accuracy in zip(seeds or self.plan.seeds, accuracies, strict=True):
            member, folder = self.run(label, seed), self.folder(label, seed)
            recipe = member.recipe_in(self.path, SIZES.num_samples)
            count = epochs or recipe.epochs
            steps = total_steps(recipe, SIZES.num_samples) or OPEN_STEPS
            samples = steps * recipe.batch_size
            lines = [
                {
                    **line(epoch, count, steps, samples, accuracy),
                    **{name: of(seed, epoch) for name, of in line_of.items()},
                }
                for epoch in range(1, count + 1)
            ]
            folder.begin(recipe)
            folder.write_metrics(lines)
            folder.write_gradient_norms(torch.ones(steps))
            folder.write_result({**result(member.name, seed, lines), **(also or {})})
        return self


def line(epoch, epochs, steps, samples, accuracy):
    """A line of metrics: accuracy rises to the last epoch's by a point each epoch; an epoch takes two seconds."""
    return {
        "epoch": epoch,
        "step": steps * epoch // epochs,
        "samples_forward": samples * epoch // epochs,
        "samples_backward": samples * epoch // epochs,
        "loss": 1 / epoch,
        "test_loss": 1 / epoch,
        "accuracy": accuracy - (epochs - epoch),
        "lr": 0.1,
        "gradient_norm": 2.0 + 1 / epoch,
        "gradient_norm_deviation": 0.5 / epoch,
        "jaccard": None if epoch == 1 else 0.5 + epoch / 100,
        "jaccard_checkpoint": None,
        "alignment": None,
        "never_seen": 10,
        "mean_age": 0.5,
        "max_age": epoch - 1,
        "training_s": 1.5,
        "selection_s": 0.25,
        "data_s": 0.25,
        "evaluation_s": 0.125,
    }


def result(name, seed, lines):
    """The result of a run of these lines."""
    last = lines[-1]
    seconds = {key: sum(line[key] for line in lines) for key in ("training_s", "selection_s", "data_s", "evaluation_s")}
    return {
        "name": name,
        "accuracy_last": last["accuracy"],
        "accuracy_best": max(line["accuracy"] for line in lines),
        "epochs": len(lines),
        "steps": last["step"],
        "samples_forward": last["samples_forward"],
        "samples_backward": last["samples_backward"],
        **seconds,
        "coverage": {
            "never_seen": 0.05,
            "gini": 0.25,
            "histogram": [10, 90, 100],
            "class_shares": [0.08, *[0.1] * 8, 0.12],
            "realised_ratio": 0.5,
            "mean_age": 0.5,
            "max_age": 2,
        },
        "seed": seed,
        "digests": {"model": "0" * 64, "scores": "1" * 64, "choices": "2" * 64},
        "ranks": 1,
        "finished": "2026-03-10T12:00:00+00:00",
        "device": "a processor",
        "threads": 1,
        "versions": {"python": "3.11.0", "torch": "2.6.0", "orderdp": "0.1.0", "numpy": "2.0", "accelerate": "1.0"},
        "commit": None,
    }

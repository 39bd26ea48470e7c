"""Arguments of tiny runs on the command line, and the labels of a comparison."""

TINY = ["--train-size=200", "--epochs=1", "--model=small_cnn", "--device=cpu", "--num-threads=1"]
SMALL = ["compare", *TINY, "--methods", "orderdp", "--prune-ratio", "0.5", "--seed", "0", "--run", "run"]
SMALL_RUNS = ["OrderDP-50-seed0", "dynamic-random-50-seed0", "full-data-seed0", "full-data-steps-of-OrderDP-50-seed0"]


def labels(comparison):
    """The label of each pruned run."""
    return [recipe.label for recipe in comparison.pruned()]

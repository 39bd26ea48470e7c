"""Slow twins of the methods that cover the data, from their publications: all gains anew at each step, in float64."""

import itertools

import numpy as np


def greedy(num_samples, size, gain):
    """Adds the sample with the highest gain(chosen, sample), the lowest of equal ones.

    Gains are rounded: those of two samples that are nearest to each other are often equal, but for rounding.
    """
    chosen = []
    for _ in range(size):
        gains = [-np.inf if sample in chosen else round(gain(chosen, sample), 9) for sample in range(num_samples)]
        chosen.append(int(np.argmax(gains)))
    return chosen


def cosine_similarity(features):
    rows = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms == 0, 1, norms)
    return 0.5 + 0.5 * rows @ rows.T


def gaussian_similarity(features):
    squares = distances(features) ** 2
    return np.exp(-squares / squares.mean())


def distances(features):
    rows = np.asarray(features, dtype=np.float64)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def cover(similarity, chosen):
    return similarity[:, chosen].max(1).sum() if chosen else 0.0


def facility_location(similarity, size):
    return greedy(len(similarity), size, lambda chosen, sample: cover(similarity, [*chosen, sample]))


def graph_cut(similarity, size, redundancy):
    def value(chosen):
        return similarity[:, chosen].sum() - redundancy * similarity[np.ix_(chosen, chosen)].sum()

    return greedy(len(similarity), size, lambda chosen, sample: value([*chosen, sample]))


def farthest_first(distance, first, size):
    chosen = [first]
    while len(chosen) < size:
        nearest = distance[:, chosen].min(1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def symmetric_divergences(probabilities, floor):
    p = np.maximum(np.asarray(probabilities, dtype=np.float64), floor)
    ratio = np.log(p[:, None] / p[None])
    return 0.5 * (p[:, None] * ratio).sum(2) - 0.5 * (p[None] * ratio).sum(2)


def herding(features, size):
    rows = np.asarray(features, dtype=np.float64)
    mean = rows.mean(0)
    return greedy(
        len(rows),
        size,
        lambda chosen, sample: -np.linalg.norm((len(chosen) + 1) * mean - rows[chosen].sum(0) - rows[sample]),
    )


def last_layer_gradients(evidence):
    residuals = evidence.probabilities.astype(np.float64)
    residuals[np.arange(len(residuals)), evidence.labels] -= 1
    inputs = np.concatenate([np.ones((len(residuals), 1)), evidence.features], axis=1)
    return (residuals[:, :, None] * inputs[:, None, :]).reshape(len(residuals), -1)


def craig(gradients, size):
    """The samples, and how many gradients lie nearest to each of theirs."""
    apart = distances(gradients)
    chosen = facility_location(apart.max() - apart, size)
    return chosen, np.bincount(apart[:, chosen].argmin(1), minlength=size)


def smallest_radius(distance, size):
    return min(distance[:, list(chosen)].min(1).max() for chosen in itertools.combinations(range(len(distance)), size))


def largest_cover(similarity, size):
    return max(cover(similarity, list(chosen)) for chosen in itertools.combinations(range(len(similarity)), size))

"""Static scores of single samples, slow and plain, as their publications give them. Everything is a list of floats."""

import math
import statistics
from fractions import Fraction
from itertools import pairwise

LEAST = 1e-8


def entropy(p):
    return -math.fsum(x * math.log(x) for x in p if x > 0)


def margin(p):
    first, second = sorted(p, reverse=True)[:2]
    return first - second


def el2n(p, y):
    return math.sqrt(math.fsum((x - (k == y)) ** 2 for k, x in enumerate(p)))


def forgetting(right, epochs):
    """Events of one sample; a sample never learned counts as `epochs` of them."""
    if not any(right):
        return epochs
    return sum(before and not after for before, after in pairwise(right))


def windows(values, size):
    return [values[begin : begin + size] for begin in range(len(values) - size + 1)]


def dynamic_uncertainty(predictions, y, size):
    """`predictions`: one for each epoch."""
    return statistics.fmean(statistics.stdev(part) for part in windows([p[y] for p in predictions], size))


def kl(p, q):
    return math.fsum(a * (math.log(max(a, LEAST)) - math.log(max(b, LEAST))) for a, b in zip(p, q, strict=True))


def tdds(predictions, size, decay):
    score = 0.0
    for part in windows(predictions, size):
        changes = [kl(after, before) for before, after in pairwise(part)]
        mean = statistics.fmean(changes)
        score = decay * math.sqrt(math.fsum((d - mean) ** 2 for d in changes)) + (1 - decay) * score
    return score


def centre(rows):
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def moderate(features, labels):
    distances = []
    for row, label in zip(features, labels, strict=True):
        distances.append(math.dist(row, centre([f for f, y in zip(features, labels, strict=True) if y == label])))
    median = statistics.median(distances)
    return [-abs(d - median) for d in distances]


def cal(features, predictions, k):
    scores = []
    for i, row in enumerate(features):
        others = sorted((math.dist(row, other), j) for j, other in enumerate(features) if j != i)
        scores.append(statistics.fmean(kl(predictions[j], predictions[i]) for _, j in others[:k]))
    return scores


def ccs_budgets(scores, size, cutoff, number):
    """The positions that are dropped, and of each stratum its positions and its budget.

    The strata are filled as the algorithm says: again and again the smallest one that is left.
    """
    ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
    dropped = ranked[: math.floor(Fraction(str(cutoff)) * len(scores))]
    pool = [i for i in range(len(scores)) if i not in dropped]
    low, high = min(scores[i] for i in pool), max(scores[i] for i in pool)
    strata = [[] for _ in range(number)]
    for i in pool:
        strata[min(number - 1, int((scores[i] - low) / (high - low) * number))].append(i)
    budgets, left = [], size
    strata.sort(key=len)
    for position, stratum in enumerate(strata):
        budgets.append(min(len(stratum), left // (number - position)))
        left -= budgets[-1]
    return set(dropped), strata, budgets


def deepfool(gradients, point, max_steps=50):
    """The perturbation of one point. `gradients` gives the logits of a point and their gradients, as arrays."""
    moved = point.copy()
    logits, _ = gradients(moved)
    first = logits.argmax()
    for _ in range(max_steps):
        logits, slopes = gradients(moved)
        if logits.argmax() != first:
            break
        ways = []
        for k in range(len(logits)):
            if k != first:
                slope = slopes[k] - slopes[first]
                gap = abs(logits[k] - logits[first])
                norm = math.sqrt((slope**2).sum())
                ways.append((gap / norm, gap / norm**2 * slope))
        moved = moved + min(ways, key=lambda way: way[0])[1]
    return moved - point

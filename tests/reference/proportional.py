"""Chances in proportion to sizes, slow and exact."""

from fractions import Fraction


def chances(sizes: list[float], count: int) -> list[float]:
    """min(1, c·size) with the c for which they sum to `count`, in fractions; those of size 0 share what is left."""
    sizes = [Fraction(size) for size in sizes]
    certain = set()
    while True:
        rest = [place for place in range(len(sizes)) if place not in certain]
        left, total = count - len(certain), sum(sizes[place] for place in rest)
        if total == 0:
            of_rest = {place: Fraction(left, len(rest)) for place in rest}
            break
        of_rest = {place: left * sizes[place] / total for place in rest}
        if max(of_rest.values(), default=0) < 1:
            break
        certain |= {place for place in rest if of_rest[place] >= 1}
    return [float(of_rest.get(place, 1)) for place in range(len(sizes))]

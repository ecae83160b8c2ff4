"""Where the labels of a chart go, so that none covers another: plain geometry, in any unit."""

import math
from collections.abc import Sequence

__all__ = ["Box", "place", "spread"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_DISTANCES = (0.6, 1.0, 1.5, 2.2, 3.2, 4.5, 6.0)
_ANGLES = tuple(math.radians(degrees) for degrees in (45, 315, 135, 225, 0, 180, 90, 270))


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """
    Places as near as can be to the wanted ones (least squares), in their order and at least a gap apart.

    Args:
        wanted (sequence of `float`): in any order.
        gap (`float`): between neighbours.
    """
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    # Less their share of the gaps they may not fall; where they would, neighbours are pooled at their mean.
    pools: list[tuple[float, int]] = []
    for rank, number in enumerate(order):
        mean, count = wanted[number] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, size = pools.pop()
            mean, count = (mean * count + before * size) / (count + size), count + size
        pools.append((mean, count))
    level = [mean for mean, count in pools for _ in range(count)]
    places = [0.0] * len(wanted)
    for rank, number in enumerate(order):
        places[number] = level[rank] + rank * gap
    return places


def place(anchors: Sequence[Point], sizes: Sequence[Point], area: Point, obstacles: Sequence[Box]) -> list[Point]:
    """
    The centres of labels beside their anchors: the nearest place that is free, for one after the other.

    Args:
        anchors (sequence of pairs of `float`): what is labelled.
        sizes (sequence of pairs of `float`): width and height of each label.
        area (pair of `float`): width and height that labels must stay within, from (0, 0).
        obstacles (sequence of `tuple[float, float, float, float]`): boxes from (left, bottom) to (right, top), such as
            points and bars, that should not be covered. The anchors are so anyway.
    """
    taken: list[Box] = []
    centres = []
    for anchor, (width, height) in zip(anchors, sizes, strict=True):
        margin = height / 2
        points = [(x - margin, y - margin, x + margin, y + margin) for x, y in anchors]
        points += obstacles
        candidates = [
            (
                anchor[0] + math.cos(angle) * (width / 2 + distance * height),
                anchor[1] + math.sin(angle) * (height / 2 + distance * height),
            )
            for distance in _DISTANCES
            for angle in _ANGLES
        ]
        # The first of the best: candidates go from near to far.
        best = min(candidates, key=lambda centre: _cost(_around(centre, width, height), area, taken, points))
        taken.append(_around(best, width, height))
        centres.append(best)
    return centres


def _around(centre: Point, width: float, height: float) -> Box:
    return (centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2)


def _cost(box: Box, area: Point, labels: Sequence[Box], points: Sequence[Box]) -> tuple[int, int]:
    """To be outside or over another label is worst, then to cover points."""
    outside = box[0] < 0 or box[1] < 0 or box[2] > area[0] or box[3] > area[1]
    return outside + sum(_overlap(box, other) for other in labels), sum(_overlap(box, other) for other in points)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

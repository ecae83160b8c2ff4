"""Where the labels of a chart go, so that none covers another: plain geometry, in any unit."""

import math
from collections.abc import Sequence

__all__ = ["Box", "place"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]

# A label nearer to another anchor than to its own is as bad as so many covered points.
_ASTRAY = 4
_DISTANCES = (0.6, 1.0, 1.5, 2.2, 3.2, 4.5, 6.0)
_ANGLES = tuple(math.radians(degrees) for degrees in (45, 315, 135, 225, 0, 180, 90, 270))


def place(anchors: Sequence[Point], sizes: Sequence[Point], area: Point, obstacles: Sequence[Box]) -> list[Point]:
    """
    The centres of labels beside their anchors: the nearest place that is free, for one after the other.

    Args:
        anchors (sequence of pairs of `float`): what is labelled.
        sizes (sequence of pairs of `float`): width and height of each label.
        area (pair of `float`): width and height that labels must stay within, from (0, 0).
        obstacles (sequence of `tuple[float, float, float, float]`): boxes from (left, bottom) to (right, top), such as
            points and bars, that should not be covered. The anchors count among them anyway.
    """
    taken: list[Box] = []
    centres: dict[int, Point] = {}
    # The widest first, which fit in the fewest places.
    for number in sorted(range(len(anchors)), key=lambda number: -sizes[number][0]):
        anchor, (width, height) = anchors[number], sizes[number]
        margin = height / 2
        points = [(x - margin, y - margin, x + margin, y + margin) for x, y in anchors]
        points += obstacles
        candidates = {
            (
                anchor[0] + math.cos(angle) * (width / 2 + distance * height),
                anchor[1] + math.sin(angle) * (height / 2 + distance * height),
            ): distance
            for distance in _DISTANCES
            for angle in _ANGLES
        }
        others = [other for other in anchors if other != anchor]
        costs = {
            centre: _cost(
                box := _around(centre, width, height),
                area,
                taken,
                points,
                distance + _ASTRAY * sum(_away(box, other) < _away(box, anchor) for other in others),
            )
            for centre, distance in candidates.items()
        }
        best = min(costs, key=lambda centre: costs[centre])
        taken.append(_around(best, width, height))
        centres[number] = best
    return [centres[number] for number in range(len(anchors))]


def _around(centre: Point, width: float, height: float) -> Box:
    return (centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2)


def _cost(box: Box, area: Point, labels: Sequence[Box], points: Sequence[Box], distance: float) -> tuple[int, float]:
    """
    Cost of a place, compared in order: outside the frame or over a label; then covered points plus the distance in label
    heights.
    """
    outside = box[0] < 0 or box[1] < 0 or box[2] > area[0] or box[3] > area[1]
    return outside + sum(_overlap(box, other) for other in labels), sum(
        _overlap(box, other) for other in points
    ) + distance


def _away(box: Box, point: Point) -> float:
    """How far a point is from a box."""
    return math.hypot(
        max(box[0] - point[0], 0, point[0] - box[2]),
        max(box[1] - point[1], 0, point[1] - box[3]),
    )


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

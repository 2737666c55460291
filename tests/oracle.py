"""The rules and episodes by their definitions, slowly: what the streaming code must agree with.

Each rule looks at its whole window, z at point i and the points before it, and keeps nothing. The stretch is one:
no gap, no phase boundary, no excluded point.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import overload


def last(z: Sequence[float], i: int, points: int) -> Sequence[float]:
    """That many points, up to and with i; none where the stretch is too short."""
    return z[i - points + 1 : i + 1] if i >= points - 1 else []


def r1(z: Sequence[float], i: int) -> str | None:
    """A point beyond three sigma."""
    if abs(z[i]) <= 3.0:
        return None
    return "above" if z[i] > 0 else "below"


def r2(z: Sequence[float], i: int, run: int = 9) -> str | None:
    """This point and the eight before share a side of the centre line."""
    window = last(z, i, run)
    if window and min(window) > 0:
        return "above"
    return "below" if window and max(window) < 0 else None


def r3(z: Sequence[float], i: int, trend: int = 6) -> str | None:
    """This point and the five before rise, or fall, at every step."""
    steps = [b - a for a, b in pairwise(last(z, i, trend))]
    if steps and min(steps) > 0:
        return "up"
    return "down" if steps and max(steps) < 0 else None


def r4(z: Sequence[float], i: int) -> str | None:
    """This point and the thirteen before rise and fall in turn, and no two neighbours are equal."""
    window = last(z, i, 14)
    rises = [a < b for a, b in pairwise(window)]
    in_turn = all(one != next_one for one, next_one in pairwise(rises))
    no_tie = all(a != b for a, b in pairwise(window))
    return "either" if window and in_turn and no_tie else None


def r5(z: Sequence[float], i: int) -> str | None:
    """This point is beyond two sigma, and with it at least two of the last three on its side."""
    return some_beyond(z, i, 2.0, 2, 3)


def r6(z: Sequence[float], i: int) -> str | None:
    """This point is beyond one sigma, and with it at least four of the last five on its side."""
    return some_beyond(z, i, 1.0, 4, 5)


def some_beyond(z: Sequence[float], i: int, sigmas: float, needed: int, of: int) -> str | None:
    """The last point is one of those beyond; a stretch shorter than `of` counts what there is."""
    window = z[max(0, i - of + 1) : i + 1]
    if z[i] > sigmas and sum(v > sigmas for v in window) >= needed:
        return "above"
    return "below" if z[i] < -sigmas and sum(v < -sigmas for v in window) >= needed else None


def r7(z: Sequence[float], i: int) -> str | None:
    """This point and the fourteen before lie within one sigma, or on it."""
    window = last(z, i, 15)
    return "either" if window and all(abs(v) <= 1.0 for v in window) else None


def r8(z: Sequence[float], i: int) -> str | None:
    """This point and the seven before lie beyond one sigma, and not all on one side."""
    window = last(z, i, 8)
    beyond = [v for v in window if abs(v) > 1.0]
    return "either" if len(beyond) == 8 and min(beyond) < 0 < max(beyond) else None


RULES: dict[str, Callable[[Sequence[float], int], str | None]] = {"R1": r1, "R2": r2, "R3": r3}
DEFINITIONS = RULES | {"R4": r4, "R5": r5, "R6": r6, "R7": r7, "R8": r8}


@overload
def signals(rule: Sequence[float]) -> dict[tuple[str, str], list[int]]: ...


@overload
def signals(rule: str, zs: Sequence[float], *, run: int = 9, trend: int = 6) -> list[str | None]: ...


def signals(
    rule: str | Sequence[float], zs: Sequence[float] = (), *, run: int = 9, trend: int = 6
) -> list[str | None] | dict[tuple[str, str], list[int]]:
    """Of one rule: the side at each index, None where it does not signal; R2 of `run`, R3 of `trend` points.

    Of values alone: for each of the rules R1-R3 and each side the indices that signal.
    """
    if not isinstance(rule, str):
        return indices_by_side(rule)
    if rule == "R2":
        return [r2(zs, i, run) for i in range(len(zs))]
    if rule == "R3":
        return [r3(zs, i, trend) for i in range(len(zs))]
    return [DEFINITIONS[rule](zs, i) for i in range(len(zs))]


def indices_by_side(z: Sequence[float]) -> dict[tuple[str, str], list[int]]:
    """For each rule of R1-R3 and each side the indices that signal."""
    found: dict[tuple[str, str], list[int]] = {}
    for name, rule in RULES.items():
        for i in range(len(z)):
            side = rule(z, i)
            if side is not None:
                found.setdefault((name, side), []).append(i)
    return found


def episodes(indices: Sequence[int], merged_gap: int = 2) -> list[list[int]]:
    """Maximal runs of indices, gaps of up to `merged_gap` points merged."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and i - runs[-1][-1] - 1 <= merged_gap:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs

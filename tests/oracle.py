"""The rules and episodes by their definitions, slowly: what the streaming code must agree with."""

from collections.abc import Sequence
from itertools import pairwise


def r1(z: Sequence[float], i: int) -> str | None:
    """A point beyond three sigma."""
    if abs(z[i]) <= 3.0:
        return None
    return "above" if z[i] > 0 else "below"


def r2(z: Sequence[float], i: int) -> str | None:
    """This point and the eight before share a side of the centre line."""
    last = z[i - 8 : i + 1] if i >= 8 else []
    if last and min(last) > 0:
        return "above"
    return "below" if last and max(last) < 0 else None


def r3(z: Sequence[float], i: int) -> str | None:
    """This point and the five before rise, or fall, at every step."""
    last = z[i - 5 : i + 1] if i >= 5 else []
    steps = [b - a for a, b in pairwise(last)]
    if steps and min(steps) > 0:
        return "up"
    return "down" if steps and max(steps) < 0 else None


RULES = {"R1": r1, "R2": r2, "R3": r3}


def signals(z: Sequence[float]) -> dict[tuple[str, str], list[int]]:
    """For each rule and side the indices that signal."""
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

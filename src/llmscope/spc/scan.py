"""Nelson's rules over many values at once: the same signals as `rules`, for replay, backtest and analysis.

Every rule is a window of at most 15 points, so it is a few comparisons of shifted arrays. Values are taken in
pieces that fit the processor's cache.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llmscope.spc.rules import LONGEST, OnlySide, Rule

Floats = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

PIECE = 32_768  # values at a time: 256 KB of z, which stays in the second-level cache


def scan(zs: Floats, rules: Sequence[Rule], breaks: Bools | None = None) -> dict[str, Signs]:
    """Where each rule signals, shape (n,): 1 above, up or either side, -1 below or down, 0 nowhere.

    A NaN in `zs` is a point that is not judged: it breaks every pattern. `breaks[i]` restarts the rules before
    point i.
    """
    n = len(zs)
    found = {rule.name: np.zeros(n, np.int8) for rule in rules}
    absent = np.isnan(zs)
    restart = absent.copy()
    if n:
        restart[1:] |= absent[:-1]
        restart[0] = True
    if breaks is not None:
        restart |= breaks
    for start in range(0, n, PIECE):
        first = max(0, start - LONGEST + 1)
        piece = slice(first, min(n, start + PIECE))
        shared = _Piece(zs[piece], restart[piece])
        for rule in rules:
            signs = shared.signals(rule)
            if signs is not None:
                found[rule.name][start : piece.stop] = signs[start - first :]
    return found


class _Piece:
    """A stretch of values, and what several rules ask of it, computed once."""

    def __init__(self, zs: Floats, restart: Bools) -> None:
        self.zs = zs
        self.places = np.arange(len(zs), dtype=np.int32)
        # where the uninterrupted stretch of each point begins
        self.begins = np.maximum.accumulate(np.where(restart, self.places, 0))
        self.rose = np.zeros(len(zs), bool)
        self.fell = np.zeros(len(zs), bool)
        joined = ~restart[1:]
        np.greater(zs[1:], zs[:-1], out=self.rose[1:])
        np.less(zs[1:], zs[:-1], out=self.fell[1:])
        self.rose[1:] &= joined
        self.fell[1:] &= joined

    def signals(self, rule: Rule) -> Signs | None:
        """The signs of one rule; None when there is none at all."""
        side = "both"
        if isinstance(rule, OnlySide):
            side, rule = rule.side, rule.rule
        up, down = getattr(self, f"_{rule.name.lower()}")(rule.points)
        if down is None:  # a pattern that has no side
            return np.asarray(up.view(np.int8))
        if side == "above":
            return np.asarray(up.view(np.int8))
        if side == "below":
            return np.asarray(-down.view(np.int8))
        return np.asarray(up.view(np.int8) - down.view(np.int8))

    def _run(self, holds: Bools, length: int) -> Bools:
        """Whether `holds` was true at this point and the `length - 1` before it, in one stretch."""
        every = holds.copy()
        done = 1
        while done < length:  # doubling: windows of 1, 2, 4, … until the rest overlaps
            step = min(done, length - done)
            every[step:] &= every[:-step].copy()
            every[:step] = False
            done += step
        return np.asarray(every & (self.places - self.begins >= length - 1))

    def _r1(self, points: int) -> tuple[Bools, Bools]:
        return self.zs > 3.0, self.zs < -3.0

    def _r2(self, points: int) -> tuple[Bools, Bools]:
        return self._run(self.zs > 0.0, points), self._run(self.zs < 0.0, points)

    def _r3(self, points: int) -> tuple[Bools, Bools]:
        return self._run_of_steps(self.rose, points), self._run_of_steps(self.fell, points)

    def _run_of_steps(self, steps: Bools, points: int) -> Bools:
        """`points - 1` steps in a row; a step is false at the first point of a stretch, so none spans two."""
        every = steps.copy()
        done, length = 1, points - 1
        while done < length:
            step = min(done, length - done)
            every[step:] &= every[:-step].copy()
            every[:step] = False
            done += step
        return every

    def _r4(self, points: int) -> tuple[Bools, None]:
        turned = np.zeros(len(self.zs), bool)
        turned[1:] = (self.rose[1:] & self.fell[:-1]) | (self.fell[1:] & self.rose[:-1])
        return self._run_of_steps(turned, points - 1), None

    def _of(self, holds: Bools, least: int, last: int) -> Bools:
        """Whether it holds at this point, and at `least` of the `last` points of its stretch."""
        count = holds.astype(np.int8)
        age = self.places - self.begins
        for back in range(1, last):
            count[back:] += holds[:-back] & (age[back:] >= back)
        return np.asarray(holds & (count >= least))

    def _r5(self, points: int) -> tuple[Bools, Bools]:
        return self._of(self.zs > 2.0, 2, 3), self._of(self.zs < -2.0, 2, 3)

    def _r6(self, points: int) -> tuple[Bools, Bools]:
        return self._of(self.zs > 1.0, 4, 5), self._of(self.zs < -1.0, 4, 5)

    def _r7(self, points: int) -> tuple[Bools, None]:
        return self._run(np.abs(self.zs) <= 1.0, points), None

    def _r8(self, points: int) -> tuple[Bools, None]:
        above, below = self.zs > 1.0, self.zs < -1.0
        one_side = self._run(above, points) | self._run(below, points)
        return self._run(above | below, points) & ~one_side, None

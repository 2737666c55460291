"""Nelson's rules, one value at a time. `RULES` is the one list of them.

A rule has a few numbers of state; `update` takes the standardised value z and says on which side the pattern
that ends at this point lies, or None. `restart` forgets the past: at new limits and at a gap, never after a
signal. All inequalities are strict.

Source: L. S. Nelson, Journal of Quality Technology 16(4), 1984, p. 237-239.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol


class Rule(Protocol):
    """What the chart asks of a rule."""

    name: ClassVar[str]
    length: ClassVar[int]  # points of the pattern

    def update(self, z: float) -> str | None: ...
    def restart(self) -> None: ...


@dataclass(slots=True)
class BeyondLimits:
    """Rule 1: a point more than three sigma from the centre line.

    On independent normal data one point in 370 breaks it.

    >>> rule = BeyondLimits()
    >>> [rule.update(z) for z in (3.0, 3.1, -3.1)]
    [None, 'above', 'below']
    """

    name: ClassVar[str] = "R1"
    length: ClassVar[int] = 1

    def update(self, z: float) -> str | None:
        if -3.0 <= z <= 3.0:
            return None
        return "above" if z > 0.0 else "below"

    def restart(self) -> None:
        """It remembers nothing."""


@dataclass(slots=True)
class OneSide:
    """Rule 2: nine points in a row on one side of the centre line; a point on the line ends the run.

    >>> rule = OneSide()
    >>> [rule.update(0.5) for _ in range(9)].index("above")
    8
    >>> rule.update(0.0) is None
    True
    """

    name: ClassVar[str] = "R2"
    length: ClassVar[int] = 9

    _run: int = 0  # points in the run, negative below the line

    def update(self, z: float) -> str | None:
        run = self._run
        if z > 0.0:
            self._run = run = run + 1 if run > 0 else 1
        elif z < 0.0:
            self._run = run = run - 1 if run < 0 else -1
        else:
            self._run = 0
            return None
        if run >= 9:
            return "above"
        return "below" if run <= -9 else None

    def restart(self) -> None:
        self._run = 0


@dataclass(slots=True)
class Trend:
    """Rule 3: six points, that is five increments, steadily rising or falling; a tie breaks it.

    >>> rule = Trend()
    >>> [rule.update(z) for z in (0, 1, 2, 3, 4, 5, 5)]
    [None, None, None, None, None, 'up', None]
    """

    name: ClassVar[str] = "R3"
    length: ClassVar[int] = 6

    _last: float = math.nan
    _run: int = 0  # increments of one sign, negative when falling

    def update(self, z: float) -> str | None:
        last, run = self._last, self._run
        self._last = z
        if z > last:
            self._run = run = run + 1 if run > 0 else 1
        elif z < last:
            self._run = run = run - 1 if run < 0 else -1
        else:  # a tie, or the first point (nan compares as neither)
            self._run = 0
            return None
        if run >= 5:
            return "up"
        return "down" if run <= -5 else None

    def restart(self) -> None:
        self._last = math.nan
        self._run = 0


RULES: tuple[type[Rule], ...] = (BeyondLimits, OneSide, Trend)

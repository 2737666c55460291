"""Nelson's rules, one value at a time. `RULES` is the one list of them; `PRESETS` names the usual sets.

A rule has a few numbers of state; `update` takes the standardised value z and says on which side the pattern
that ends at this point lies, or None. `restart` forgets the past: at new limits, at an excluded point and at a
gap, never after a signal. All inequalities are strict. No rule looks further back than `length` points, so the
last 14 values of z are all there is to know of the past of any of them.

Source: L. S. Nelson, Journal of Quality Technology 16(4), 1984, p. 237-239; boundaries as JMP and SAS/QC.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

Side = Literal["above", "below", "up", "down", "either"]
Sides = Literal["both", "above", "below"]
LONGEST = 15  # points of the longest pattern (R7)


class Rule(Protocol):
    """What the chart asks of a rule."""

    @property
    def name(self) -> str: ...

    @property
    def points(self) -> int:
        """Points of the pattern."""

    def update(self, z: float) -> Side | None: ...
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
    points: ClassVar[int] = 1

    def update(self, z: float) -> Side | None:
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
    points: int = 9

    _run: int = 0  # points in the run, negative below the line

    def update(self, z: float) -> Side | None:
        run = self._run
        if z > 0.0:
            self._run = run = run + 1 if run > 0 else 1
            return "above" if run >= self.points else None
        if z < 0.0:
            self._run = run = run - 1 if run < 0 else -1
            return "below" if -run >= self.points else None
        self._run = 0
        return None

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
    points: int = 6

    _last: float = math.nan
    _run: int = 1  # points of the trend, negative when falling

    def update(self, z: float) -> Side | None:
        last, run = self._last, self._run
        self._last = z
        if z > last:
            self._run = run = run + 1 if run > 0 else 2
            return "up" if run >= self.points else None
        if z < last:
            self._run = run = run - 1 if run < 0 else -2
            return "down" if -run >= self.points else None
        self._run = 1  # a tie, or the first point (nan compares as neither)
        return None

    def restart(self) -> None:
        self._last = math.nan
        self._run = 1


@dataclass(slots=True)
class Alternation:
    """Rule 4: fourteen points, that is thirteen increments, alternating up and down; a tie breaks it.

    >>> rule = Alternation()
    >>> [rule.update(i % 2) for i in range(14)].index("either")
    13
    """

    name: ClassVar[str] = "R4"
    points: ClassVar[int] = 14

    _last: float = math.nan
    _rose: int = 0  # 1 rose, -1 fell, 0 neither
    _run: int = 0  # increments in the alternation

    def update(self, z: float) -> Side | None:
        last = self._last
        rose = 1 if z > last else -1 if z < last else 0
        self._last = z
        if rose == 0:
            self._run = 0
        elif rose + self._rose == 0:
            self._run += 1
        else:
            self._run = 1
        self._rose = rose
        return "either" if self._run >= 13 else None

    def restart(self) -> None:
        self._last = math.nan
        self._rose = self._run = 0


@dataclass(slots=True)
class TwoOfThree:
    """Rule 5: a point beyond two sigma, and at least two of the last three there, on one side.

    >>> rule = TwoOfThree()
    >>> [rule.update(z) for z in (2.1, 0, 2.1, 1, 1, 2.1)]
    [None, None, 'above', None, None, None]
    """

    name: ClassVar[str] = "R5"
    points: ClassVar[int] = 3

    _since_above: int = 9  # points since the last one beyond +2 sigma
    _since_below: int = 9

    def update(self, z: float) -> Side | None:
        side: Side | None = None
        above, below = self._since_above, self._since_below
        if z > 2.0:
            if above < 2:
                side = "above"
            above = -1
        elif z < -2.0:
            if below < 2:
                side = "below"
            below = -1
        self._since_above, self._since_below = above + 1, below + 1
        return side

    def restart(self) -> None:
        self._since_above = self._since_below = 9


_BITS = tuple(n.bit_count() for n in range(32))


@dataclass(slots=True)
class FourOfFive:
    """Rule 6: a point beyond one sigma, and at least four of the last five there, on one side.

    >>> rule = FourOfFive()
    >>> [rule.update(z) for z in (1.1, 1.1, 1.1, 1.1)][-1]
    'above'
    """

    name: ClassVar[str] = "R6"
    points: ClassVar[int] = 5

    _above: int = 0  # the last five points as bits, 1 where beyond +1 sigma
    _below: int = 0

    def update(self, z: float) -> Side | None:
        above, below = (self._above << 1) & 31, (self._below << 1) & 31
        side: Side | None = None
        if z > 1.0:
            above |= 1
            if _BITS[above] >= 4:
                side = "above"
        elif z < -1.0:
            below |= 1
            if _BITS[below] >= 4:
                side = "below"
        self._above, self._below = above, below
        return side

    def restart(self) -> None:
        self._above = self._below = 0


@dataclass(slots=True)
class Hugging:
    """Rule 7: fifteen points in a row within one sigma; on the line of one sigma counts as within.

    >>> rule = Hugging()
    >>> [rule.update(1.0) for _ in range(15)].index("either")
    14
    """

    name: ClassVar[str] = "R7"
    points: ClassVar[int] = 15

    _run: int = 0

    def update(self, z: float) -> Side | None:
        if -1.0 <= z <= 1.0:
            self._run += 1
            return "either" if self._run >= 15 else None
        self._run = 0
        return None

    def restart(self) -> None:
        self._run = 0


@dataclass(slots=True)
class Avoiding:
    """Rule 8: eight points in a row beyond one sigma, at least one of them on each side.

    >>> rule = Avoiding()
    >>> [rule.update(z) for z in (1.5, -1.5) * 4][-1]
    'either'
    """

    name: ClassVar[str] = "R8"
    points: ClassVar[int] = 8

    _run: int = 0  # points beyond one sigma in a row
    _same: int = 0  # of them the last ones on one side, negative below

    def update(self, z: float) -> Side | None:
        if -1.0 <= z <= 1.0:
            self._run = self._same = 0
            return None
        self._run += 1
        same = self._same
        if z > 0.0:
            self._same = same = same + 1 if same > 0 else 1
        else:
            self._same = same = same - 1 if same < 0 else -1
        return "either" if self._run >= 8 and -8 < same < 8 else None

    def restart(self) -> None:
        self._run = self._same = 0


@dataclass(slots=True)
class OnlySide:
    """A rule of which only one side counts: "above" (also "up") or "below" (also "down").

    >>> rule = OnlySide(BeyondLimits(), "above")
    >>> [rule.update(z) for z in (4.0, -4.0)]
    ['above', None]
    """

    rule: Rule
    side: Literal["above", "below"]

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def points(self) -> int:
        return self.rule.points

    def update(self, z: float) -> Side | None:
        found = self.rule.update(z)
        if found is None or found == "either" or (found in ("above", "up")) == (self.side == "above"):
            return found
        return None

    def restart(self) -> None:
        self.rule.restart()


RULES: dict[str, Callable[[], Rule]] = {
    "R1": BeyondLimits,
    "R2": OneSide,
    "R3": Trend,
    "R4": Alternation,
    "R5": TwoOfThree,
    "R6": FourOfFive,
    "R7": Hugging,
    "R8": Avoiding,
}


# Points of independent normal data until a rule signals falsely, on average: from the Markov chain of
# Champ & Woodall 1987 where the rule has one, R3 and R4 simulated.
ARL: dict[str, float] = {
    "R1": 370.40,
    "R2": 511.0,
    "R3": 423.8,
    "R4": 602.9,
    "R5": 510.7,
    "R6": 291.3,
    "R7": 963.3,
    "R8": 14_342.0,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A set of rules in use somewhere; `arl` is how many points of independent normal data it runs for, on
    average, before it signals falsely (exact where a Markov chain gives it, else simulated: docs/statistics.md)."""

    rules: tuple[str, ...]
    arl: float
    run: int = 9
    trend: int = 6


PRESETS: dict[str, Preset] = {
    "nelson": Preset(tuple(RULES), 73.7),
    "western-electric": Preset(("R1", "R2", "R5", "R6"), 91.75, run=8),
    "nhs": Preset(("R1", "R2", "R3", "R5"), 82.6, run=7, trend=7),
    "r1": Preset(("R1",), 370.40),
    "original": Preset(("R1", "R2", "R3"), 146.3),
    "none": Preset((), math.inf),
}


class UnknownRule(ValueError):
    """A name that is neither a rule nor a preset."""


def rules_named(
    names: str, run: int | None = None, trend: int | None = None, side: Sides = "both"
) -> tuple[Rule, ...]:
    """Fresh rules from "R1,R2,R5" or the name of a preset; `run` and `trend` override its lengths.

    >>> [rule.name for rule in rules_named("western-electric")]
    ['R1', 'R2', 'R5', 'R6']

    Raises UnknownRule.
    """
    chosen = PRESETS.get(names.strip().lower())
    if chosen is None:
        keys = [part.strip().upper() for part in names.split(",") if part.strip()]
        for key in keys:
            if key not in RULES:
                raise UnknownRule(f"'{key}' is not one of {', '.join(RULES)}, nor {', '.join(PRESETS)}")
        chosen = Preset(tuple(key for key in RULES if key in keys), math.nan)
    rules: list[Rule] = []
    for key in chosen.rules:
        rule: Rule
        if key == "R2":
            rule = OneSide(run or chosen.run)
        elif key == "R3":
            rule = Trend(trend or chosen.trend)
        else:
            rule = RULES[key]()
        if side != "both":
            rule = OnlySide(rule, side)
        rules.append(rule)
    return tuple(rules)


def preset(name: str) -> tuple[Rule, ...]:
    """Fresh rules of a preset; raises UnknownRule."""
    return rules_named(name)

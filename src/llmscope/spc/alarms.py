"""What a detector has to tell: an alarm, from the change to the recovery, and how large the change is."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

Detector = Literal["SHIFT", "SPREAD", "SPIKE", "FAILURES"]
Direction = Literal["up", "down"]
State = Literal["open", "recovered", "accepted", "below_min_change", "ended"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One change that a detector found. Row ids and times are those of the observations at its moments.

    `change` is when it began, by the chart's own reckoning; `opened` when the evidence passed the line. `before`
    and `after` are what is compared: the level in the metric's unit (SHIFT), the within-bucket sd of the scores
    (SPREAD), the share of spikes (SPIKE) or of failures (FAILURES, sized in percentage points). `size_percent`
    lies with 95 % confidence between `size_low` and `size_high`. A state of "below_min_change" is a mark, not an
    alarm: the level has moved, by less than is worth waking somebody. `proposed_us` is when the new level had
    been stable for 30 minutes.
    """

    detector: Detector
    direction: Direction
    state: State
    change_id: int
    change_us: int
    opened_id: int
    opened_us: int
    closed_id: int | None
    closed_us: int | None
    before: float
    after: float
    size_percent: float
    size_low: float
    size_high: float
    sigmas: float  # the change in sigma of a bucket's score
    evidence: float  # the statistic over its decision line, at its highest
    buckets: int  # since the change, when last looked at
    provisional: bool
    proposed_us: int | None = None

    @property
    def is_open(self) -> bool:
        return self.closed_us is None

    def ended(self, state: State, row_id: int, time_us: int) -> "Alarm":
        return dataclasses.replace(self, state=state, closed_id=row_id, closed_us=time_us)


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """What happened to an alarm at a bucket."""

    kind: Literal["opened", "grown", "closed", "proposed"]
    alarm: Alarm

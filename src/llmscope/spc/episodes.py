"""From signals to episodes: one violation for one stretch of a broken rule, opened, grown and closed."""

from dataclasses import dataclass
from typing import Literal

MERGED_GAP = 2  # judged points without the signal that do not end an episode


@dataclass(frozen=True, slots=True)
class Episode:
    """One rule broken on one side over one stretch. Values in the metric's unit.

    What was known at the first signal never changes; `last_signal`, `count`, `peak` and `open` follow.
    `quiet` counts the judged points since the last signal.
    """

    rule: str
    side: str
    pattern_start_id: int
    pattern_start_us: int
    first_signal_id: int
    first_signal_us: int
    last_signal_id: int
    last_signal_us: int
    open: bool
    count: int
    peak_z: float
    peak_value: float
    peak_id: int
    value: float
    centre: float
    sigma: float
    ucl: float
    lcl: float
    n: int
    mean: float | None
    std: float | None
    provisional: bool


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """What happened to an episode at a point."""

    kind: Literal["opened", "grown", "closed"]
    episode: Episode

"""What the charts found, kept and told: violations, alarms, incidents, baselines, phases.

Between the engine, which only judges, and the store and the listeners. Everything is saved in the background; what
a crash leaves unsaved is found again, for the charts go on from their last stored state.
"""

import asyncio
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from llmscope import documents
from llmscope.cause import cause_of, lasting_cause_of
from llmscope.engine import Engine, Judged, ManyJudged, Row, Rows, SeriesState, Values
from llmscope.live import Hub, frame
from llmscope.spc.alarms import Alarm, AlarmEvent
from llmscope.spc.baseline import Baseline
from llmscope.spc.episodes import Episode, EpisodeEvent
from llmscope.store import (
    Annotation,
    BaselineRow,
    Exclusion,
    FaultKind,
    Incident,
    Phase,
    Series,
    StorageFault,
    Store,
    StoredAlarm,
    Violation,
)
from llmscope.store import rows as r
from llmscope.store.incidents import IncidentState
from llmscope.store.sqlite import WINDOW_US
from llmscope.store.violations import FOLLOWS
from llmscope.store.window import COLUMN, measured_of, metric_values

log = logging.getLogger(__name__)

SAVE_NEW_AFTER_S = 0.05  # a new violation reaches the disk at once
SAVE_GROWN_AFTER_S = 1.0  # one that grows, once a second: a restart replays what was not saved
RETRY_AFTER_S = 5.0
CHECKPOINT_EVERY_US = 600_000_000  # ten minutes between stored states of a series: what a restart replays
TOGETHER_US = 600_000_000  # metrics of one change are found within ten minutes of each other
MOST_TOLD = (
    300  # violations acknowledged at once that listeners hear of one by one; a queue holds 2,000 frames
)
FIRST_PHASE = "first observation"

SAID = ("acknowledged_us", "acknowledged_by", "note")  # what people say of a violation
_EPISODE = tuple(f.name for f in dataclasses.fields(Episode))
_ALARM = tuple(f.name for f in dataclasses.fields(Alarm))
EpisodeKey = tuple[int, str, str, str, str]


class NoSuchRows(ValueError):
    """A moment at or after which a series has no observation."""


class Findings:
    """What was found in all series. Lives on the event loop, beside the engine."""

    def __init__(self, store: Store, engine: Engine, hub: Hub, clock_us: Callable[[], int]) -> None:
        self.store = store
        self.engine = engine
        self.hub = hub
        self._clock_us = clock_us
        engine.values = self.phase_values
        self._open: dict[EpisodeKey, Violation] = {}
        self.recent: dict[int, dict[int, Violation]] = defaultdict(dict)  # by series, by id; the last 24 h
        self.alarms: dict[int, dict[int, StoredAlarm]] = defaultdict(dict)  # likewise
        self.incidents: dict[int, dict[int, Incident]] = defaultdict(dict)
        self.phases: dict[tuple[int, str], list[Phase]] = defaultdict(list)
        self.exclusions: dict[int, list[Exclusion]] = defaultdict(list)
        for phase in store.records.all(Phase, "1 ORDER BY number"):
            self.phases[phase.series_id, phase.metric].append(phase)
        for exclusion in store.records.all(Exclusion):
            self.exclusions[exclusion.series_id].append(exclusion)
        self._next_violation_id = store.violations.last_id() + 1
        self._next_ids: dict[type[Any], int] = {
            kind: store.records.last_id(kind) + 1 for kind in (StoredAlarm, Incident, Exclusion, Annotation)
        }
        self._dirty_violations: dict[int, Violation] = {}
        self._dirty_baselines: list[BaselineRow] = []
        self._dirty_records: dict[Any, Any] = {}
        self._stated_us: dict[int, int] = {}  # when the state of each series was last stored
        self._found_before: dict[tuple[Any, ...], int] = {}  # ids of findings that a replay meets again
        self._timer: asyncio.TimerHandle | None = None
        self._save_error: Exception | None = None  # of the last save
        self._saving = 0  # saves handed to the writer and not yet answered

    # -- starting

    def restore(self) -> None:
        """Take over the charts' states, and judge what came after them."""
        since_us = self._clock_us() - WINDOW_US
        for violation in self.store.violations.recent(since_us):
            self.recent[violation.series_id][violation.id] = violation
            self._found_before[_identity(violation)] = violation.id
            if violation.open:
                self._open[_episode_key(violation)] = violation
        recent = "superseded = 0 AND (closed_us IS NULL OR closed_us >= ? OR opened_us >= ?)"
        for incident in self.store.records.all(Incident, recent, (since_us, since_us)):
            self.incidents[incident.series_id][incident.id] = incident
        for alarm in self.store.records.all(StoredAlarm, recent, (since_us, since_us)):
            self.alarms[alarm.series_id][alarm.id] = alarm
        states = self.store.chart_states()
        after: dict[int, int] = {}
        for series in self.store.series.values():
            after[series.id] = self._resume(series, states.get(series.id))
        # of a series that is long silent, all of its rows are judged, and nothing is read
        rest = {i: row_id for i, row_id in after.items() if row_id < self.store.series[i].last_id}
        if rest:
            for row in self.store.rows_from(min(rest.values()) + 1):
                if row[r.ID] > rest.get(row[r.SERIES_ID], self.store.next_id):
                    series = self.store.series[row[r.SERIES_ID]]
                    self.take(series, row, self.engine.observe(series.id, engine_row(row)))
        self._found_before.clear()

    def _resume(self, series: Series, stored: tuple[int, str] | None) -> int:
        """Bring the charts of a series to their stored state; the row up to which they have judged."""
        metrics: Sequence[str] = self.engine.charted
        judged_id = 0
        if stored is not None:
            judged_id, document = stored
            try:
                state = msgspec.json.decode(document, type=SeriesState)
            except msgspec.MsgspecError as error:
                log.warning(
                    "series %s: its stored state cannot be read (%s); its charts begin anew", series.id, error
                )
            else:
                baselines = {
                    metric: baseline
                    for metric in self.engine.charted
                    if (baseline := self._baseline(series.id, metric, judged_id)) is not None
                }
                metrics = self.engine.resume(series.id, state, baselines)
        if not len(series.window):
            return judged_id
        if stored is None:
            judged_id = int(series.window.ids[-1])
        for metric in metrics:  # those that no state is known of learn from the window
            rows = self._rows(series, metric, 0)
            if not len(rows[0]) and metric not in self.engine.alarmed:
                continue
            upto = int(np.searchsorted(rows[1], judged_id, side="right"))
            told, _ = self.engine.begin_phase(series.id, metric, tuple(column[:upto] for column in rows))  # type: ignore[arg-type]
            for row_id, baseline in told.baselines:
                self._fitted(series, row_id, series.window.time_of(row_id), metric, baseline)
            self._take_events(series, metric, told.events, told.alarms)
        return judged_id

    def _baseline(self, series_id: int, metric: str, row_id: int) -> Baseline | None:
        """The newest stored baseline of the current phase as of a row; a replay meets again what was fitted later."""
        phases = self.phases.get((series_id, metric))
        number, start_id = (phases[-1].number, phases[-1].start_id) if phases else (1, 0)
        versions = self.store.baselines.get((series_id, metric), ())
        held = [v for v in versions if v.phase == number and v.fitted_id <= max(row_id, start_id)]
        return documents.baseline_of(held[-1]) if held else None

    # -- what the charts learn from

    def phase(self, series_id: int, metric: str) -> int:
        """The number of the current phase."""
        phases = self.phases.get((series_id, metric))
        return phases[-1].number if phases else 1

    def phases_of(self, series: Series, metric: str) -> list[Phase]:
        """The phases of a metric, oldest first; the first begins with the series and needs no decision."""
        return self.phases.get((series.id, metric)) or [self._first_phase(series, metric)]

    def _first_phase(self, series: Series, metric: str) -> Phase:
        first_us = series.first_us or 0
        return Phase(series.id, metric, 1, series.first_id, first_us, FIRST_PHASE, None, None, first_us)

    def phase_values(
        self, series_id: int, metric: str, row_id: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The good, warm, not excluded values in memory of the current phase, up to that row, and their times."""
        phases = self.phases.get((series_id, metric))
        values, ids, times_us, cold = self._rows(
            self.store.series[series_id], metric, phases[-1].start_id if phases else 0
        )
        chosen = ~cold & (ids <= row_id)
        return values[chosen], times_us[chosen]

    def _rows(self, series: Series, metric: str, start_id: int) -> Values:
        """The good, not excluded values in memory from a row on."""
        window = series.window
        first = int(np.searchsorted(window.ids, start_id))
        values, ids, times_us = window.values(metric)[first:], window.ids[first:], window.times_us[first:]
        good = ~np.isnan(values)
        for exclusion in self.exclusions.get(series.id, ()):
            if exclusion.withdrawn_us is None:
                good &= (times_us < exclusion.from_us) | (times_us > exclusion.to_us)
        values, ids, times_us = values[good], ids[good], times_us[good]
        cold = np.zeros(len(ids), bool)
        if metric != "load":
            cold = np.isin(ids, self.engine.cold_ids(series.id))
        return values, ids.copy(), times_us.copy(), cold

    # -- taking what was found

    def take(
        self, series: Series, row: r.Row, judged: Judged
    ) -> tuple[dict[int, Violation], dict[int, Incident]]:
        """Note what the charts found at this row; the violations and incidents that changed."""
        violations: dict[int, Violation] = {}
        incidents: dict[int, Incident] = {}
        is_new = False
        for metric, event in judged.events:
            violation = self._take_episode(series.id, metric, event)
            violations[violation.id] = violation
            is_new |= event.kind == "opened"
        for metric, told in judged.alarms:
            alarm = self._take_alarm(series.id, metric, told)
            if alarm.incident_id is not None:
                incidents[alarm.incident_id] = self.incidents[series.id][alarm.incident_id]
            is_new = True
        for metric, baseline in judged.baselines:
            self._fitted(series, row[r.ID], row[r.TIME_US], metric, baseline)
            is_new = True
        if violations or is_new:
            self._schedule_save(SAVE_NEW_AFTER_S if is_new else SAVE_GROWN_AFTER_S)
        return violations, incidents

    def take_many(self, series: Series, judged: ManyJudged) -> None:
        """Note what the charts found in many rows."""
        for metric, row_id, baseline in judged.baselines:
            self._fitted(series, row_id, series.window.time_of(row_id), metric, baseline)
        for metric, event in judged.events:
            self._take_episode(series.id, metric, event)
        for metric, told in judged.alarms:
            self._take_alarm(series.id, metric, told)
        self._schedule_save(SAVE_NEW_AFTER_S)

    def _take_events(
        self, series: Series, metric: str, events: Iterable[EpisodeEvent], alarms: Iterable[AlarmEvent]
    ) -> None:
        for event in events:
            self._take_episode(series.id, metric, event)
        for told in alarms:
            self._take_alarm(series.id, metric, told)

    def _take_episode(self, series_id: int, metric: str, event: EpisodeEvent) -> Violation:
        episode = event.episode
        key = (series_id, metric, episode.chart, episode.rule, episode.side)
        known = self._open.get(key)
        if known is not None and known.first_signal_id == episode.first_signal_id:
            follows = {name: getattr(episode, name) for name in FOLLOWS}
            if episode.peak_id != known.peak_id:
                follows |= self._cause(series_id, metric, episode)
            violation = dataclasses.replace(known, **follows)
        else:
            phase = self.phase(series_id, metric)
            before = self._found_before.get((*key, episode.first_signal_id, phase))
            said: dict[str, Any] = {}
            if before is None:
                before = self._next_violation_id
                self._next_violation_id += 1
            else:
                said = {name: getattr(self.recent[series_id][before], name) for name in SAID}
            violation = Violation(
                id=before,
                series_id=series_id,
                metric=metric,
                phase=phase,
                **{name: getattr(episode, name) for name in _EPISODE},
                **said,
                **self._cause(series_id, metric, episode),
            )
        if violation.open:
            self._open[key] = violation
        else:
            self._open.pop(key, None)
        self.recent[series_id][violation.id] = self._dirty_violations[violation.id] = violation
        return violation

    def _cause(self, series_id: int, metric: str, episode: Episode) -> dict[str, Any]:
        """The part of the request at its peak that made it slow, if one did; for a bucket, of its requests."""
        width_us = 0
        if episode.chart == "buckets":
            chart = self.engine.chart(series_id, metric)
            if chart is not None and chart.buckets is not None:
                width_us = chart.buckets.reference.cadence.width_us
        window = self.store.series[series_id].window
        cause = cause_of(window, episode.pattern_start_id, episode.peak_id, width_us)
        if cause is None:
            return {"cause_part": None, "cause_us": None, "cause_usual_us": None}
        return {"cause_part": cause.part, "cause_us": cause.us, "cause_usual_us": cause.usual_us}

    def _take_alarm(self, series_id: int, metric: str, event: AlarmEvent) -> StoredAlarm:
        """Note an alarm, and the incident that it opens, joins or ends."""
        told = {name: getattr(event.alarm, name) for name in _ALARM}
        phase = self.phase(series_id, metric)
        known = next(
            (
                a
                for a in self.alarms[series_id].values()
                if a.metric == metric
                and a.detector == event.alarm.detector
                and a.opened_id == event.alarm.opened_id
                and a.phase == phase
            ),
            None,
        )
        if known is not None:
            alarm = dataclasses.replace(known, **told)
        else:
            alarm_id = self._next(StoredAlarm)
            incident_id = None
            if event.alarm.state != "below_min_change":
                incident_id = self._incident_for(series_id, event.alarm).id
            alarm = StoredAlarm(
                id=alarm_id,
                incident_id=incident_id,
                series_id=series_id,
                metric=metric,
                phase=phase,
                **told,
            )
        self.alarms[series_id][alarm.id] = alarm
        self._keep(alarm)
        if alarm.incident_id is not None:
            self._settle_incident(series_id, alarm.incident_id)
        return alarm

    def _incident_for(self, series_id: int, alarm: Alarm) -> Incident:
        """The incident of the series that the alarm overlaps in time, or a new one."""
        for incident in self.incidents[series_id].values():
            begun = incident.opened_us <= alarm.opened_us + TOGETHER_US
            lasts = incident.closed_us is None or incident.closed_us >= alarm.change_us
            if begun and lasts and not incident.superseded:
                return incident
        incident = Incident(self._next(Incident), series_id, alarm.opened_id, alarm.opened_us)
        self.incidents[series_id][incident.id] = incident
        self._keep(incident)
        return incident

    def alarms_of(self, incident: Incident) -> list[StoredAlarm]:
        """The alarms of a recent incident, in order of opening."""
        return [a for a in self.alarms[incident.series_id].values() if a.incident_id == incident.id]

    def _settle_incident(self, series_id: int, incident_id: int) -> Incident:
        """Bring an incident in line with its alarms: it is open while one of them is."""
        incident = self.incidents[series_id][incident_id]
        alarms = self.alarms_of(incident)
        if any(a.is_open for a in alarms):
            incident = dataclasses.replace(incident, state="open", closed_us=None)
        elif alarms:
            last = max(alarms, key=lambda a: a.closed_us or 0)
            accepted = any(a.state == "accepted" for a in alarms)
            state: IncidentState = (
                "accepted" if accepted else "recovered" if last.state == "recovered" else "ended"
            )
            incident = dataclasses.replace(incident, state=state, closed_us=last.closed_us)
            if all(a.superseded for a in alarms):
                incident = dataclasses.replace(incident, superseded=True)
        self.incidents[series_id][incident_id] = incident
        self._keep(incident)
        return incident

    def _fitted(self, series: Series, row_id: int, time_us: int, metric: str, baseline: Baseline) -> None:
        versions = self.store.baselines.setdefault((series.id, metric), [])
        version = BaselineRow(
            series_id=series.id,
            metric=metric,
            version=versions[-1].version + 1 if versions else 1,
            fitted_id=row_id,
            fitted_us=time_us,
            state=baseline.state,
            scale=baseline.scale,
            centre=baseline.centre,
            sigma=baseline.sigma,
            n=baseline.n,
            interval_us=baseline.interval_us,
            phase=self.phase(series.id, metric),
            document=None if baseline.reference is None else msgspec.json.encode(baseline).decode(),
        )
        known = [v for v in versions if v.fitted_id == row_id and v.phase == version.phase]
        if known:  # a replay fits again what was stored
            return
        versions.append(version)
        self._dirty_baselines.append(version)
        if len(self.hub):
            self.tell_limits(series, metric)

    # -- what people decide

    async def begin_phase(
        self,
        series: Series,
        metrics: Sequence[str],
        at_us: int | None,
        cause: str,
        who: str | None,
        note: str | None,
    ) -> list[Phase]:
        """Begin a phase of each metric at a moment, now if None; what came since is judged again.

        What the judgement before found since then is superseded. Raises NoSuchRows when the series has no
        observation at or after that moment and it is not now.
        """
        start_id = self.store.next_id if at_us is None else self._row_at(series, at_us)
        start_us = self._clock_us() if at_us is None else at_us
        phases = [
            self._begin(series, metric, start_id, start_us, cause, who, note, None) for metric in metrics
        ]
        await self.on_disk()
        return phases

    async def accept(self, alarm: StoredAlarm, who: str | None, note: str | None) -> Phase:
        """Take the new level of an open alarm as a new phase, from the change on."""
        series = self.store.series[alarm.series_id]
        phase = self._begin(
            series, alarm.metric, alarm.change_id, alarm.change_us, "new level accepted", who, note, alarm
        )
        await self.on_disk()
        return phase

    async def exclude(
        self, series: Series, from_us: int, to_us: int, reason: str, who: str | None
    ) -> Exclusion:
        """Leave out observations: every chart of the series is judged again from its phase's beginning."""
        exclusion = Exclusion(self._next(Exclusion), series.id, from_us, to_us, reason, who, self._clock_us())
        self.exclusions[series.id].append(exclusion)
        self._keep(exclusion)
        self._judge_again(series, from_us, f"excluded: {reason}", who)
        await self.on_disk()
        return exclusion

    async def withdraw(self, exclusion: Exclusion, who: str | None) -> Exclusion:
        """Take an exclusion back."""
        series = self.store.series[exclusion.series_id]
        withdrawn = dataclasses.replace(exclusion, withdrawn_us=self._clock_us())
        held = self.exclusions[series.id]
        held[held.index(exclusion)] = withdrawn
        self._keep(withdrawn)
        self._judge_again(series, exclusion.from_us, "exclusion withdrawn", who)
        await self.on_disk()
        return withdrawn

    async def annotate(self, series: Series, time_us: int, text: str, who: str | None) -> Annotation:
        annotation = Annotation(self._next(Annotation), series.id, time_us, text, who, self._clock_us())
        self._keep(annotation)
        await self.on_disk()
        return annotation

    def _judge_again(self, series: Series, from_us: int, cause: str, who: str | None) -> None:
        """Judge anew, from its beginning, every phase that the moment lies in."""
        for metric in self.engine.metrics_of(series.id):
            phases = self.phases.get((series.id, metric))
            first_id, first_us = (
                (phases[-1].start_id, phases[-1].start_us) if phases else (0, series.first_us or 0)
            )
            if from_us >= first_us or phases is None:
                self._begin(series, metric, first_id, first_us, cause, who, None, None)

    def _row_at(self, series: Series, at_us: int) -> int:
        window = series.window
        later = np.flatnonzero(window.times_us >= at_us)
        if len(later) == 0:
            raise NoSuchRows("there is no observation at or after that moment")
        if series.count > len(window) and at_us < int(window.times_us.min()):
            raise NoSuchRows("lies before the last 24 hours, which are all that can be judged again")
        return int(window.ids[later[0]])

    def _begin(
        self,
        series: Series,
        metric: str,
        start_id: int,
        start_us: int,
        cause: str,
        who: str | None,
        note: str | None,
        alarm: StoredAlarm | None,
    ) -> Phase:
        now_us = self._clock_us()
        key = (series.id, metric)
        if not self.phases[key]:
            first = self._first_phase(series, metric)
            self.phases[key].append(first)
            self._keep(first)
        phase = Phase(
            series.id, metric, self.phases[key][-1].number + 1, start_id, start_us, cause, who, note, now_us
        )
        self._supersede(series.id, metric, start_id, start_us, now_us, alarm)
        self.phases[key].append(phase)
        self._keep(phase)
        told, baseline = self.engine.begin_phase(
            series.id, metric, self._rows(series, metric, start_id), alarm
        )
        if baseline is not None:
            self._fitted(series, start_id, start_us, metric, baseline)
        for row_id, fitted in told.baselines:
            self._fitted(series, row_id, series.window.time_of(row_id), metric, fitted)
        self._take_events(series, metric, told.events, told.alarms)
        self._stated_us.pop(series.id, None)  # the state before must not outlive this
        self.tell_limits(series, metric)
        return phase

    def _supersede(
        self,
        series_id: int,
        metric: str,
        start_id: int,
        start_us: int,
        now_us: int,
        accepted: StoredAlarm | None,
    ) -> None:
        """Close what the phase before left open; what it found since the new one's beginning no longer counts."""
        for violation in list(self.recent[series_id].values()):
            if violation.metric != metric:
                continue
            again = violation.first_signal_id >= start_id
            if again or violation.open:
                violation = dataclasses.replace(
                    violation, open=False, superseded=violation.superseded or again
                )
                self._open.pop(_episode_key(violation), None)
                self._dirty_violations[violation.id] = violation
                self.recent[series_id][violation.id] = violation
                if violation.superseded:
                    del self.recent[series_id][violation.id]
                self.hub.publish(*self.violation_frame(violation))
        for alarm in list(self.alarms[series_id].values()):
            if alarm.metric != metric:
                continue
            if accepted is not None and alarm.id == accepted.id:
                alarm = dataclasses.replace(
                    alarm, state="accepted", closed_us=now_us, closed_id=self.store.next_id - 1
                )
            elif alarm.opened_id >= start_id and alarm.state != "accepted":
                alarm = dataclasses.replace(alarm, superseded=True, closed_us=alarm.closed_us or now_us)
            elif alarm.is_open:
                alarm = dataclasses.replace(alarm, state="ended", closed_us=now_us, closed_id=start_id)
            else:
                continue
            self.alarms[series_id][alarm.id] = alarm
            self._keep(alarm)
            if alarm.incident_id is not None:
                self.hub.publish(*self.incident_frame(self._settle_incident(series_id, alarm.incident_id)))

    async def acknowledge_incident(
        self, incident: Incident, at_us: int | None, who: str | None, note: str | None
    ) -> Incident:
        """Note what a person said of an incident."""
        incident = dataclasses.replace(incident, acknowledged_us=at_us, acknowledged_by=who, note=note)
        if incident.id in self.incidents[incident.series_id]:
            self.incidents[incident.series_id][incident.id] = incident
        self._keep(incident)
        await self.on_disk()
        self.hub.publish(*self.incident_frame(incident))
        return incident

    def acknowledged(self, violations: Sequence[Violation]) -> None:
        """Note what a person said of violations, now that it is stored.

        Of many at once listeners hear that there is more than can be told: to load the window again.
        """
        for violation in violations:
            held = self.recent[violation.series_id]
            if violation.id in held:
                said = {name: getattr(violation, name) for name in SAID}
                held[violation.id] = violation = dataclasses.replace(held[violation.id], **said)
                if violation.open:
                    self._open[_episode_key(violation)] = violation
            if len(violations) <= MOST_TOLD:
                self.hub.publish(*self.violation_frame(violation))
        if len(violations) > MOST_TOLD:
            self.hub.publish(frame("reset", b"{}"), {})

    # -- telling

    def violation_frame(self, violation: Violation) -> tuple[bytes, dict[str, str]]:
        series = self.store.series[violation.series_id]
        document = documents.violation_document(violation, series)
        about = documents.name_document(series) | {"metric": violation.metric}
        return frame("violation", orjson.dumps(document)), about

    def incident_frame(self, incident: Incident) -> tuple[bytes, dict[str, str]]:
        series = self.store.series[incident.series_id]
        document = self.incident_document(incident)
        return frame("incident", orjson.dumps(document)), documents.name_document(series)

    def incident_document(
        self, incident: Incident, stored: Sequence[StoredAlarm] | None = None
    ) -> documents.Document:
        """An incident with its alarms, read now unless `stored` are they, and the rules broken while it lasted."""
        series = self.store.series[incident.series_id]
        alarms = self.alarms_of(incident) or stored
        if alarms is None:
            alarms = self.store.records.all(StoredAlarm, "incident_id = ? ORDER BY id", (incident.id,))
        rules: set[str] = set()
        for violation in self.recent.get(series.id, {}).values():
            if violation.chart == "buckets" and any(
                a.metric == violation.metric
                and violation.last_signal_us >= a.change_us
                and (a.closed_us is None or violation.first_signal_us <= a.closed_us)
                for a in alarms
            ):
                rules.add(violation.rule)
        change_us = min((a.change_us for a in alarms), default=incident.opened_us)
        cause = lasting_cause_of(series.window, change_us, incident.closed_us)
        return documents.incident_document(incident, alarms, sorted(rules), series, self.engine.plan, cause)

    def tell_limits(self, series: Series, metric: str) -> None:
        if len(self.hub):
            name = documents.name_document(series) | {"metric": metric}
            versions = self.store.baselines.get((series.id, metric), [])
            spc = documents.limits_document(metric, self.engine.chart(series.id, metric), versions)
            self.hub.publish(frame("limits", orjson.dumps(name | {"spc": spc})), name)

    # -- saving

    def _next(self, kind: type[Any]) -> int:
        self._next_ids[kind] += 1
        return self._next_ids[kind] - 1

    def _keep(self, record: Any) -> None:
        """Store a record with the next save; the newest state of each counts."""
        key = (
            (type(record), record.series_id, record.metric, record.number)
            if isinstance(record, Phase)
            else (type(record), record.id)
        )
        self._dirty_records[key] = record

    def _schedule_save(self, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + after_s
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self.save)

    def save(self, all_states: bool = False) -> None:
        """Hand what was found to the writer, and the states of the series whose last stored one is old."""
        self._timer = None
        violations, self._dirty_violations = self._dirty_violations, {}
        baselines, self._dirty_baselines = self._dirty_baselines, []
        records, self._dirty_records = self._dirty_records, {}
        states = self._due_states(all_states)
        if not (violations or baselines or records or states):
            return
        loop = asyncio.get_running_loop()
        self._saving += 1
        self.store.save(
            violations.values(),
            baselines,
            records.values(),
            states,
            lambda error: call(loop, self._saved_or_not, error, violations, baselines, records, states),
        )

    def _due_states(self, all_states: bool) -> list[tuple[int, int, str]]:
        now_us = self._clock_us()
        states: list[tuple[int, int, str]] = []
        for series in self.store.series.values():
            row_id = series.last_id
            if row_id == 0 or (
                not all_states and now_us - self._stated_us.get(series.id, 0) < CHECKPOINT_EVERY_US
            ):
                continue
            state = self.engine.state(series.id, row_id)
            if state is not None:
                self._stated_us[series.id] = now_us
                series.judged_id = row_id
                states.append((series.id, row_id, msgspec.json.encode(state).decode()))
        return states

    async def on_disk(self) -> None:
        """Wait until what somebody has just decided is on disk. Raises StorageFault; it is then tried again later."""
        error = await self.settle()
        if error is not None:
            raise error if isinstance(error, StorageFault) else StorageFault(FaultKind.OTHER, str(error))

    async def settle(self) -> Exception | None:
        """Wait until everything found so far can be read from the store; what kept it from there, if anything did."""
        self.save()
        if self._saving == 0:
            return None
        loop = asyncio.get_running_loop()
        written: asyncio.Future[Exception | None] = loop.create_future()
        self.store.write(lambda _connection: None, lambda _error: call(loop, self._resolve, written))
        return await written

    def _resolve(self, written: "asyncio.Future[Exception | None]") -> None:
        """Right after the save that is waited for: another may have come through before the waiting one goes on."""
        if not written.done():
            written.set_result(self._save_error)

    def _saved_or_not(
        self,
        error: Exception | None,
        violations: dict[int, Violation],
        baselines: list[BaselineRow],
        records: dict[Any, Any],
        states: list[tuple[int, int, str]],
    ) -> None:
        """Keep what could not be written, the newer state of each first, and try again in a while."""
        self._saving -= 1
        self._save_error = error
        if error is None:
            return
        self._dirty_violations = violations | self._dirty_violations
        self._dirty_baselines = baselines + self._dirty_baselines
        self._dirty_records = records | self._dirty_records
        for series_id, _, _ in states:
            self._stated_us.pop(series_id, None)
        self._schedule_save(RETRY_AFTER_S)

    def forget_old(self) -> None:
        """Let go of what ended more than 24 hours ago; the store has it."""
        horizon = self._clock_us() - WINDOW_US
        for held in self.recent.values():
            for old in [v.id for v in held.values() if not v.open and v.last_signal_us < horizon]:
                del held[old]
        for alarms in self.alarms.values():
            for old in [a.id for a in alarms.values() if a.closed_us is not None and a.closed_us < horizon]:
                del alarms[old]
        for incidents in self.incidents.values():
            for old in [
                i.id for i in incidents.values() if i.closed_us is not None and i.closed_us < horizon
            ]:
                del incidents[old]


def engine_row(row: r.Row) -> Row:
    return Row(row[r.ID], row[r.TIME_US], row[r.OUTCOME] == 0, r.measured(row))


def engine_rows(rows: Sequence[r.Row], charted: Sequence[str]) -> Rows:
    """Many rows of one series as the charts take them."""
    measured = measured_of(rows)
    ids = np.array([row[r.ID] for row in rows], np.int64)
    times_us = np.array([row[r.TIME_US] for row in rows], np.int64)
    ok = measured[:, COLUMN["outcome"]] == 0.0
    values = {metric: metric_values(measured, metric) for metric in charted}
    return Rows(ids, times_us, ok, measured[:, COLUMN["load_us"]], values)


def call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Run on the loop, from the writer's thread; a loop that has closed hears no more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


def _episode_key(violation: Violation) -> EpisodeKey:
    return violation.series_id, violation.metric, violation.chart, violation.rule, violation.side


def _identity(violation: Violation) -> tuple[Any, ...]:
    return (*_episode_key(violation), violation.first_signal_id, violation.phase)

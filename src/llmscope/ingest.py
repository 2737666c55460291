"""The one door for observations: check, store, judge, tell. Whatever the source, it is judged by the same code.

An observation is answered for only when it is on disk; it is judged in order of arrival right after, on the
event loop, so that what is found, what is shown and what a restart finds again are the same.
"""

import asyncio
import dataclasses
import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from llmscope import documents
from llmscope.engine import Engine, Judged, SavedBaseline, SavedSeries
from llmscope.engine import Row as EngineRow
from llmscope.live import Hub, frame
from llmscope.observation import METRICS, Observation
from llmscope.spc.baseline import Baseline
from llmscope.spc.episodes import Episode
from llmscope.store import BaselineRow, Series, SeriesKey, Store, Violation
from llmscope.store import rows as r
from llmscope.store.rows import Row
from llmscope.store.sqlite import WINDOW_US
from llmscope.store.violations import FOLLOWS
from llmscope.store.writer import Append

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000
EARLIEST_US = 946_684_800_000_000  # the year 2000: an older stamp is a clock that was never set
SAVE_NEW_AFTER_S = 0.05  # a new violation reaches the disk at once
SAVE_GROWN_AFTER_S = 1.0  # one that grows, once a second: a restart replays what was not saved
CHECKPOINT_EVERY_S = 60.0
MAX_SERIES = 10_000  # a window of 24 h is 3.6 MB; a flood of invented names must not fill the memory
LOOKBACK_ROWS = (
    200  # good rows before the judged one that a restart replays, to rebuild what the rules remember
)
PRIVATE_SOURCES = ("proxy", "otlp")  # real traffic: its texts are not stored


class InvalidObservation(ValueError):
    """A row of a batch that cannot be accepted; nothing of the batch was stored."""

    def __init__(self, row: int | None, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.row = row
        self.field = field
        self.message = message


class TooManySeries(Exception):
    """The batch names more series than this server keeps."""


class NotStored(Exception):
    """The observations could not be written; the sender should try again later."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch: rows stored now, and rows that were stored before."""

    accepted: int
    duplicates: int


@dataclass(slots=True)
class _Batch:
    future: "asyncio.Future[int]"
    errors: dict[int, str]
    stamped: list[tuple[int, int]]


class Ingest:
    """Joins store, engine and hub. Lives on one event loop."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        hub: Hub,
        clock_us: Callable[[], int],
    ) -> None:
        self.store = store
        self.engine = engine
        self.hub = hub
        self._clock_us = clock_us
        self._pending: dict[tuple[int, int], list[tuple[Row, asyncio.Future[int]]]] = {}
        self._next_violation_id = store.violations.last_id() + 1
        self._open: dict[tuple[int, str, str, str], Violation] = {}
        self.recent: dict[int, dict[int, Violation]] = defaultdict(dict)  # by series, by id; the last 24 h
        self._dirty_violations: dict[int, Violation] = {}
        self._dirty_baselines: list[BaselineRow] = []
        self._dirty_series: set[int] = set()
        self._save_timer: asyncio.TimerHandle | None = None
        self._saving = 0  # saves handed to the writer and not yet answered
        self.last_id = store.next_id - 1  # the newest row that was judged

    # -- starting and stopping

    def restore(self) -> None:
        """Rebuild the charts from what is stored, and judge what a crash left unjudged."""
        for violation in self.store.violations.recent(self._clock_us() - WINDOW_US):
            self.recent[violation.series_id][violation.id] = violation
            if violation.open:
                self._open[_episode_key(violation)] = violation
        states = {series.id: self._saved(series) for series in self.store.series.values()}
        starts = {series.id: self._replay_from(series) for series in self.store.series.values()}
        if not starts:
            return
        rows: dict[int, list[Row]] = {series_id: [] for series_id in starts}
        for row in self.store.rows_from(min(starts.values())):
            if row[r.ID] >= starts[row[r.SERIES_ID]]:
                rows[row[r.SERIES_ID]].append(row)
        for series_id, state in states.items():
            series = self.store.series[series_id]
            judged = self.engine.restore(series_id, state, [_engine_row(row) for row in rows[series_id]])
            fresh = [row for row in rows[series_id] if row[r.ID] > series.judged_id]
            for row, verdict in zip(fresh, judged, strict=True):
                self._found(series, row, verdict)
            if fresh:
                series.judged_id = fresh[-1][r.ID]
                self._dirty_series.add(series_id)

    def _saved(self, series: Series) -> SavedSeries:
        baselines: dict[str, SavedBaseline] = {}
        for metric in METRICS:
            versions = self.store.baselines.get((series.id, metric))
            if versions:
                baselines[metric] = SavedBaseline(documents.baseline_of(versions[-1]), versions[-1].fitted_id)
        episodes: dict[str, list[Episode]] = defaultdict(list)
        for violation in self._open.values():
            if violation.series_id == series.id:
                episodes[violation.metric].append(_episode(violation))
        return SavedSeries(judged_id=series.judged_id, baselines=baselines, open_episodes=dict(episodes))

    def _replay_from(self, series: Series) -> int:
        frozen = all(
            (versions := self.store.baselines.get((series.id, metric))) and versions[-1].state == "frozen"
            for metric in self.engine.watched
        )
        if not frozen:
            return series.first_id
        return max(series.first_id, series.window.good_before(series.judged_id, LOOKBACK_ROWS))

    async def run(self) -> None:
        """Save what `restore` found, then note the state every minute, until cancelled."""
        self._schedule_save(0.0)
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            self._dirty_series.update(
                s.id for s in self.store.series.values() if s.counted_id > 0 and s.judged_id == s.counted_id
            )
            self._save()
            self.store.checkpoint()
            self._forget_old()

    def stop(self) -> None:
        """Hand everything found to the writer; `Store.close` waits for it."""
        self._save()

    # -- accepting

    async def accept(
        self, observations: Sequence[Observation], sender: str | None = None, first_seq: int = 0
    ) -> Accepted:
        """Store and judge a batch; returns when it is on disk.

        With `sender`, the rows are numbered `first_seq`, `first_seq + 1`, … and numbers that were stored before
        are left out. Without, a row that equals one of the last 24 hours in series, time and all numbers is.

        Raises InvalidObservation or TooManySeries (nothing was stored), NotStored (try again).
        """
        now_us = self._clock_us()
        times_us = [self._check(i, o, now_us) for i, o in enumerate(observations)]
        self._check_room(observations)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        batch = _Batch(future, {}, [])
        waits: set[asyncio.Future[int]] = set()
        rows: list[Row] = []
        duplicates = 0
        for o, time_us in zip(observations, times_us, strict=True):
            series = self.store.series_for(SeriesKey(o.provider, o.model, o.server, o.source))
            row = self._row(o, series, now_us if time_us is None else time_us)
            if sender is None and time_us is not None:
                before = self._stored_before(series, row)
                if before is not None:
                    duplicates += 1
                    if isinstance(before, asyncio.Future):
                        waits.add(before)
                    continue
                self._pending.setdefault((series.id, time_us), []).append((row, future))
                batch.stamped.append((series.id, time_us))
            self.store.next_id += 1
            if o.error is not None:
                batch.errors[row[r.ID]] = o.error
            rows.append(row)
        if rows:
            loop = asyncio.get_running_loop()
            self.store.append(
                rows,
                list(batch.errors.items()),
                sender,
                first_seq,
                lambda job, error: _call(loop, self._written, job, error, batch),
            )
            accepted = await future
            duplicates += len(rows) - accepted
        else:
            accepted = 0
        for other in waits - {future}:  # the first delivery of a duplicate must be on disk too
            await asyncio.shield(other)
        return Accepted(accepted, duplicates)

    def _row(self, o: Observation, series: Series, time_us: int) -> Row:
        prompt_id = None
        if o.prompt_hash is not None:
            text = None if o.source in PRIVATE_SOURCES else o.prompt_text
            prompt_id = self.store.prompt_for(o.prompt_hash, text)
        return r.to_row(o, self.store.next_id, series.id, time_us, prompt_id)

    def _stored_before(self, series: Series, row: Row) -> "asyncio.Future[int] | bool | None":
        """The future of the same observation in flight, True when it is stored, None when it is new."""
        for other, future in self._pending.get((series.id, row[r.TIME_US]), ()):
            if other[3:] == row[3:]:
                return future
        return True if series.window.holds(row) else None

    def _check(self, i: int, o: Observation, now_us: int) -> int | None:
        """Its time in µs, None when it names none; raises InvalidObservation."""
        for name in ("provider", "model"):
            text = getattr(o, name)
            if not text.strip() or not text.isprintable():
                raise InvalidObservation(i, name, "must be a printable name, not blank")
        if not o.server.isprintable():
            raise InvalidObservation(i, "server", "must be printable")
        if o.ok:
            if o.latency_ms is None:
                raise InvalidObservation(i, "latency_ms", "is required when ok is true")
            if o.error_kind is not None:
                raise InvalidObservation(i, "error_kind", "must be absent when ok is true")
        else:
            if o.error_kind is None:
                raise InvalidObservation(i, "error_kind", "is required when ok is false")
            if o.latency_ms is not None:
                raise InvalidObservation(i, "latency_ms", "must be absent or null when ok is false")
        if o.timestamp is None:
            return None
        try:
            stamp = dt.datetime.fromisoformat(o.timestamp)
        except ValueError:
            raise InvalidObservation(
                i, "timestamp", "must be a date and time such as 2025-10-28T12:34:56.789Z"
            ) from None
        if stamp.tzinfo is None:
            stamp = stamp.replace(tzinfo=dt.UTC)
        since = stamp - documents.EPOCH
        time_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        if time_us > now_us + DAY_US:
            raise InvalidObservation(i, "timestamp", "is more than a day ahead of this server's clock")
        if time_us < EARLIEST_US:
            raise InvalidObservation(i, "timestamp", "is before the year 2000")
        return time_us

    def _check_room(self, observations: Sequence[Observation]) -> None:
        known = self.store.series_by_key
        if len(known) + len(observations) <= MAX_SERIES:
            return
        new = {SeriesKey(o.provider, o.model, o.server, o.source) for o in observations} - known.keys()
        if len(known) + len(new) > MAX_SERIES:
            raise TooManySeries(
                f"this server keeps at most {MAX_SERIES} series (provider, model, server, source)"
            )

    # -- after the commit

    def _written(self, job: Append, error: Exception | None, batch: _Batch) -> None:
        """On the event loop, in the order of the commits: judge what is now on disk, and tell."""
        for key in batch.stamped:
            waiting = [entry for entry in self._pending.get(key, ()) if entry[1] is not batch.future]
            if waiting:
                self._pending[key] = waiting
            else:
                self._pending.pop(key, None)
        if error is not None:
            if not batch.future.cancelled():
                batch.future.set_exception(NotStored(str(error)))
            return
        self.store.committed(job)
        rows = job.rows[job.skipped :]
        try:
            told: list[tuple[int, bytes, dict[str, str]]] = []
            for series, part in self._by_series(rows):
                series.take(part, batch.errors)
                self._judge(series, part, batch.errors, told)
            for _row_id, message, about in sorted(told, key=lambda t: t[0]):
                self.hub.publish(message, about)
            if rows:
                self.last_id = max(self.last_id, rows[-1][r.ID])
        except Exception as mistake:  # the rows are stored: a mistake here must not be told as "not stored"
            log.exception("judging rows from id %s failed: %s", rows[0][r.ID], mistake)
        if not batch.future.cancelled():
            batch.future.set_result(len(rows))

    def _by_series(self, rows: Sequence[Row]) -> Iterator[tuple[Series, Sequence[Row]]]:
        if not rows:
            return
        first = rows[0][r.SERIES_ID]
        if all(row[r.SERIES_ID] == first for row in rows):
            yield self.store.series[first], rows
            return
        parts: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            parts[row[r.SERIES_ID]].append(row)
        for series_id, part in parts.items():
            yield self.store.series[series_id], part

    def _judge(
        self,
        series: Series,
        rows: Sequence[Row],
        errors: dict[int, str],
        told: list[tuple[int, bytes, dict[str, str]]],
    ) -> None:
        """Judge committed rows of one series; what listeners should hear is added to `told`."""
        listening = len(self.hub) > 0
        name = documents.name_document(series) if listening else {}
        observe = self.engine.observe
        touched: dict[int, Violation] = {}
        for row in rows:
            judged = observe(series.id, _engine_row(row))
            if judged.events or judged.baselines:
                touched |= self._found(series, row, judged)
            if listening:
                document = documents.live_document(row, name, errors.get(row[r.ID]), judged.verdicts)
                told.append((row[r.ID], frame("observation", orjson.dumps(document), str(row[r.ID])), name))
        series.judged_id = rows[-1][r.ID]
        if listening:
            told.extend((rows[-1][r.ID], *self._violation_frame(v)) for v in touched.values())

    def _found(self, series: Series, row: Row, judged: Judged) -> dict[int, Violation]:
        """Note what the charts found at this row; returns the violations that changed."""
        touched: dict[int, Violation] = {}
        is_new = False
        for metric, event in judged.events:
            key = (series.id, metric, event.episode.rule, event.episode.side)
            known = self._open.get(key)
            if known is None or known.first_signal_id != event.episode.first_signal_id:
                violation = _violation(self._next_violation_id, series.id, metric, event.episode)
                self._next_violation_id += 1
                is_new = True
            else:
                violation = _grown(known, event.episode)
            if violation.open:
                self._open[key] = violation
            else:
                self._open.pop(key, None)
            self.recent[series.id][violation.id] = touched[violation.id] = violation
        self._dirty_violations |= touched
        for metric, baseline in judged.baselines:
            self._fitted(series, row, metric, baseline)
            is_new = True
        self._dirty_series.add(series.id)
        self._schedule_save(SAVE_NEW_AFTER_S if is_new else SAVE_GROWN_AFTER_S)
        return touched

    def _fitted(self, series: Series, row: Row, metric: str, baseline: Baseline) -> None:
        versions = self.store.baselines.setdefault((series.id, metric), [])
        version = BaselineRow(
            series_id=series.id,
            metric=metric,
            version=len(versions) + 1,
            fitted_id=row[r.ID],
            fitted_us=row[r.TIME_US],
            state=baseline.state,
            scale=baseline.scale,
            centre=baseline.centre,
            sigma=baseline.sigma,
            n=baseline.n,
            interval_us=baseline.interval_us,
        )
        versions.append(version)
        self._dirty_baselines.append(version)
        if len(self.hub):
            name = documents.name_document(series) | {"metric": metric}
            spc = documents.limits_document(metric, self.engine.chart(series.id, metric), versions)
            self.hub.publish(frame("limits", orjson.dumps(name | {"spc": spc})), name)

    def _violation_frame(self, violation: Violation) -> tuple[bytes, dict[str, str]]:
        series = self.store.series[violation.series_id]
        document = documents.violation_document(violation, series)
        about = documents.name_document(series) | {"metric": violation.metric}
        return frame("violation", orjson.dumps(document)), about

    # -- people

    def acknowledged(self, violation: Violation) -> None:
        """Note what a person said of a violation, now that it is stored."""
        held = self.recent[violation.series_id]
        if violation.id in held:
            said = {name: getattr(violation, name) for name in ("acknowledged_us", "acknowledged_by", "note")}
            held[violation.id] = violation = dataclasses.replace(held[violation.id], **said)
            if violation.open:
                self._open[_episode_key(violation)] = violation
        self.hub.publish(*self._violation_frame(violation))

    # -- saving what was found

    def _schedule_save(self, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + after_s
        if self._save_timer is not None and not self._save_timer.cancelled():
            if self._save_timer.when() <= when:
                return
            self._save_timer.cancel()
        self._save_timer = loop.call_at(when, self._save)

    def _save(self) -> None:
        self._save_timer = None
        violations, self._dirty_violations = self._dirty_violations, {}
        baselines, self._dirty_baselines = self._dirty_baselines, []
        series_ids, self._dirty_series = self._dirty_series, set()
        if not (violations or baselines or series_ids):
            return
        loop = asyncio.get_running_loop()
        self._saving += 1
        self.store.save(
            violations.values(),
            baselines,
            [self.store.series[series_id] for series_id in series_ids],
            lambda error: _call(loop, self._saved_or_not, error, violations, baselines, series_ids),
        )

    async def settle(self) -> None:
        """Wait until everything found so far can be read from the store."""
        self._save()
        if self._saving == 0:
            return
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self.store.write(lambda _connection: None, lambda _error: _call(loop, _resolve, written))
        await written

    def _saved_or_not(
        self,
        error: Exception | None,
        violations: dict[int, Violation],
        baselines: list[BaselineRow],
        series_ids: set[int],
    ) -> None:
        """Keep what could not be written, the newer state of each first, and try again in a while."""
        self._saving -= 1
        if error is None:
            return
        self._dirty_violations = violations | self._dirty_violations
        self._dirty_baselines = baselines + self._dirty_baselines
        self._dirty_series |= series_ids
        self._schedule_save(5.0)

    def _forget_old(self) -> None:
        horizon = self._clock_us() - WINDOW_US
        for held in self.recent.values():
            for old in [v.id for v in held.values() if not v.open and v.last_signal_us < horizon]:
                del held[old]


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Run on the loop, from the writer's thread; a loop that has closed hears no more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _engine_row(row: Row) -> EngineRow:
    return EngineRow(row[r.ID], row[r.TIME_US], row[r.OUTCOME] == 0, r.measured(row))


_SHARED = tuple(f.name for f in dataclasses.fields(Episode))


def _violation(violation_id: int, series_id: int, metric: str, episode: Episode) -> Violation:
    shared = {name: getattr(episode, name) for name in _SHARED}
    return Violation(id=violation_id, series_id=series_id, metric=metric, **shared)


def _grown(violation: Violation, episode: Episode) -> Violation:
    return dataclasses.replace(violation, **{name: getattr(episode, name) for name in FOLLOWS})


def _episode(violation: Violation) -> Episode:
    return Episode(**{name: getattr(violation, name) for name in _SHARED})


def _episode_key(violation: Violation) -> tuple[int, str, str, str]:
    return violation.series_id, violation.metric, violation.rule, violation.side

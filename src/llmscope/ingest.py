"""The one door for observations: check, store, judge, tell. Whatever the source, it is judged by the same code.

An observation is answered for only when it is on disk; it is judged in order of arrival right after, on the
event loop, so that what is found, what is shown and what a restart finds again are the same.
"""

import asyncio
import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from llmscope import documents
from llmscope.engine import Engine
from llmscope.findings import Findings, call, engine_row, engine_rows
from llmscope.live import Hub, frame
from llmscope.observation import Observation
from llmscope.store import FaultKind, Incident, Series, SeriesKey, StorageFault, Store, Violation
from llmscope.store import rows as r
from llmscope.store.rows import Row
from llmscope.store.writer import Append

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000
EARLIEST_US = 946_684_800_000_000  # the year 2000: an older stamp is a clock that was never set
CHECKPOINT_EVERY_S = 60.0
MANY = 300  # rows of one series in a batch from which judging them at once is faster (bench/spc.py)
MAX_SERIES = 10_000  # a window of 24 h is 3.6 MB; a flood of invented names must not fill the memory
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

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.kind = why.kind if isinstance(why, StorageFault) else FaultKind.OTHER


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
        self.findings = Findings(store, engine, hub, clock_us)
        self.last_id = store.next_id - 1  # the newest row that was judged

    # -- starting and stopping

    def restore(self) -> None:
        """Bring the charts to where they were, and judge what a crash left unjudged."""
        self.findings.restore()

    async def run(self) -> None:
        """Save what `restore` found, then note the state every minute, until cancelled."""
        self.findings.save()
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            self.findings.save()
            self.store.checkpoint()
            self.findings.forget_old()

    def stop(self) -> None:
        """Hand everything found to the writer, and what the charts remember; `Store.close` waits for it."""
        self.findings.save(all_states=True)

    async def settle(self) -> None:
        """Wait until everything found so far can be read from the store."""
        await self.findings.settle()

    @property
    def recent(self) -> dict[int, dict[int, Violation]]:
        """The violations of the last 24 hours, by series and id."""
        return self.findings.recent

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
        times_us = [self.check(i, o, now_us) for i, o in enumerate(observations)]
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
                lambda job, error: call(loop, self._written, job, error, batch),
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

    @staticmethod
    def check(i: int, o: Observation, now_us: int) -> int | None:
        """The time of row i in µs, None when it names none; raises InvalidObservation."""
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
                batch.future.set_exception(NotStored(error))
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
        """Judge committed rows of one series; what listeners should hear is added to `told`.

        Of many at once they hear that there is more than can be told: to load the window again.
        """
        listening = len(self.hub) > 0
        name = documents.name_document(series) if listening else {}
        if len(rows) >= MANY:
            self.findings.take_many(
                series, self.engine.observe_many(series.id, engine_rows(rows, self.engine.charted))
            )
            last = rows[-1][r.ID]
            told.append((last, frame("reset", b"{}", str(last)), name))
            return
        observe = self.engine.observe
        violations: dict[int, Violation] = {}
        incidents: dict[int, Incident] = {}
        for row in rows:
            judged = observe(series.id, engine_row(row))
            if judged.events or judged.baselines or judged.alarms:
                changed, told_of = self.findings.take(series, row, judged)
                violations |= changed
                incidents |= told_of
            if listening:
                document = documents.live_document(
                    row, name, errors.get(row[r.ID]), judged, self.engine.alarmed
                )
                told.append((row[r.ID], frame("observation", orjson.dumps(document), str(row[r.ID])), name))
        if listening:
            last = rows[-1][r.ID]
            told.extend((last, *self.findings.violation_frame(v)) for v in violations.values())
            told.extend((last, *self.findings.incident_frame(i)) for i in incidents.values())

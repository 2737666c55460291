"""Observations on their way to the API: delivered in order, and kept on disk while it is away.

While the API answers, nothing is written to disk: a row is in memory for the milliseconds of its delivery, so
that a slow disk cannot delay a probe. A row that is not delivered within `KEEP_AFTER_S`, because the API is
away or slow, or because this process ends, goes into a spool, a small SQLite file. From then on a kill of the
process loses nothing; a power cut may lose the last rows, for commits are not waited out to the platter.

Every row has a number; numbers of one sender rise and are never given twice, not even after a kill (they are
reserved in blocks). The API uses them to drop what it already has, so sending again is always safe.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from llmscope.observation import Observation

log = logging.getLogger(__name__)

BATCH = 500
MOST_IN_MEMORY = 20_000  # rows while the disk takes none: 11 hours of a probe every 2 s, about 30 MB
DEFAULT_LIMIT = 200_000  # rows; a probe every 2 s fills it in 4.6 days, at about 500 bytes a row in 100 MB
KEEP_AFTER_S = 0.25
RETRY_S = (0.5, 10.0)  # the first wait and the longest; each is a random part from half to the whole of it
LONGEST_RETRY_AFTER_S = 60.0  # of what a server asks for in Retry-After
SEND_WITHIN_S = 30.0
NUMBERS_AT_ONCE = 1000
HINTS = dict.fromkeys((401, 403), "; the monitor sends the token that LLMSCOPE_TOKEN holds")
REFUSED_STATUS = (400, 413, 415, 422)

Numbered = tuple[int, Observation]
R = TypeVar("R")


class NotDelivered(Exception):
    """The API could not be reached or could not store; what was sent is kept and sent again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(ValueError):
    """The API will never take what was sent; `row` is the index of the bad row, where it says which."""

    def __init__(self, row: int | None, message: str) -> None:
        super().__init__(message)
        self.row = row


class SpoolInUse(Exception):
    """Another process has the spool open."""


class Transport(Protocol):
    """Brings rows with successive numbers to the API; returns when they are stored.

    Raises Rejected (or any other ValueError, its `row` naming the index) for rows that are not
    acceptable. Whatever else it raises means that the rows are to be sent again.
    """

    async def deliver(self, rows: Sequence[Observation], sender: str, first_seq: int) -> None: ...


class DirectTransport:
    """Hands rows to a function of this process: the API runs here too."""

    def __init__(self, deliver: Callable[[list[Observation], str, int], Awaitable[None]]) -> None:
        self._deliver = deliver

    async def deliver(self, rows: Sequence[Observation], sender: str, first_seq: int) -> None:
        await self._deliver(list(rows), sender, first_seq)


class HttpTransport:
    """Posts rows to `/api/stats`; `http` is a session of its own, whose connections are kept."""

    def __init__(self, api_url: str, http: aiohttp.ClientSession, token: str | None = None) -> None:
        self._url = api_url.rstrip("/") + "/api/stats"
        self._http = http
        self._headers = {"Content-Type": "application/json"}
        if token is not None and urlsplit(api_url).username is None:  # else it names who is calling
            self._headers["Authorization"] = f"Bearer {token}"

    async def deliver(self, rows: Sequence[Observation], sender: str, first_seq: int) -> None:
        headers = self._headers | {"X-LLMscope-Sender": sender, "X-LLMscope-First-Seq": str(first_seq)}
        body = msgspec.json.encode(rows)
        try:
            try:
                await self._post(body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                await self._post(body, headers)  # a kept connection that the server had closed meanwhile
        except TimeoutError:
            raise NotDelivered(f"no answer within {SEND_WITHIN_S:g} s") from None
        except aiohttp.ClientError as error:
            raise NotDelivered(str(error) or type(error).__name__) from None

    async def _post(self, body: bytes, headers: dict[str, str]) -> None:
        within = aiohttp.ClientTimeout(total=SEND_WITHIN_S)
        async with self._http.post(
            self._url, data=body, headers=headers, timeout=within, allow_redirects=False
        ) as response:
            if 200 <= response.status < 300:
                await response.read()
                return
            text = (await response.text(errors="replace"))[:10_000]
            if response.status in REFUSED_STATUS:
                raise Rejected(*_problem(text))
            retry_after = response.headers.get("Retry-After", "")
            raise NotDelivered(
                f"HTTP {response.status}: {_problem(text)[1]}{HINTS.get(response.status, '')}",
                float(retry_after) if retry_after.isdecimal() else None,
            )


def _problem(text: str) -> tuple[int | None, str]:
    """What problem details say: the row where they name one, and the sentence."""
    try:
        problem = msgspec.json.decode(text)
        row = next(
            (error["row"] for error in problem.get("errors", ()) if error.get("row") is not None), None
        )
        return row if isinstance(row, int) else None, str(problem.get("detail", problem))
    except (msgspec.DecodeError, AttributeError, TypeError, KeyError):
        return None, text.strip()[:200] or "no reason given"


class Outbox:
    """Takes observations at once and delivers them in order while `run` runs.

    `close` puts on disk what is not delivered yet; as an asynchronous context manager it does both. It holds
    at most `limit` rows; then the oldest go, counted in `dropped`. `outages` counts how often the API was
    found away; `on_event` is told of that, and of rows that are lost, in a sentence (else the log is).
    """

    def __init__(
        self,
        path: Path,
        transport: Transport,
        *,
        limit: int = DEFAULT_LIMIT,
        retry_s: tuple[float, float] = RETRY_S,
        rng: random.Random | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._spool = Spool(path)
        self._say = on_event or log.warning
        self._transport = transport
        self._limit = limit
        self._retry_s = retry_s
        self._rng = rng or random.Random()
        self._fresh: deque[Numbered] = deque()  # in memory only; all newer than what is spooled
        self._spooled = self._spool.count()
        self._batch = BATCH
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._delivering: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_away = False
        self._is_disk_failing = False
        self._is_closed = False
        self.outages = 0
        self.delivered = 0
        self.dropped = 0
        self.refused = 0
        self.error: str | None = None  # why nothing is delivered just now
        self._note_waiting()

    @property
    def sender(self) -> str:
        return self._spool.sender

    @property
    def waiting(self) -> int:
        """Rows that are not delivered yet."""
        return self._spooled + len(self._fresh)

    def put(self, observation: Observation) -> None:
        """Take an observation; returns at once."""
        self._fresh.append((self._spool.next_seq(), observation))
        self._empty.clear()
        self._arrived.set()

    async def emptied(self) -> None:
        """Wait until everything is delivered."""
        await self._empty.wait()

    async def __aenter__(self) -> "Outbox":
        self._delivering = asyncio.create_task(self.run(), name="outbox")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop delivering, keep on disk what is not delivered, and close the file."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._delivering is not None:
                self._delivering.cancel()
                await asyncio.wait([self._delivering])
            await self._keep()
        finally:
            self._disk.shutdown()
            self._spool.close()

    # -- delivering; only this task takes rows away

    async def run(self) -> None:
        """Deliver until cancelled or closed."""
        if self._is_closed:
            return
        self._delivering = asyncio.current_task()
        wait_s = self._retry_s[0]
        while True:
            await self._arrived.wait()
            try:
                await self._deliver_next()
            except Exception as error:
                if not isinstance(error, NotDelivered):
                    log.exception("delivering observations failed; they are kept")
                self._note_away(error)
                asked_s = error.retry_after_s if isinstance(error, NotDelivered) else None
                pause_s = wait_s * self._rng.uniform(0.5, 1.0)
                await self._keep_for(max(pause_s, min(asked_s or 0.0, LONGEST_RETRY_AFTER_S)))
                wait_s = min(wait_s * 2.0, self._retry_s[1])
            else:
                wait_s = self._retry_s[0]
                self._note_back()
            self._note_waiting()

    async def _deliver_next(self) -> None:
        rows = await self._next_rows()
        if not rows:
            return
        try:
            await self._send(rows)
        except ValueError as error:
            row = getattr(error, "row", None)
            await self._refused(rows, str(error), row if isinstance(row, int) else None)
        else:
            self.delivered += len(rows)
            self._batch = min(BATCH, self._batch * 2)
            await self._forget(rows[0][0], rows[-1][0])

    async def _next_rows(self) -> list[Numbered]:
        """The oldest rows, their numbers without a gap."""
        if self._spooled:
            rows, unreadable = await self._on_disk(self._spool.oldest, self._batch)
            for seq in unreadable:
                self.refused += 1
                self._say(f"A row of {self._spool.path} cannot be read; dropped ({self.refused:,} so far)")
                await self._forget(seq, seq)
        else:
            rows = list(itertools.islice(self._fresh, self._batch))
        whole = next((i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0] + 1), len(rows))
        return rows[:whole]

    async def _send(self, rows: Sequence[Numbered]) -> None:
        """Send; what is in memory goes to the disk when that takes long."""
        sending = self._sending = asyncio.create_task(
            self._transport.deliver([row for _, row in rows], self.sender, rows[0][0])
        )
        try:
            while not (await asyncio.wait({sending}, timeout=KEEP_AFTER_S))[0]:
                await self._keep()
        except BaseException:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            raise
        sending.result()

    async def _refused(self, rows: Sequence[Numbered], message: str, row: int | None) -> None:
        """Drop the bad row. Where the API does not say which, send less at once until it is alone."""
        if len(rows) == 1:
            row = 0
        if row is None or not 0 <= row < len(rows):
            self._batch = max(1, len(rows) // 2)
            return
        self.refused += 1
        self._say(f"The API refused an observation; dropped ({self.refused:,} so far): {message}")
        await self._forget(rows[row][0], rows[row][0])

    async def _forget(self, first_seq: int, last_seq: int) -> None:
        if self._spooled:
            self._spooled = await self._on_disk(self._spool.remove, first_seq, last_seq)
        self._fresh = deque(row for row in self._fresh if not first_seq <= row[0] <= last_seq)

    # -- keeping

    async def _keep_for(self, pause_s: float) -> None:
        """Wait, putting on disk what arrives meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_s
        while loop.time() < until:
            self._arrived.clear()
            await self._keep()  # outside of the timeout: a write that is cut off would not be counted
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()

    async def _keep(self) -> None:
        """Put on disk what is only in memory, within the limit."""
        rows = list(self._fresh)
        if rows:
            try:
                self._spooled = await self._on_disk(self._spool.add, rows)
            except sqlite3.Error as error:
                if not self._is_disk_failing:
                    self._say(
                        f"Cannot write to {self._spool.path} ({error}); probing goes on, and the newest "
                        f"{MOST_IN_MEMORY:,} observations stay in memory"
                    )
                self._is_disk_failing = True
                self._drop_from_memory()
                return
            if self._is_disk_failing:
                self._say(f"{self._spool.path} can be written again")
            self._is_disk_failing = False
            for _ in rows:
                self._fresh.popleft()
        excess = self.waiting - self._limit
        if excess <= 0:
            return
        self.dropped += excess
        self._say(
            f"{self._limit:,} observations wait: dropped the oldest {excess:,} ({self.dropped:,} so far)"
        )
        from_disk = min(excess, self._spooled)
        if from_disk:
            self._spooled = await self._on_disk(self._spool.remove_oldest, from_disk)
        for _ in range(excess - from_disk):
            self._fresh.popleft()

    def _drop_from_memory(self) -> None:
        """Let the oldest go that are only in memory, beyond what may be there."""
        excess = len(self._fresh) - min(MOST_IN_MEMORY, max(1, self._limit - self._spooled))
        if excess <= 0:
            return
        for _ in range(excess):
            self._fresh.popleft()
        if self.dropped // 1000 != (self.dropped + excess) // 1000 or not self.dropped:
            self._say(
                f"The disk of {self._spool.path} is full: {self.dropped + excess:,} observations dropped so far"
            )
        self.dropped += excess

    async def _on_disk(self, work: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    # -- saying how it goes

    def _note_away(self, error: Exception) -> None:
        self.error = str(error) or type(error).__name__
        if not self._is_away:
            self._is_away = True
            self.outages += 1
            self._say(f"Observations are not delivered ({self.error}); they are kept in {self._spool.path}")

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            self.error = None
            self._say(f"Observations are delivered again; {self.waiting:,} more wait")

    def _note_waiting(self) -> None:
        if self.waiting:
            self._arrived.set()
        else:
            self._arrived.clear()
            self._empty.set()


class Spool:
    """Undelivered rows in a SQLite file, and the sender's name and numbers. Used by one thread at a time."""

    SCHEMA = """
        PRAGMA auto_vacuum = INCREMENTAL;
        PRAGMA locking_mode = EXCLUSIVE;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        CREATE TABLE IF NOT EXISTS waiting (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
        CREATE TABLE IF NOT EXISTS sender (id TEXT PRIMARY KEY, reserved_seq INTEGER NOT NULL) STRICT;
    """
    ADD = "INSERT OR REPLACE INTO waiting (seq, body) VALUES (?, ?)"
    OLDEST = "SELECT seq, body FROM waiting WHERE seq > ? ORDER BY seq LIMIT ?"
    REMOVE = "DELETE FROM waiting WHERE seq BETWEEN ? AND ? OR seq <= ?"
    REMOVE_OLDEST = "DELETE FROM waiting WHERE seq IN (SELECT seq FROM waiting ORDER BY seq LIMIT ?)"
    COUNT = "SELECT count(*) FROM waiting WHERE seq > ?"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._gone_seq = (
            0  # rows up to this one are delivered, though a full disk did not let them be removed
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise SpoolInUse(f"{path} is used by another monitor; give this one another file") from None
            raise
        except sqlite3.DatabaseError as error:
            aside = path.with_suffix(path.suffix + ".broken")
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            log.warning("the spool %s cannot be read (%s); set aside as %s", path, error, aside.name)
            self._open()

    def _open(self) -> None:
        database = sqlite3.connect(self.path, timeout=0.1, check_same_thread=False, isolation_level=None)
        try:
            database.executescript(self.SCHEMA)
            row = database.execute("SELECT id, reserved_seq FROM sender").fetchone()
            if row is None:
                row = (uuid.uuid4().hex, 0)
                database.execute("INSERT INTO sender (id, reserved_seq) VALUES (?, ?)", row)
        except BaseException:
            database.close()
            raise
        self._database = database
        self.sender: str = row[0]
        self._reserved: int = row[1]
        self._next: int = self._reserved + 1
        self._reserve()

    def next_seq(self) -> int:
        """A number that this sender has never used."""
        seq, self._next = self._next, self._next + 1
        if seq > self._reserved:
            try:
                self._reserve()
            except sqlite3.Error as error:
                log.warning("cannot write to the spool %s: %s", self.path, error)
        return seq

    def _reserve(self) -> None:
        self._reserved += NUMBERS_AT_ONCE
        with self._lock:
            self._database.execute("UPDATE sender SET reserved_seq = ?", (self._reserved,))

    def count(self) -> int:
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return int(self._database.execute(self.COUNT, (self._gone_seq,)).fetchone()[0])

    def add(self, rows: Iterable[Numbered]) -> int:
        """Store rows in one transaction; returns how many are there now."""
        with self._transaction():
            self._database.executemany(self.ADD, [(seq, msgspec.json.encode(row)) for seq, row in rows])
            return self._count()

    def oldest(self, most: int) -> tuple[list[Numbered], list[int]]:
        """The oldest rows, and the numbers among them whose text no longer makes sense."""
        with self._lock:
            found = self._database.execute(self.OLDEST, (self._gone_seq, most)).fetchall()
        rows: list[Numbered] = []
        unreadable: list[int] = []
        for seq, body in found:
            try:
                rows.append((seq, msgspec.json.decode(body, type=Observation)))
            except msgspec.DecodeError:
                unreadable.append(seq)
        return rows, unreadable

    def remove(self, first_seq: int, last_seq: int) -> int:
        """Forget rows; returns how many are left. The file shrinks when none is.

        The oldest are forgotten also when the disk is too full to say so; they are removed with later ones.
        """
        try:
            return self._removed(self.REMOVE, first_seq, last_seq, self._gone_seq)
        except sqlite3.Error:
            rows, _ = self.oldest(1)
            if not rows or rows[0][0] < first_seq:
                raise
            self._gone_seq = last_seq
            return self.count()

    def remove_oldest(self, number: int) -> int:
        return self._removed(self.REMOVE_OLDEST, number)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _removed(self, statement: str, *values: int) -> int:
        with self._transaction():
            self._database.execute(statement, values)
            left = self._count()
        if not left:
            with self._lock:
                self._database.execute("PRAGMA incremental_vacuum").fetchall()
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return left

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

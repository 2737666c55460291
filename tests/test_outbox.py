"""Nothing lost and nothing twice: over an API that goes away, refuses, hangs, and over a kill of the sender."""

import asyncio
import contextlib
import itertools
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from llmscope.observation import Observation
from llmscope.outbox import (
    KEEP_AFTER_S,
    DirectTransport,
    HttpTransport,
    NotDelivered,
    Outbox,
    Rejected,
    Spool,
    SpoolInUse,
    Transport,
)

QUICK = (0.01, 0.05)


def row(number: int) -> Observation:
    return Observation(provider="ollama", model="tiny", latency_ms=float(number))


def numbers(rows: Sequence[Observation]) -> list[int]:
    return [int(row.latency_ms or 0) for row in rows]


async def eventually(check: Callable[[], Any], within_s: float = 10.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, "did not come true"
        await asyncio.sleep(0.002)
    return found


class Api:
    """Stores rows as the API does: by sender and number, each once. It can be away, slow, or refuse rows."""

    def __init__(self) -> None:
        self.rows: list[Observation] = []
        self.seqs: list[int] = []
        self.batches: list[tuple[int, int]] = []  # first number, rows
        self.newest_by_sender: dict[str, int] = {}
        self.is_away = False
        self.loses_answers = False
        self.bad: set[int] = set()
        self.tells_row = True
        self.hang: asyncio.Event | None = None

    async def deliver(self, rows: Sequence[Observation], sender: str, first_seq: int) -> None:
        if self.is_away:
            raise NotDelivered("connection refused")
        if self.hang is not None:
            await self.hang.wait()
        self.batches.append((first_seq, len(rows)))
        for index, number in enumerate(numbers(rows)):
            if number in self.bad:
                raise Rejected(index if self.tells_row else None, f"row {index}: latency_ms is bad")
        for seq, one in enumerate(rows, first_seq):
            if seq > self.newest_by_sender.get(sender, 0):
                self.newest_by_sender[sender] = seq
                self.rows.append(one)
                self.seqs.append(seq)
        if self.loses_answers:
            raise NotDelivered("the connection broke before the answer")


def outbox(tmp_path: Path, transport: Transport, **settings: Any) -> Outbox:
    return Outbox(tmp_path / "outbox.db", transport, **{"retry_s": QUICK} | settings)


def on_disk(tmp_path: Path) -> int:
    """Rows in the spool's file; the outbox must be closed."""
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
        count: int = database.execute("SELECT count(*) FROM waiting").fetchone()[0]
        return count


async def test_rows_arrive_at_once_and_without_touching_the_disk(tmp_path: Path) -> None:
    api = Api()
    async with outbox(tmp_path, api) as box:
        before = box._spool._database.total_changes
        for number in range(3):
            box.put(row(number))
            await asyncio.wait_for(box.emptied(), KEEP_AFTER_S)

        assert numbers(api.rows) == [0, 1, 2]
        assert box._spool._database.total_changes == before
        assert (box.waiting, box.delivered, box.outages) == (0, 3, 0)


async def test_an_api_that_goes_away_and_comes_back_has_every_row_once_and_in_order(tmp_path: Path) -> None:
    api, said = Api(), list[str]()
    async with outbox(tmp_path, api, on_event=said.append) as box:
        box.put(row(0))
        await box.emptied()
        api.is_away = True
        for number in range(1, 1201):
            box.put(row(number))
        await eventually(lambda: box._spooled == 1200)  # on disk while it is away
        assert box.error == "connection refused"
        api.is_away = False
        for number in range(1201, 1301):
            box.put(row(number))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == list(range(1301))
    assert max(size for _, size in api.batches) == 500
    assert box.outages == 1
    assert box.error is None
    assert "are not delivered (connection refused)" in said[0]
    assert "delivered again" in said[1]
    assert on_disk(tmp_path) == 0


async def test_an_answer_that_is_lost_does_not_double_rows(tmp_path: Path) -> None:
    api = Api()
    api.loses_answers = True
    async with outbox(tmp_path, api) as box:
        for number in range(5):
            box.put(row(number))
        await eventually(lambda: len(api.batches) > 2)
        api.loses_answers = False
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [0, 1, 2, 3, 4]


async def test_what_is_not_delivered_waits_on_disk_for_the_next_start(tmp_path: Path) -> None:
    api = Api()
    api.is_away = True
    async with outbox(tmp_path, api) as box:
        sender = box.sender
        for number in range(10):
            box.put(row(number))
    kept = on_disk(tmp_path)
    api.is_away = False
    async with outbox(tmp_path, api) as box:
        box.put(row(10))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert kept == 10
    assert numbers(api.rows) == list(range(11))
    assert list(api.newest_by_sender) == [sender]


async def test_rows_go_to_disk_while_the_api_hangs(tmp_path: Path) -> None:
    api = Api()
    api.hang = asyncio.Event()
    async with outbox(tmp_path, api) as box:
        box.put(row(0))
        box.put(row(1))
        await eventually(lambda: box._spooled == 2)
        box.put(row(2))
        await eventually(lambda: box._spooled == 3)
        api.hang.set()
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [0, 1, 2]


async def test_closing_in_the_middle_of_a_delivery_keeps_its_rows(tmp_path: Path) -> None:
    api = Api()
    api.hang = asyncio.Event()
    async with outbox(tmp_path, api) as box:
        box.put(row(0))
        await asyncio.sleep(0)
    assert on_disk(tmp_path) == 1

    api.hang = None
    async with outbox(tmp_path, api) as box:
        await asyncio.wait_for(box.emptied(), 10.0)
    assert numbers(api.rows) == [0]


async def test_beyond_the_limit_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    api, said = Api(), list[str]()
    api.is_away = True
    async with outbox(tmp_path, api, limit=100, on_event=said.append) as box:
        for number in range(250):
            box.put(row(number))
        await eventually(lambda: box.waiting == 100)
        for number in range(250, 260):
            box.put(row(number))
        await eventually(lambda: box.dropped == 160)
        api.is_away = False
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == list(range(160, 260))
    assert any("dropped the oldest" in sentence and "160 so far" in sentence for sentence in said)


@pytest.mark.parametrize("tells_row", [True, False])
@pytest.mark.parametrize("bad", [{0}, {3, 4}, {19}, set(range(20))])
async def test_rows_that_are_refused_do_not_block_the_others(
    tmp_path: Path, bad: set[int], tells_row: bool
) -> None:
    api = Api()
    api.bad, api.tells_row = bad, tells_row
    async with outbox(tmp_path, api, on_event=lambda _: None) as box:
        for number in range(20):
            box.put(row(number))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [number for number in range(20) if number not in bad]
    assert api.seqs == [
        number + 1 for number in numbers(api.rows)
    ]  # each under its own number, over the gaps
    assert box.refused == len(bad)
    assert box.outages == 0


async def test_a_mistake_in_the_transport_keeps_the_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Observation] = []
    calls = itertools.count()

    async def deliver(rows: list[Observation], _sender: str, _first_seq: int) -> None:
        if next(calls) == 0:
            raise KeyError("a mistake")
        got.extend(rows)

    async with outbox(tmp_path, DirectTransport(deliver)) as box:
        box.put(row(1))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(got) == [1]
    assert "delivering observations failed; they are kept" in caplog.text


async def test_a_disk_that_fails_keeps_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, said = Api(), list[str]()
    api.is_away = True

    def full(*_: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    async with outbox(tmp_path, api, limit=5, on_event=said.append) as box:
        monkeypatch.setattr(box._spool, "add", full)
        for number in range(8):
            box.put(row(number))
        await eventually(lambda: box.dropped == 3)
        api.is_away = False
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [3, 4, 5, 6, 7]
    assert sum("disk is full" in sentence for sentence in said) == 1


def test_one_spool_serves_one_process(tmp_path: Path) -> None:
    with (
        contextlib.closing(Spool(tmp_path / "outbox.db")),
        pytest.raises(SpoolInUse, match="another monitor"),
    ):
        Spool(tmp_path / "outbox.db")


def test_a_broken_spool_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "outbox.db").write_bytes(b"not a database at all, though it is long enough" * 100)

    with contextlib.closing(Spool(tmp_path / "outbox.db")) as spool:
        assert spool.count() == 0

    assert (tmp_path / "outbox.db.broken").exists()
    assert "set aside as outbox.db.broken" in caplog.text


async def test_a_row_that_no_longer_makes_sense_is_dropped(tmp_path: Path) -> None:
    api = Api()
    with contextlib.closing(Spool(tmp_path / "outbox.db")) as spool:
        spool.add([(spool.next_seq(), row(number)) for number in range(3)])
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
        body = b'{"of":"another version"}'
        database.execute(
            "UPDATE waiting SET body = ? WHERE seq = (SELECT min(seq) + 1 FROM waiting)", (body,)
        )
        database.commit()
    async with outbox(tmp_path, api, on_event=lambda _: None) as box:
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [0, 2]
    assert box.refused == 1


def test_no_number_is_given_twice_even_after_a_kill(tmp_path: Path) -> None:
    given_numbers: list[int] = []
    for taken in (1, 999, 1000, 1001, 2500, 3):
        spool = Spool(tmp_path / "outbox.db")
        given_numbers += [spool.next_seq() for _ in range(taken)]
        spool._database.close()  # nothing is written at the end, as after a kill

    assert given_numbers == sorted(set(given_numbers))


@given(st.lists(st.sampled_from(["put", "away", "back", "lose", "restart", "wait"]), max_size=40))
def test_whatever_happens_each_row_arrives_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    tmp_path = tmp_path_factory.mktemp("outbox")

    async def run() -> None:
        api = Api()
        sent = itertools.count()
        retry_s = (0.0005, 0.001)
        box = await outbox(tmp_path, api, retry_s=retry_s, on_event=lambda _: None).__aenter__()
        for event in events:
            match event:
                case "put":
                    box.put(row(next(sent)))
                case "away":
                    api.is_away = True
                case "lose":
                    api.is_away, api.loses_answers = False, True
                case "back":
                    api.is_away, api.loses_answers = False, False
                case "restart":
                    await box.close()
                    box = await outbox(tmp_path, api, retry_s=retry_s, on_event=lambda _: None).__aenter__()
                case "wait":
                    await asyncio.sleep(0.001)
        api.is_away, api.loses_answers = False, False
        await asyncio.wait_for(box.emptied(), 10.0)
        await box.close()
        assert numbers(api.rows) == list(range(next(sent)))

    asyncio.run(run())


# -- over HTTP


class HttpApi(Api):
    """The same behind a real HTTP server."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.requests: list[dict[str, str]] = []
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 23)
        app.router.add_post("/api/stats", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _post(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        if self.status != 200:
            return web.json_response({"detail": "told to"}, status=self.status, headers={"Retry-After": "0"})
        rows = msgspec.json.decode(await request.read(), type=list[Observation])
        sender, first_seq = request.headers["X-LLMscope-Sender"], int(request.headers["X-LLMscope-First-Seq"])
        try:
            await self.deliver(rows, sender, first_seq)
        except Rejected as error:
            errors = [{"row": error.row, "field": "latency_ms", "message": "is bad"}]
            return web.json_response({"detail": str(error), "errors": errors}, status=422)
        return web.json_response({"status": "ok", "logged": True, "accepted": len(rows)})


@pytest.fixture
async def api() -> AsyncIterator[HttpApi]:
    served = HttpApi()
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(api: HttpApi) -> str:
    return f"http://127.0.0.1:{api.port}"


async def test_over_http_sender_number_and_token_are_in_the_head(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession
) -> None:
    async with outbox(tmp_path, HttpTransport(url(api) + "/", http, "hunter2")) as box:
        box.put(row(7))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [7]
    (head,) = api.requests
    assert head["X-LLMscope-Sender"] == box.sender
    assert head["X-LLMscope-First-Seq"] == "1"
    assert head["Authorization"] == "Bearer hunter2"


async def test_over_http_a_restart_of_the_api_loses_and_doubles_nothing(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession
) -> None:
    async with outbox(tmp_path, HttpTransport(url(api), http), on_event=lambda _: None) as box:
        for number in range(300):
            box.put(row(number))
            if number % 100 == 50:
                await api.stop()
            if number % 100 == 90:
                await eventually(lambda: box.error is not None)
                await api.start()
            await asyncio.sleep(0)
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == list(range(300))
    assert box.outages >= 1


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503, 507, 302])
async def test_over_http_what_may_pass_is_tried_again(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession, status: int
) -> None:
    api.status = status
    async with outbox(tmp_path, HttpTransport(url(api), http), on_event=lambda _: None) as box:
        box.put(row(1))
        error = await eventually(lambda: box.error)
        api.status = 200
        await asyncio.wait_for(box.emptied(), 10.0)

    assert error.startswith(f"HTTP {status}: told to")
    assert ("LLMSCOPE_TOKEN" in error) == (status in (401, 403))
    assert numbers(api.rows) == [1]
    assert box.refused == 0


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_over_http_what_is_refused_for_good_does_not_block(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession, status: int
) -> None:
    api.status = status
    async with outbox(tmp_path, HttpTransport(url(api), http), on_event=lambda _: None) as box:
        box.put(row(1))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert box.refused == 1


async def test_over_http_only_the_bad_row_is_dropped(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession
) -> None:
    api.bad = {3}
    async with outbox(tmp_path, HttpTransport(url(api), http), on_event=lambda _: None) as box:
        for number in range(6):
            box.put(row(number))
        await asyncio.wait_for(box.emptied(), 10.0)

    assert numbers(api.rows) == [0, 1, 2, 4, 5]
    assert box.refused == 1


SENDER = """
import asyncio, sys
from pathlib import Path
import aiohttp
from llmscope.observation import Observation
from llmscope.outbox import HttpTransport, Outbox

async def main(path, url):
    async with aiohttp.ClientSession() as http:
        async with Outbox(Path(path), HttpTransport(url, http), retry_s=(0.02, 0.05)) as box:
            for number in range(10_000_000):
                box.put(Observation(provider="ollama", model="tiny", latency_ms=float(number)))
                await asyncio.sleep(0.001)
                print(box._spooled, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_kill_of_the_sender_while_the_api_is_away_loses_nothing_that_was_on_disk(
    tmp_path: Path, api: HttpApi, http: aiohttp.ClientSession
) -> None:
    await api.stop()  # nobody listens
    program = [sys.executable, "-c", SENDER, str(tmp_path / "outbox.db"), url(api)]
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    kept = 0
    while kept < 200:
        kept = int(await process.stdout.readline())
    process.kill()
    await process.communicate()
    await api.start()
    async with outbox(tmp_path, HttpTransport(url(api), http)) as box:
        box.put(row(99_999))
        await asyncio.wait_for(box.emptied(), 10.0)

    *spooled, last = numbers(api.rows)
    assert spooled == list(range(len(spooled)))
    assert len(spooled) >= kept
    assert last == 99_999


def test_a_row_is_kept_as_it_would_be_posted(tmp_path: Path) -> None:
    whole = Observation(
        provider="ollama",
        model="tiny",
        ok=False,
        error_kind="busy",
        error="é\n",
        prompt_text="Write one sentence about the ocean.",
    )
    with contextlib.closing(Spool(tmp_path / "outbox.db")) as spool:
        spool.add([(1, whole)])
        ((_, back),), unreadable = spool.oldest(10)

    assert back == whole
    assert unreadable == []
    assert json.loads(msgspec.json.encode(whole))["error_kind"] == "busy"

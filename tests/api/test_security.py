"""Who is let in, from where and for how long: over real HTTP, with the parts that a server has."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.serving import OCEAN, Served, eventually, served, wall_us

from llmscope.access import Access, Password, Sessions, Token, Tokens, digest_of
from llmscope.api import stream
from llmscope.api.connection import Connection
from llmscope.live import Hub
from llmscope.store import Store

PASSWORD = "correct horse"
PAGE = {"X-LLMscope-Page": "1"}


def closed(store: Store, **more: Any) -> Access:
    """A server that asks who is calling."""
    return Access(
        login=True,
        password=Password(PASSWORD),
        sessions=Sessions(b"k" * 32, PASSWORD, 600.0, wall_us),
        tokens=Tokens(
            store.tokens.find, wall_us, time.monotonic, {digest_of("i" * 20): Token(0, "i", "ingest", 0)}
        ),
        **more,
    )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path / "test.db", access=closed) as found:
        yield found


async def log_in(api: Served, password: str = PASSWORD, **headers: str) -> aiohttp.ClientResponse:
    answer = await api.http.post(
        f"{api.url}/api/login", json={"password": password}, headers={**PAGE, **headers}
    )
    await answer.read()
    return answer


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api/session", "/api/about", "/docs", "/nothing", "/api/stream"]
)
@pytest.mark.parametrize("known", [False, True])
async def test_every_answer_tells_browsers_to_run_nothing_foreign(
    api: Served, path: str, known: bool
) -> None:
    if known:
        assert (await log_in(api)).status == 204
    async with api.http.get(api.url + path) as answer:
        policy = answer.headers["Content-Security-Policy"]

        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        if answer.content_type == "text/html":
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_a_session_reads_and_changes_and_is_over_after_the_logout(api: Served) -> None:
    await api.post(OCEAN, headers={"Authorization": f"Bearer {'i' * 20}"})
    assert await api.get("/api/session") == {"login": True, "known": False, "password": True}
    assert (await log_in(api)).status == 204
    assert await api.get("/api/session") == {"login": True, "known": True, "password": True}
    assert len((await api.get("/api/series"))["series"]) > 0
    async with api.http.post(
        f"{api.url}/api/series/1/annotations", json={"text": "seen"}, headers=PAGE
    ) as noted:
        assert noted.status == 201

    async with api.http.post(f"{api.url}/api/logout", headers=PAGE) as answer:
        assert answer.status == 204
    await api.get("/api/about", status=401)


async def test_a_token_made_while_the_server_runs_works_at_once(api: Served) -> None:
    stored = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(_error: Exception | None) -> None:
        loop.call_soon_threadsafe(stored.set)

    def add(connection: Any) -> None:
        connection.execute(
            "INSERT INTO token (digest, name, scope, made_us) VALUES (?, 'r', 'read', 0)", (digest_of("r"),)
        )

    async with api.http.get(f"{api.url}/api/about", headers={"Authorization": "Bearer r"}) as before:
        assert before.status == 401
    api.store.write(add, told)
    await stored.wait()

    async with api.http.get(f"{api.url}/api/about", headers={"Authorization": "Bearer r"}) as after:
        assert after.status == 200


async def test_the_live_stream_of_a_session_ends_with_it(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LOOK_AT_CALLER_S", 0.05)
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.1)
    await log_in(api)
    async with api.http.get(f"{api.url}/api/stream") as listening:
        assert listening.status == 200
        await listening.content.readany()
        async with api.http.post(f"{api.url}/api/logout", headers=PAGE):
            pass
        async with asyncio.timeout(10):
            await listening.content.read()  # to its end
    await eventually(lambda: len(api.hub) == 0)


async def test_one_listener_too_many_is_sent_away(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LISTENERS", 2)
    await log_in(api)
    async with contextlib.AsyncExitStack() as listening:
        for _ in range(2):
            await listening.enter_async_context(api.http.get(f"{api.url}/api/stream"))
        await eventually(lambda: len(api.hub) == 2)
        async with api.http.get(f"{api.url}/api/stream") as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "15"
    assert isinstance(api.hub, Hub)


async def test_guesses_are_limited_by_address_and_the_right_password_forgets_them(api: Served) -> None:
    for _ in range(4):
        assert (await log_in(api, "guess")).status == 401
    assert (await log_in(api)).status == 204

    statuses = [(await log_in(api, "guess")).status for _ in range(6)]
    refused = await log_in(api)
    assert statuses == [401] * 5 + [429]
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 12


async def test_only_a_trusted_proxy_speaks_for_others(tmp_path: Path) -> None:
    """Its clients have their own tries, HTTPS makes the cookie Secure, and the host is the one that they asked for."""

    def guarded(store: Store) -> Access:
        return closed(store, hosts=["llm.example"])

    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "llm.example", "Host": "inside"}
    for trusted in ((), ("127.0.0.0/8",)):
        async with served(tmp_path / f"{len(trusted)}.db", access=guarded, trusted_proxies=trusted) as api:
            statuses = []
            for client in range(7):
                answer = await log_in(api, "guess", **told, **{"X-Forwarded-For": f"192.0.2.{client}"})
                statuses.append(answer.status)
            right = await log_in(api, **told, **{"X-Forwarded-For": "198.51.100.1, 192.0.2.99"})

        if trusted:
            assert statuses == [401] * 7
            assert "; Secure" in right.headers["Set-Cookie"]
        else:
            assert statuses == [421] * 7


async def test_who_invents_proxies_before_the_trusted_one_gains_no_tries(tmp_path: Path) -> None:
    async with served(tmp_path / "test.db", access=closed, trusted_proxies=("127.0.0.1",)) as api:
        statuses = [
            (await log_in(api, "guess", **{"X-Forwarded-For": f"203.0.113.{n}, 192.0.2.1"})).status
            for n in range(6)
        ]

    assert statuses == [401] * 5 + [429]


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (b"", b""),
        (b"POST /api/stats HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (b"POST /api/stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", b"}"),
        (
            b"POST /api/backtest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            b"1\r\n",
        ),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n", b"X: y\r\n"),
    ],
    ids=["nothing", "half a head", "half a body", "a chunk", "half of a second request"],
)
async def test_a_request_that_never_becomes_whole_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, then: bytes
) -> None:
    monkeypatch.setattr(Connection, "request_within_s", 0.3)
    async with served(tmp_path / "test.db") as api:
        host, port = api.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        await asyncio.sleep(0.1)
        writer.write(then)  # a byte now and then does not help
        answer = b""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionResetError):  # when it was given up before that byte came
                while piece := await reader.read(1_000):
                    answer += piece
        writer.close()

        assert reader.at_eof() or reader.exception() is not None
        assert b"408 Request Timeout" in answer or reader.exception() is not None


async def test_a_head_without_end_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path / "test.db") as api:
        host, port = api.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)))
        async with asyncio.timeout(10):
            answer = await reader.read(200)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_long_request_and_a_kept_connection_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "request_within_s", 0.2)
    async with served(tmp_path / "test.db") as api:
        async with api.http.get(f"{api.url}/api/stream") as listening:
            await asyncio.sleep(0.5)
            await api.post([OCEAN | {"latency_ms": 1.0 + n} for n in range(1_000)])
            await api.get("/api/about")
            async with asyncio.timeout(10):
                assert await listening.content.readany()


Made = Callable[[int], dict[str, Any]]


@pytest.mark.parametrize(
    ("limit", "path", "made", "status"),
    [
        ("MOST_ANNOTATIONS", "annotations", lambda n: {"text": f"{n}"}, 201),
        ("MOST_EXCLUSIONS", "exclusions",
         lambda n: {"from": "2025-01-01T00:00:00Z", "to": "2025-01-01T00:00:01Z", "reason": f"{n}"}, 201),
    ],
)  # fmt: skip
async def test_what_people_decide_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, path: str, made: Made, status: int
) -> None:
    monkeypatch.setattr(f"llmscope.api.phases.{limit}", 2)
    async with served(tmp_path / "test.db") as api:
        await api.post(OCEAN)
        statuses = []
        for n in range(3):
            async with api.http.post(f"{api.url}/api/series/1/{path}", json=made(n)) as answer:
                statuses.append(answer.status)

    assert statuses == [status, status, 429]

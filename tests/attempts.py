"""What an attacker may try, against real processes, and what the answer is; `python -m tests.attempts` prints it.

Two servers: one that others can reach, with a password and tokens, and one on loopback without any login.
"""

import asyncio
import contextlib
import csv
import http.client
import http.server
import io
import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.processes import App, alone, history, observation

from llmscope.access import digest_of, new_token
from llmscope.destination import ForbiddenAddress, checked_socket, refuse_forbidden
from llmscope.probe import open_session, reachable

PASSWORD = "correct horse battery"
INGEST = "ingest-0123456789abcdef0123456789"
PAGE = {"X-LLMscope-Page": "1"}
METADATA = "169.254.169.254"
SLOW_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; of one that never came the status is 0 and the text says why."""

    status: int
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def detail(self) -> str:
        try:
            return str(json.loads(self.text)["detail"])
        except (ValueError, KeyError, TypeError):
            return self.text[:160].replace("\n", " ")

    def __str__(self) -> str:
        return f"{self.status} {self.detail}".strip()


@dataclass
class Scene:
    """The servers, the tokens made for them, and the session of a browser that is logged in."""

    closed: App
    open: App
    tokens: dict[str, str]
    cookie: str = ""
    slow: socket.socket | None = None
    slow_since: float = 0.0

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}


def ask(
    app: App,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
    within_s: float = 30.0,
) -> Answer:
    """One request, its headers as they are given."""
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=within_s)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(errors="replace"), dict(answer.headers.items()))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def raw(app: App, request: bytes, within_s: float = 10.0) -> Answer:
    """Bytes as they are, and what comes back until the end or the first answer."""
    with socket.create_connection(("127.0.0.1", app.port), timeout=within_s) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return Answer(answer.status, answer.read().decode(errors="replace"), dict(answer.headers.items()))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, f"{type(error).__name__}: {error}")


def log_in(app: App, password: str, headers: dict[str, str] | None = None) -> Answer:
    named = {"Content-Type": "application/json"} | (headers or {})
    return ask(app, "POST", "/api/login", json.dumps({"password": password}), named)


@contextlib.contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Both servers with an hour of data, started."""
    settings = {"LLMSCOPE_PASSWORD": PASSWORD, "LLMSCOPE_INGEST_TOKEN": INGEST}
    closed = App(folder / "closed", ["serve", "--host", "0.0.0.0"], settings=settings)
    free = App(folder / "open", ["serve"])
    try:
        closed.start()
        free.start()
        closed.post(history(minutes=10), {"Authorization": f"Bearer {INGEST}"})
        free.post(history(minutes=10))
        tokens = {"ingest": INGEST, "invented": new_token()}
        for name, scope, more in (
            ("read", "read", []),
            ("admin", "admin", []),
            ("expired", "admin", ["--expires", "1s"]),
            ("revoked", "admin", []),
        ):
            tokens[name] = llmscope(
                closed, "token", "create", "--scope", scope, "--name", name, *more
            ).strip()
        llmscope(closed, "token", "revoke", "4")
        time.sleep(1.2)  # until the one has expired
        found = Scene(closed, free, tokens)
        found.cookie = log_in(closed, PASSWORD).headers["set-cookie"].partition(";")[0]
        found.slow = socket.create_connection(("127.0.0.1", closed.port))
        found.slow.sendall(b"POST /api/stats HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        found.slow_since = time.monotonic()
        yield found
        found.slow.close()
    finally:
        closed.stop()
        free.stop()


def llmscope(app: App, *words: str) -> str:
    """What a command says that runs beside the server, on its database."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "llmscope"), *words],
        cwd=app.folder, env=alone(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


# -- refused to start


def starting(*words: str, **settings: str) -> Answer:
    """A command that should not start: its exit status and its sentence."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "llmscope"), *words],
            cwd=folder, env=alone() | settings, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    return Answer(done.returncode, done.stderr.strip())


# -- where targets may be


def probed(url: str) -> Answer:
    """What a probe session says of a target there."""

    async def look() -> Answer:
        async with open_session() as session:
            found = await reachable(url, session)
        return Answer(0, found.error or "it was reached")

    return asyncio.run(look())


class Lying(AbstractResolver):
    """A name server that answers with an address of this machine when asked first, then with that of the metadata."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = "127.0.0.1" if self.asked == 1 else METADATA
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


def rebound(port: int) -> Answer:
    """A name that was checked and leads elsewhere when it is connected to."""

    async def look() -> Answer:
        connector = aiohttp.TCPConnector(
            resolver=Lying(), use_dns_cache=False, force_close=True, socket_factory=checked_socket
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"http://llm.example:{port}/healthz") as first:
                assert first.status == 200
            try:
                await session.get(f"http://llm.example:{port}/healthz")
            except aiohttp.ClientConnectorError as error:
                return Answer(0, str(error.os_error))
        return Answer(200, "it was asked")

    return asyncio.run(look())


def resolved(host: str) -> Answer:
    """What somebody is told who enters that name."""
    try:
        asyncio.run(refuse_forbidden(host, 80))
    except ForbiddenAddress as error:
        return Answer(0, error.sentence)
    return Answer(200, "allowed")


def redirected() -> Answer:
    """A target that sends the probe to the metadata."""

    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"http://{METADATA}/latest/meta-data/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = probed(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    return answer


# -- single attempts that take more than a request


def flood_of_logins(scene: Scene) -> Answer:
    answers = [log_in(scene.closed, "guess") for _ in range(8)]
    return answers[-1]


def formula_in_csv(scene: Scene) -> Answer:
    name = "=HYPERLINK(0)"
    rows = [observation(1000.0 + 3 * (i % 7), 120.0 - i, model=name) for i in range(60)]
    scene.open.post([*rows, observation(30_000.0, 1.0, model=name)])
    lines = list(csv.DictReader(io.StringIO(ask(scene.open, "GET", "/api/violations.csv").text)))
    cells = [line["model"] for line in lines if "HYPERLINK" in line["model"]]
    return Answer(200, f"the cell says {cells[0]}" if cells else "no violation")


def one_series_too_many(scene: Scene) -> Answer:
    known = len({(s["id"]) for s in scene.open.get("/api/series")["series"]})
    for start in range(0, 10_000 - known, 5_000):
        count = min(5_000, 10_000 - known - start)
        scene.open.post([{"provider": "x", "model": f"m{start + i}", "latency_ms": 1} for i in range(count)])
    body = json.dumps({"provider": "x", "model": "one more", "latency_ms": 1})
    return ask(scene.open, "POST", "/api/stats", body)


def invented_prompts(scene: Scene) -> Answer:
    for start in range(0, 12_000, 6_000):
        scene.open.post(
            [
                {"provider": "ollama", "model": "llama3.1:8b", "server": "localhost:11434", "latency_ms": 1}
                | {"prompt_hash": f"{start + i:x}", "prompt_text": "x"}
                for i in range(6_000)
            ]
        )
    with contextlib.closing(sqlite3.connect(scene.open.folder / "data" / "llmscope.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM prompt").fetchone()
    return Answer(200, f"stored; {count:,} prompts kept")


def invented_senders(scene: Scene) -> Answer:
    async def post() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
            body = json.dumps(observation(1660.0)).encode()

            async def one(number: int) -> None:
                headers = {"X-LLMscope-Sender": f"s{number}", "X-LLMscope-First-Seq": "1"}
                async with session.post(f"{scene.open.url}/api/stats", data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

            for start in range(0, 10_500, 500):
                await asyncio.gather(*(one(start + i) for i in range(500)))

    asyncio.run(post())
    with contextlib.closing(sqlite3.connect(scene.open.folder / "data" / "llmscope.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM sender").fetchone()
    return Answer(200, f"stored; {count:,} senders remembered")


def half_a_request(scene: Scene) -> Answer:
    """The connection that the scene opened and never finished."""
    assert scene.slow is not None
    scene.slow.settimeout(SLOW_AFTER_S + 10.0)
    answer = http.client.HTTPResponse(scene.slow)
    try:
        answer.begin()
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, type(error).__name__)
    return Answer(answer.status, f"after {time.monotonic() - scene.slow_since:.0f} s")


def endless_header(scene: Scene) -> Answer:
    return raw(scene.closed, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 1_000_000)


def forged_cookie(scene: Scene) -> str:
    name, _, text = scene.cookie.partition("=")
    return f"{name}={text[:-4]}{'AAAA' if text[-4:] != 'AAAA' else 'BBBB'}"


def planted_digest(scene: Scene) -> Answer:
    """The digest that the database holds is no token."""
    return ask(
        scene.closed, "GET", "/api/about",
        headers={"Authorization": f"Bearer {digest_of(scene.tokens['admin']).hex()}"},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is tried, with which status it must be answered, and words that the answer must hold."""

    what: str
    status: int
    words: str
    make: Callable[[Scene], Answer]


def get(path: str, on: str = "closed", **headers: str) -> Callable[[Scene], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda scene: ask(getattr(scene, on), "GET", path, headers=named)


def post(path: str, body: Any, on: str = "open", **headers: str) -> Callable[[Scene], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return lambda scene: ask(getattr(scene, on), "POST", path, text, named)


def with_token(name: str, method: str, path: str, body: Any = None) -> Callable[[Scene], Answer]:
    text = None if body is None else json.dumps(body)
    kind = {"Content-Type": "application/json"}
    return lambda scene: ask(scene.closed, method, path, text, scene.bearer(name) | kind)


def with_cookie(method: str, path: str, body: Any = None, **headers: str) -> Callable[[Scene], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = None if body is None else json.dumps(body)
    return lambda scene: ask(
        scene.closed, method, path, text, {"Cookie": scene.cookie, "Content-Type": "application/json"} | named
    )


NOTE = {"text": "mine"}
NOTES = "/api/series/1/annotations"
ONE = {"provider": "ollama", "model": "llama3", "latency_ms": 1}

ATTEMPTS = (
    Attempt("start beyond loopback without a login", 2, "LLMSCOPE_PASSWORD",
            lambda _: starting("serve", "--host", "0.0.0.0")),
    Attempt("start published by a proxy beyond loopback without a login", 2, "LLMSCOPE_PASSWORD",
            lambda _: starting("serve", LLMSCOPE_PUBLISHED_ON="0.0.0.0")),
    Attempt("start with a password of 7 characters", 2, "LLMSCOPE_PASSWORD",
            lambda _: starting("serve", LLMSCOPE_PASSWORD="hunter2")),
    Attempt("read without a token", 401, "asks who is calling", get("/api/about")),
    Attempt("the live stream without a login", 401, "asks who is calling", get("/api/stream")),
    Attempt("the export without a login", 401, "asks who is calling", get("/api/violations.csv")),
    Attempt("the documentation without a login", 401, "asks who is calling", get("/openapi.json")),
    Attempt("post observations without a token", 401, "asks who is calling", post("/api/stats", ONE, "closed")),
    Attempt("an invented token", 401, "not known here", with_token("invented", "GET", "/api/about")),
    Attempt("an expired token", 401, "not known here", with_token("expired", "GET", "/api/about")),
    Attempt("a revoked token", 401, "not known here", with_token("revoked", "GET", "/api/about")),
    Attempt("the stored digest as a token", 401, "not known here", planted_digest),
    Attempt("a token as Basic", 401, "not known here", get("/api/about", Authorization="Basic YTpi")),
    Attempt("ingest token reads", 403, "scope read", with_token("ingest", "GET", "/api/series")),
    Attempt("read token posts observations", 403, "scope ingest", with_token("read", "POST", "/api/stats", ONE)),
    Attempt("read token annotates", 403, "scope admin", with_token("read", "POST", NOTES, NOTE)),
    Attempt("ingest token annotates", 403, "scope admin", with_token("ingest", "POST", NOTES, NOTE)),
    Attempt("a forged session", 401, "asks who is calling",
            lambda scene: ask(scene.closed, "GET", "/api/about", headers={"Cookie": forged_cookie(scene)})),
    Attempt("a change with the session, without the page's header", 403, "X-LLMscope-Page",
            with_cookie("POST", NOTES, NOTE)),
    Attempt("a change with the session from another site", 403, "another site",
            with_cookie("POST", NOTES, NOTE, Origin="https://evil.example", **PAGE)),
    Attempt("a change with the session from another port of this host", 403, "another site",
            with_cookie("POST", NOTES, NOTE, Origin="http://127.0.0.1:1", Sec_Fetch_Site="same-site", **PAGE)),
    Attempt("a login made by another site", 403, "another site",
            lambda scene: log_in(scene.closed, PASSWORD, {"Origin": "https://evil.example"})),
    Attempt("post to the open server from another site", 403, "another site",
            post("/api/stats", ONE, Origin="https://evil.example", Content_Type="text/plain")),
    Attempt("the same where the origin is hidden", 403, "another site", post("/api/stats", ONE, Origin="null")),
    Attempt("a name that leads here (DNS rebinding)", 421, "LLMSCOPE_ALLOWED_HOSTS",
            get("/api/series", "open", Host="evil.example:8081")),
    Attempt("rebinding with a name that looks local", 421, "LLMSCOPE_ALLOWED_HOSTS",
            get("/api/series", "open", Host="localhost.evil.example")),
    Attempt("a forwarded host that nobody vouches for", 421, "LLMSCOPE_ALLOWED_HOSTS",
            get("/api/series", "open", Host="evil.example", X_Forwarded_Host="localhost")),
    Attempt("a pre-flight of another site", 405, "",
            lambda scene: ask(scene.open, "OPTIONS", "/api/stats", headers={"Origin": "https://evil.example"})),
    Attempt("out of the page's folder", 401, "", get("/../../../../etc/passwd")),
    Attempt("out of the page's folder, encoded, on the open server", 404, "",
            get("/..%2f..%2f..%2f..%2fetc%2fpasswd", "open")),
    Attempt("the key of the sessions as a file of the page", 404, "", get("/%2e%2e/data/llmscope.db.key", "open")),
    Attempt("a name in the path to pass the guard", 401, "", get("/assets/../api/about")),
    Attempt("a password guessed eight times", 429, "try again in", flood_of_logins),
    Attempt("9 MB in one body", 413, "at most 8,000,000", post("/api/stats", b" " * 9_000_000)),
    Attempt("2 MB to any other route", 413, "at most 1,000,000", post("/api/backtest", b" " * 2_000_000)),
    Attempt("50,000 observations at once", 413, "at most 20,000", post("/api/stats", [ONE] * 50_000)),
    Attempt("JSON 100,000 deep to ingest", 422, "", post("/api/stats", "[" * 100_000)),
    Attempt("JSON 100,000 deep under an unknown field", 422, "", post("/api/stats", '{"x":' * 100_000)),
    Attempt("JSON 100,000 deep to another route", 400, "",
            post("/api/backtest", "[" * 100_000, Content_Type="application/json")),
    Attempt("a model's name of 10,000 characters", 422, "model", post("/api/stats", ONE | {"model": "x" * 10_000})),
    Attempt("a sender's name of 65 characters", 422, "64 printable",
            post("/api/stats", ONE, X_LLMscope_Sender="x" * 65, X_LLMscope_First_Seq="1")),
    Attempt("a line break in a name, to forge a log or a header", 422, "printable",
            post("/api/stats", ONE | {"model": "a\r\nSet-Cookie: x=1"})),
    Attempt("a header of 1 MB", 431, "", endless_header),
    Attempt("no HTTP at all", 400, "Invalid HTTP",
            lambda scene: raw(scene.closed, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")),
    Attempt("two lengths (request smuggling)", 400, "Invalid HTTP",
            lambda scene: raw(scene.open, b"POST /api/stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
                                          b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nG")),
    Attempt("a formula in a name, exported as CSV", 200, "'=HYPERLINK", formula_in_csv),
    Attempt("12,000 invented prompts", 200, "10,000 prompts kept", invented_prompts),
    Attempt("10,500 invented senders", 200, "stored; 9,", invented_senders),
    Attempt("one series more than 10,000", 429, "at most 10000 series", one_series_too_many),
    Attempt(f"a target at {METADATA}", 0, "link-local or metadata", lambda _: probed(f"http://{METADATA}")),
    Attempt("the same, in decimal", 0, "not a canonical", lambda _: probed("http://2852039166")),
    Attempt("the same, in hexadecimal", 0, "link-local or metadata", lambda _: probed("http://0xa9fea9fe")),
    Attempt("the same, as IPv6", 0, "link-local or metadata", lambda _: probed(f"http://[::ffff:{METADATA}]")),
    Attempt("Amazon's metadata over IPv6", 0, "link-local or metadata", lambda _: resolved("fd00:ec2::254")),
    Attempt("a name that leads there the second time", 0, "link-local or metadata",
            lambda scene: rebound(scene.closed.port)),
    Attempt("a target that redirects there", 0, "a redirect", lambda _: redirected()),
    Attempt("half a request, held open", 408, "", half_a_request),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as servers:
        for attempt in ATTEMPTS:
            answer = attempt.make(servers)
            is_right = answer.status == attempt.status and attempt.words in answer.detail
            mark = " " if is_right else "!"
            sys.stdout.write(f"{mark} {attempt.what:58} {answer!s:.130}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

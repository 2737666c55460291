"""Ollama's protocol: what is measured, what is sent, and each way in which an answer can go wrong."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.probe.replay import Reply, free_port, recorded, replaying

from llmscope.observation import Observation
from llmscope.probe import SystemClock, Target, open_session, probe, prompt_hash
from llmscope.probe.instants import tracing

NOTHING_LOADED = Reply([b'{"models":[]}'], kind="application/json")
LOADED = Reply([recorded("ollama/probe-ps-loaded.json")], kind="application/json")
CLOCK = SystemClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


def target(url: str, **changes: Any) -> Target:
    fields: dict[str, Any] = {"provider": "ollama", "base_url": url, "model": "tiny", "timeout_s": 5.0}
    return Target(**fields | changes)


async def observe(
    http: aiohttp.ClientSession, reply: Reply, ps: Reply = NOTHING_LOADED, **changes: Any
) -> Observation:
    async with replaying(generate=reply, ps=ps) as server:
        observation = await probe(target(server.url, **changes), http, CLOCK)
    assert observation is not None
    return observation


def answer(name: str) -> Reply:
    return Reply([recorded(f"ollama/probe-{name}.ndjson")])


async def test_a_whole_answer_gives_the_servers_numbers_in_ms(http: aiohttp.ClientSession) -> None:
    before = dt.datetime.now(dt.UTC)
    seen = await observe(http, answer("whole"))

    assert seen.ok
    assert seen.error_kind is None
    assert seen.total_duration_ms == 275.134607
    assert seen.load_duration_ms == 260.054152
    assert seen.prompt_eval_duration_ms == 3.123
    assert seen.eval_duration_ms == 1.777
    assert (seen.prompt_eval_count, seen.eval_count) == (18, 5)
    assert seen.latency_ms is not None
    assert seen.ttft_ms is not None
    assert 0 < seen.ttft_ms <= seen.latency_ms
    assert seen.connect_ms is not None
    assert seen.prompt_hash == prompt_hash("Write one sentence about the ocean.")
    assert seen.prompt_text is None
    assert seen.timestamp is not None
    assert before <= dt.datetime.fromisoformat(seen.timestamp) <= dt.datetime.now(dt.UTC)


async def test_first_token_and_gaps_follow_the_pieces(http: aiohttp.ClientSession) -> None:
    lines = recorded("ollama/probe-whole.ndjson").splitlines(keepends=True)

    seen = await observe(http, Reply(lines, pause_s=0.03))  # 5 pieces and the last line, 30 ms apart

    assert seen.ttft_ms is not None
    assert seen.ttft_ms < 30
    assert seen.latency_ms is not None
    assert seen.latency_ms - seen.ttft_ms >= 5 * 29
    assert seen.gap_mean_ms is not None
    assert seen.gap_mean_ms >= 29
    assert seen.gap_max_ms is not None
    assert seen.gap_max_ms >= seen.gap_mean_ms


async def test_thinking_is_the_first_token_and_an_empty_piece_is_none(http: aiohttp.ClientSession) -> None:
    lines = recorded("ollama/probe-thinking-first.ndjson").splitlines(keepends=True)
    empty, thought, *rest = lines

    seen = await observe(http, Reply([empty, thought, b"".join(rest)], pause_s=0.05))

    assert seen.ttft_ms is not None
    assert seen.latency_ms is not None
    assert seen.ttft_ms >= 49  # not at the empty piece
    assert seen.latency_ms - seen.ttft_ms >= 49  # and not at the first word of the answer


@pytest.mark.parametrize("cut", [1, 7, 64])
async def test_lines_may_be_cut_anywhere(http: aiohttp.ClientSession, cut: int) -> None:
    whole = recorded("ollama/probe-whole.ndjson")

    seen = await observe(http, Reply([whole[i : i + cut] for i in range(0, len(whole), cut)]))

    assert seen.ok
    assert seen.eval_count == 5


@pytest.mark.parametrize("name", ["chat", "no-newline-at-the-end"])
async def test_shapes_that_are_fine_too(http: aiohttp.ClientSession, name: str) -> None:
    seen = await observe(http, answer(name))

    assert seen.ok
    assert seen.ttft_ms is not None
    assert seen.eval_count == 5


async def test_what_the_server_leaves_out_is_none(http: aiohttp.ClientSession) -> None:
    seen = await observe(http, answer("absent-numbers"))

    assert seen.ok
    assert seen.total_duration_ms == 8.915139
    assert seen.load_duration_ms is None
    assert seen.prompt_eval_duration_ms is None
    assert seen.prompt_eval_count is None
    assert seen.eval_duration_ms is None


async def test_numbers_that_make_no_sense_are_none(http: aiohttp.ClientSession) -> None:
    seen = await observe(http, answer("odd-numbers"))

    assert seen.ok
    assert seen.total_duration_ms is None
    assert seen.load_duration_ms is None
    assert seen.prompt_eval_duration_ms is None
    assert seen.prompt_eval_count is None
    assert seen.eval_count is None


async def test_an_answer_without_a_word_has_no_first_token(http: aiohttp.ClientSession) -> None:
    seen = await observe(http, answer("stops-at-once"))

    assert seen.ok
    assert seen.latency_ms is not None
    assert seen.ttft_ms is None
    assert seen.gap_mean_ms is None


WHOLE = recorded("ollama/probe-whole.ndjson")
TRAPS = {
    "error line after 200": (answer("error-line-after-200"), "server_error", "unexpected EOF"),
    "no last line": (answer("no-last-line"), "truncated", "last line"),
    "half a line": (answer("half-line"), "truncated", "middle of a line"),
    "closed in the middle": (Reply([WHOLE[:300]], ending="closed"), "truncated", "closed the connection"),
    "reset in the middle": (
        Reply([WHOLE[:300]], ending="reset", pause_s=0.05),
        "truncated",
        "the connection",
    ),
    "closed before a byte": (Reply([], 0, ending="closed"), "truncated", "closed the connection"),
    "reset before a byte": (Reply([], 0, ending="reset"), "truncated", "the connection"),
    "empty body": (Reply([]), "truncated", "last line"),
    "a page": (Reply([recorded("ollama/probe-page-of-a-proxy.html")]), "bad_response", "not JSON"),
    "a list": (Reply([b"[1,2]\n"]), "bad_response", "not a JSON object"),
    "a line without end": (Reply([b"x" * 1_100_000]), "bad_response", "1,000,000 bytes"),
    "not HTTP": (Reply([b"SSH-2.0-OpenSSH_9\r\n"], 0, ending="closed"), "bad_response", "not HTTP"),
    "a redirect": (Reply([], 302, headers={"Location": "/login"}), "bad_response", "redirect to /login"),
    "model missing": (
        Reply([b'{"error":"model \'tiny\' not found"}'], 404),
        "http_404",
        "model 'tiny' not found",
    ),
    "page not found": (Reply([b"404 page not found"], 404, "text/plain"), "http_404", "page not found"),
    "queue full": (
        Reply([b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'], 503),
        "busy",
        "server busy",
    ),
    "too many": (Reply([b'{"error":"slow down"}'], 429), "busy", "slow down"),
    "runner broke": (Reply([b'{"error":"llama runner terminated"}'], 500), "server_error", "terminated"),
    "host not allowed": (Reply([], 403), "server_error", "HTTP 403"),
    "bad gateway": (Reply([b"<html>nginx</html>"], 502, "text/html"), "server_error", "HTTP 502"),
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_a_failure_is_an_observation_with_its_kind(http: aiohttp.ClientSession, trap: str) -> None:
    reply, kind, words = TRAPS[trap]

    seen = await observe(http, reply)

    assert not seen.ok
    assert seen.error_kind == kind
    assert seen.error is not None
    assert words in seen.error
    assert len(seen.error) <= 300
    assert seen.latency_ms is None
    assert seen.ttft_ms is None
    assert seen.timestamp is not None


@pytest.mark.parametrize("pieces", [[], [WHOLE[:300]]])
async def test_silence_is_a_timeout(http: aiohttp.ClientSession, pieces: list[bytes]) -> None:
    seen = await observe(http, Reply(pieces, ending="silent"), timeout_s=0.2)

    assert (seen.ok, seen.error_kind, seen.latency_ms) == (False, "timeout", None)


async def test_nobody_there_is_refused(http: aiohttp.ClientSession) -> None:
    seen = await probe(target(f"http://127.0.0.1:{free_port()}"), http, CLOCK)

    assert seen is not None
    assert (seen.ok, seen.error_kind, seen.latency_ms) == (False, "refused", None)
    assert seen.error is not None
    assert "connection refused" in seen.error


async def test_a_name_that_nobody_has_is_refused(http: aiohttp.ClientSession) -> None:
    seen = await probe(target("http://nobody.invalid:11434"), http, CLOCK)

    assert seen is not None
    assert (seen.error_kind, seen.error) == ("refused", "no such host: nobody.invalid")


async def test_a_loaded_model_is_asked_with_its_own_context_length(http: aiohttp.ClientSession) -> None:
    async with replaying(generate=answer("whole"), ps=LOADED) as server:
        await probe(target(server.url), http, CLOCK)
        (asked,) = server.posts()

    assert asked.body["options"] == {"num_predict": 32, "temperature": 0, "seed": 7, "num_ctx": 2048}
    assert asked.body["model"] == "tiny"
    assert set(asked.body) == {"model", "prompt", "stream", "options"}  # above all, no keep_alive


@pytest.mark.parametrize(
    ("ps", "model"),
    [
        (NOTHING_LOADED, "tiny"),
        (LOADED, "tiny:q8"),
        (Reply([b"404 page not found"], 404, "text/plain"), "tiny"),
        (Reply([b'{"models":[{"name":"tiny:latest"}]}']), "tiny"),  # older servers do not tell the length
    ],
)
async def test_no_context_length_is_sent_where_none_is_known(
    http: aiohttp.ClientSession, ps: Reply, model: str
) -> None:
    async with replaying(generate=answer("whole"), ps=ps) as server:
        seen = await probe(target(server.url, model=model), http, CLOCK)
        (asked,) = server.posts()

    assert seen is not None
    assert seen.ok
    assert "num_ctx" not in asked.body["options"]


async def test_each_prompt_begins_with_a_nonce_of_the_same_length(http: aiohttp.ClientSession) -> None:
    async with replaying(generate=answer("whole"), ps=LOADED) as server:
        for _ in range(3):
            await probe(target(server.url), http, CLOCK)
        prompts = [asked.body["prompt"] for asked in server.posts()]

    heads, rests = zip(*(prompt.split("\n") for prompt in prompts), strict=True)
    assert len(set(heads)) == 3
    assert {len(head) for head in heads} == {9}
    assert set(rests) == {"Write one sentence about the ocean."}


async def test_only_while_loaded_leaves_an_unloaded_model_alone(http: aiohttp.ClientSession) -> None:
    async with replaying(generate=answer("whole"), ps=[NOTHING_LOADED, LOADED]) as server:
        here = target(server.url, when="loaded")
        unloaded = await probe(here, http, CLOCK)
        asked = len(server.posts())
        loaded = await probe(here, http, CLOCK)

    assert unloaded is None
    assert asked == 0
    assert loaded is not None
    assert loaded.ok


@pytest.mark.parametrize(
    ("ps", "kind"),
    [
        (Reply([], ending="closed"), "truncated"),
        (Reply([b'{"error":"busy"}'], 503), "busy"),
        (Reply([b"hello"]), "bad_response"),
    ],
)
async def test_a_server_whose_state_is_unknown_is_not_asked_in_the_dark(
    http: aiohttp.ClientSession, ps: Reply, kind: str
) -> None:
    async with replaying(generate=answer("whole"), ps=ps) as server:
        seen = await probe(target(server.url), http, CLOCK)
        asked = server.posts()

    assert seen is not None
    assert seen.error_kind == kind
    assert asked == []


async def test_every_probe_makes_its_own_connection(http: aiohttp.ClientSession) -> None:
    async with replaying(generate=answer("whole"), ps=LOADED) as server:
        for _ in range(2):
            await probe(target(server.url), http, CLOCK)
        connections = [asked.connection for asked in server.asked]

    assert connections == [1, 2, 3, 4]


async def test_a_kept_connection_that_was_closed_is_replaced_and_not_a_failure() -> None:
    broken = Reply([], 0, ending="closed")
    async with (
        aiohttp.ClientSession(trace_configs=[tracing()]) as kept,
        replaying(generate=[broken, answer("whole")], ps=LOADED) as server,
    ):
        seen = await probe(target(server.url), kept, CLOCK)
        connections = [asked.connection for asked in server.posts()]

    assert seen is not None
    assert seen.ok
    assert connections == [1, 2]  # the connection of /api/ps, then a new one


async def test_secrets_stay_out_of_names_and_messages(http: aiohttp.ClientSession) -> None:
    reply = Reply([b'{"error":"bad key hunter2 for user"}'], 401)
    async with replaying(generate=reply, ps=LOADED) as server:
        here = target(server.url, api_key="hunter2")
        seen = await probe(here, http, CLOCK)
        (asked,) = server.posts()

    assert asked.headers["authorization"] == "Bearer hunter2"
    assert seen is not None
    assert seen.error == "HTTP 401: bad key *** for user"
    assert "hunter2" not in f"{here!r} {here} {seen}"


async def test_a_user_in_the_address_is_sent_and_not_shown(http: aiohttp.ClientSession) -> None:
    async with replaying(generate=answer("whole"), ps=LOADED) as server:
        here = target(server.url.replace("http://", "http://ann:pass4word@"), api_key="hunter2")
        seen = await probe(here, http, CLOCK)
        (asked,) = server.posts()

    assert seen is not None
    assert seen.ok
    assert asked.headers["authorization"] == "Basic YW5uOnBhc3M0d29yZA=="  # ann:pass4word
    assert seen.server == server.url.removeprefix("http://")
    assert "pass4word" not in f"{here!r} {here} {seen}"


def test_an_address_that_is_none_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="'localhost:11434' is not the address of a server"):
        target("localhost:11434")

"""What is at an address, and why it cannot be reached."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.probe.replay import Reply, free_port, recorded, replaying

from llmscope.probe import (
    ProbeFailed,
    Unreachable,
    detect,
    find_model,
    find_target,
    open_session,
    reachable,
    url_of,
)

VERSION = Reply([b'{"version":"0.33.0"}'], kind="application/json")
TAGS = Reply([recorded("ollama/probe-tags.json")], kind="application/json")
LOADED = Reply([recorded("ollama/probe-ps-loaded.json")], kind="application/json")
UNLOADED = Reply([b'{"models":[]}'], kind="application/json")
MODELS = Reply([b'{"object":"list","data":[{"id":"tiny.gguf"},{"id":"other"}]}'], kind="application/json")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def test_the_protocol_is_what_the_server_answers_to(http: aiohttp.ClientSession) -> None:
    async with replaying(version=VERSION, models=MODELS) as ollama, replaying(models=MODELS) as other:
        assert await detect(ollama.url, http) == "ollama"
        assert await detect(f"{ollama.url}/v1", http) == "openai"  # the address says so
        assert await detect(other.url, http) == "openai"


async def test_nobody_there_is_said_with_its_kind(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ProbeFailed) as refused:
        await detect(f"http://127.0.0.1:{free_port()}", http)

    assert refused.value.kind == "refused"


async def test_the_loaded_model_is_taken_else_the_first_that_answers_prompts(
    http: aiohttp.ClientSession,
) -> None:
    async with replaying(version=VERSION, tags=TAGS, ps=[LOADED, UNLOADED]) as server:
        loaded = await find_model(server.url, http)
        first = await find_model(server.url, http)

    assert (loaded, first) == ("tiny:latest", "small:latest")  # before it stands one that only embeds


async def test_a_target_is_found_from_its_address_alone(http: aiohttp.ClientSession) -> None:
    async with replaying(models=MODELS) as server:
        bare = server.url.removeprefix("http://")
        target = await find_target(bare, http, num_predict=8)

    assert (target.provider, target.model, target.server, target.num_predict) == (
        "openai",
        "tiny.gguf",
        bare,
        8,
    )


async def test_what_is_missing_is_said_with_the_remedy(http: aiohttp.ClientSession) -> None:
    port = free_port()
    with pytest.raises(
        Unreachable, match=rf"Cannot reach the server at 127.0.0.1:{port}: connection refused"
    ):
        await find_target(f"http://127.0.0.1:{port}", http)
    async with replaying(version=VERSION, tags=UNLOADED, ps=UNLOADED) as empty:
        with pytest.raises(Unreachable, match='has no model: run "ollama pull MODEL", or pass --model'):
            await find_target(empty.url, http)


async def test_a_check_of_the_target_tells_all(http: aiohttp.ClientSession) -> None:
    async with replaying(version=VERSION, tags=TAGS, ps=LOADED) as server:
        reach = await reachable(server.url, http)
    gone = await reachable(server.url, http)

    assert (reach.provider, reach.version, reach.error_kind) == ("ollama", "0.33.0", None)
    assert reach.models == ("small:latest", "tiny:latest")
    assert reach.loaded == ("tiny:latest",)
    assert reach.has("tiny")
    assert not reach.has("tiny:q8")
    assert (gone.provider, gone.error_kind) == (None, "refused")


def test_an_ipv6_address_keeps_its_brackets() -> None:
    assert url_of("[::]:11500") == "http://127.0.0.1:11500"
    assert url_of("http://[fd00::1]:80/") == "http://[fd00::1]:80"

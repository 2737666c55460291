"""What is at an address: which protocol it speaks, which models it has, and why it cannot be reached."""

from dataclasses import dataclass
from typing import Any

import aiohttp

from llmscope.observation import ErrorKind
from llmscope.probe.exchange import ProbeFailed, ask, entries
from llmscope.probe.ollama import full_name
from llmscope.probe.openai import api_root
from llmscope.probe.target import Provider, Target, headers_for, server_of, split_url, url_of

NAMES: dict[Provider, str] = {"ollama": "Ollama", "openai": "The OpenAI-compatible server"}
NO_LANGUAGE = ("bert", "nomic-bert", "clip")  # families that embed and cannot answer a prompt


@dataclass(frozen=True, slots=True)
class Reach:
    """What `reachable` found. `error_kind` None means that the server answered as its protocol says."""

    provider: Provider | None
    version: str | None
    models: tuple[str, ...]
    loaded: tuple[str, ...]
    error_kind: ErrorKind | None = None
    error: str | None = None

    def has(self, model: str) -> bool:
        """Whether the server lists the model; Ollama's tag `latest` may be left out."""
        return model in self.models or full_name(model) in map(full_name, self.models)


class Unreachable(Exception):
    """No target at this address: nobody answers, or no model is there. The message is a sentence for people."""

    def __init__(self, message: str, kind: ErrorKind, reason: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason

    @property
    def in_brackets(self) -> str:
        return f" ({self.reason})" if self.reason else ""


async def find_target(
    url: str,
    http: aiohttp.ClientSession,
    *,
    model: str | None = None,
    provider: Provider | None = None,
    api_key: str | None = None,
    **settings: Any,
) -> Target:
    """The target at an address, its protocol and model found where they are not named. Raises Unreachable.

    A model that is named is not looked for: a probe of one that is missing says so, again and again.
    `settings` are other fields of the target.
    """
    base_url = url_of(url)
    try:
        if provider is None:
            provider = await detect(base_url, http, api_key)
        if model is None:
            loaded, models = await _models(provider, base_url, http, api_key)
            model = next(iter(loaded + models), None)
    except ProbeFailed as failure:
        who = (
            f"the server at {server_of(base_url)}"
            if provider is None
            else f"{NAMES[provider]} at {server_of(base_url)}"
        )
        message = f"Cannot reach {who}: {failure.message}."
        raise Unreachable(message, failure.kind, failure.message) from None
    if model is None:
        remedy = 'run "ollama pull MODEL"' if provider == "ollama" else "load one there"
        message = f"{NAMES[provider]} at {server_of(base_url)} has no model: {remedy}, or pass --model."
        raise Unreachable(message, "http_404", "it has no model")
    return Target(provider=provider, base_url=base_url, model=model, api_key=api_key, **settings)


async def detect(base_url: str, http: aiohttp.ClientSession, api_key: str | None = None) -> Provider:
    """The protocol to speak: OpenAI's for an address that ends in /v1, else what the server answers to.

    Raises ProbeFailed when it answers to neither `/api/version` nor `/v1/models`, or not at all.
    """
    base_url = base_url.rstrip("/")
    if split_url(base_url).path.endswith("/v1"):
        return "openai"
    try:
        if "version" in await ask(http, f"{base_url}/api/version", headers_for(base_url, api_key)):
            return "ollama"
    except ProbeFailed as failure:
        if failure.kind in ("refused", "timeout"):
            raise
    await ask(http, f"{api_root(base_url)}/models", headers_for(base_url, api_key))
    return "openai"


async def find_model(base_url: str, http: aiohttp.ClientSession, api_key: str | None = None) -> str | None:
    """The model to probe when none was named: the one that is loaded, else the first; None if there is none.

    Models that only embed are passed over. Raises ProbeFailed when the server cannot be asked.
    """
    provider = await detect(base_url, http, api_key)
    loaded, models = await _models(provider, base_url.rstrip("/"), http, api_key)
    return next(iter(loaded + models), None)


async def reachable(base_url: str, http: aiohttp.ClientSession, api_key: str | None = None) -> Reach:
    """Everything that a check of the target wants to know; a failure is in the result."""
    base_url = base_url.rstrip("/")
    provider: Provider | None = None
    version: str | None = None
    try:
        provider = await detect(base_url, http, api_key)
        if provider == "ollama":
            version = str(
                (await ask(http, f"{base_url}/api/version", headers_for(base_url, api_key))).get("version")
            )
        loaded, models = await _models(provider, base_url, http, api_key)
    except ProbeFailed as failure:
        return Reach(provider, version, (), (), failure.kind, failure.message)
    return Reach(provider, version, models, loaded)


async def _models(
    provider: Provider, base_url: str, http: aiohttp.ClientSession, api_key: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Models that are loaded, and all models, that can answer a prompt."""
    headers = headers_for(base_url, api_key)
    if provider == "openai":
        listed = await ask(http, f"{api_root(base_url)}/models", headers)
        return (), tuple(str(entry["id"]) for entry in entries(listed, "data") if "id" in entry)
    tags = list(entries(await ask(http, f"{base_url}/api/tags", headers), "models"))
    try:
        running = list(entries(await ask(http, f"{base_url}/api/ps", headers), "models"))
    except ProbeFailed as failure:
        if failure.status is None:
            raise
        running = []
    silent = {str(entry.get("name")) for entry in (*tags, *running) if not _answers(entry)}
    loaded, models = (
        tuple(name for entry in part if (name := str(entry.get("name"))) not in silent)
        for part in (running, tags)
    )
    return loaded, models


def _answers(entry: dict[str, Any]) -> bool:
    capabilities = entry.get("capabilities")
    if isinstance(capabilities, list) and capabilities:
        return "completion" in capabilities
    details = entry.get("details")
    return not (isinstance(details, dict) and details.get("family") in NO_LANGUAGE)

"""Measuring one answer of a language model: one module per protocol, each with the function `probe`."""

from collections.abc import Awaitable, Callable

import aiohttp

from llmscope.observation import Observation
from llmscope.probe import ollama, openai
from llmscope.probe.discovery import Reach, Unreachable, detect, find_model, find_target, reachable
from llmscope.probe.exchange import ProbeFailed
from llmscope.probe.instants import Clock, SystemClock, open_session
from llmscope.probe.prompt import OCEAN, prompt_hash
from llmscope.probe.target import Provider, Target, server_of, url_of

__all__ = [
    "OCEAN",
    "PROBES",
    "Clock",
    "ProbeFailed",
    "Provider",
    "Reach",
    "SystemClock",
    "Target",
    "Unreachable",
    "detect",
    "find_model",
    "find_target",
    "open_session",
    "probe",
    "prompt_hash",
    "reachable",
    "server_of",
    "url_of",
]

Probe = Callable[[Target, aiohttp.ClientSession, Clock], Awaitable[Observation | None]]

PROBES: dict[Provider, Probe] = {"ollama": ollama.probe, "openai": openai.probe}


async def probe(target: Target, http: aiohttp.ClientSession, clock: Clock) -> Observation | None:
    """Measure one answer of the target; `http` is from `open_session`.

    A failure is an observation too (`ok` False). None means that nothing was asked: the target is to be
    probed only while its model is loaded, and it is not.
    """
    return await PROBES[target.provider](target, http, clock)

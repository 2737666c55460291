"""How Ollama writes its answers down: the native dialects of generate and chat, and OpenAI's."""

import datetime as dt
import json
from typing import Any, Protocol

from llmscope.simulator.machine import CRASHED, Job
from llmscope.simulator.model import Model

JSON = "application/json; charset=utf-8"
FOR_EVER_NS = 2**63 - 1  # keep_alive -1 expires that long from now: a real server shows the year 2319
MODIFIED_AT = "2026-11-01T08:00:00.52Z"
CREATED_S = 1_793_520_000


class Dialect(Protocol):
    """One endpoint's way of writing an answer. `name` is the model as the client wrote it."""

    stream_type: str
    json_type: str

    def piece(self, name: str, text: str, now_ns: int) -> bytes:
        """One token of a stream."""

    def last(self, name: str, job: Job, now: float, now_ns: int) -> bytes:
        """The end of a stream."""

    def whole(self, name: str, text: str, job: Job, now: float, now_ns: int) -> dict[str, Any]:
        """An answer that is not streamed."""

    def broken(self) -> bytes:
        """The end of a stream whose runner crashed; the status has been 200 all along."""


class Generate:
    """`/api/generate`: NDJSON with `response`."""

    stream_type = "application/x-ndjson"
    json_type = JSON
    has_context = True

    def said(self, text: str) -> dict[str, Any]:
        return {"response": text}

    def empty(self, name: str, reason: str, now_ns: int) -> dict[str, Any]:
        """The answer to a request without prompt: the model was loaded, or unloaded."""
        return {**self._head(name, "", now_ns), "done": True, "done_reason": reason}

    def piece(self, name: str, text: str, now_ns: int) -> bytes:
        return dump({**self._head(name, text, now_ns), "done": False}) + b"\n"

    def last(self, name: str, job: Job, now: float, now_ns: int) -> bytes:
        return dump(self.whole(name, "", job, now, now_ns)) + b"\n"

    def whole(self, name: str, text: str, job: Job, now: float, now_ns: int) -> dict[str, Any]:
        context = list(range(259, 259 + len(job.prompt) - 1 + job.shown_tokens))  # any numbers will do
        return {
            **self._head(name, text, now_ns),
            "done": True,
            "done_reason": job.done_reason,
            **({"context": context} if self.has_context else {}),
            **job.numbers(now),
        }

    def broken(self) -> bytes:
        return dump({"error": CRASHED}) + b"\n"

    def _head(self, name: str, text: str, now_ns: int) -> dict[str, Any]:
        return {"model": name, "created_at": rfc3339(now_ns), **self.said(text)}


class Chat(Generate):
    """`/api/chat`: NDJSON with `message`, and no context."""

    has_context = False

    def said(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}


class OpenAIChat:
    """`/v1/chat/completions`: server-sent events without any duration."""

    stream_type = "text/event-stream"
    json_type = "application/json"

    def __init__(self, number: int, created_s: int, *, with_usage: bool) -> None:
        self._id = f"chatcmpl-{number}"
        self._created_s = created_s
        self._with_usage = with_usage
        self._has_said_role = False

    def piece(self, name: str, text: str, now_ns: int) -> bytes:
        delta = {"content": text} if self._has_said_role else {"role": "assistant", "content": text}
        self._has_said_role = True
        return self._event(name, delta, None)

    def last(self, name: str, job: Job, now: float, now_ns: int) -> bytes:
        events = self._event(name, {}, job.done_reason)
        if self._with_usage:
            events += _event(
                {**self._head(name, "chat.completion.chunk"), "choices": [], "usage": usage(job)}
            )
        return events + b"data: [DONE]\n\n"

    def whole(self, name: str, text: str, job: Job, now: float, now_ns: int) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": job.done_reason,
        }
        return {**self._head(name, "chat.completion"), "choices": [choice], "usage": usage(job)}

    def broken(self) -> bytes:
        self._has_said_role = True
        return self._event("", {"content": ""}, None)

    def _head(self, name: str, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created_s,
            "model": name,
            "system_fingerprint": "fp_ollama",
        }

    def _event(self, name: str, delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head(name, "chat.completion.chunk"), "choices": [choice]})


def usage(job: Job) -> dict[str, int]:
    return {
        "prompt_tokens": len(job.prompt),
        "completion_tokens": job.eval_count,
        "total_tokens": len(job.prompt) + job.eval_count,
    }


def openai_error(status: int, message: str) -> dict[str, Any]:
    """An error as the paths under /v1 say it."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization,
    }


def tag(model: Model) -> dict[str, Any]:
    """A model in `/api/tags`."""
    lengths = {"context_length": model.context_length, "embedding_length": model.embedding_length}
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": MODIFIED_AT,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details(model) | lengths,
        "capabilities": ["completion"],
    }


def in_memory(model: Model, num_ctx: int, expires_ns: int) -> dict[str, Any]:
    """A model in `/api/ps`."""
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details(model),
        "expires_at": rfc3339(expires_ns),
        "size_vram": model.size_bytes,
        "context_length": num_ctx,
    }


def shown(model: Model) -> dict[str, Any]:
    """The answer of `/api/show`."""
    shape = [model.embedding_length, 32_000]
    return {
        "modelfile": f"FROM {model.name}\nTEMPLATE {{{{ .Prompt }}}}\n",
        "parameters": "temperature                    0.8",
        "template": "{{ .Prompt }}",
        "details": details(model),
        "model_info": {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context_length,
            f"{model.family}.embedding_length": model.embedding_length,
        },
        "tensors": [{"name": "token_embd.weight", "type": model.quantization, "shape": shape}],
        "capabilities": ["completion"],
        "modified_at": MODIFIED_AT,
    }


def openai_model(model: Model) -> dict[str, Any]:
    """A model in `/v1/models`."""
    return {"id": model.name, "object": "model", "created": CREATED_S, "owned_by": "library"}


def dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def rfc3339(epoch_ns: int) -> str:
    """UTC, to the nanosecond, without trailing zeros, as Go writes it.

    >>> rfc3339(1_795_434_826_200_840_040), rfc3339(1_795_434_826_000_000_000)
    ('2026-11-23T11:53:46.20084004Z', '2026-11-23T11:53:46Z')
    """
    seconds, ns = divmod(epoch_ns, 1_000_000_000)
    fraction = f".{ns:09d}".rstrip("0").rstrip(".")
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + dump(document) + b"\n\n"

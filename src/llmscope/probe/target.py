"""A model on an LLM server, and how it is to be probed."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from llmscope.probe.prompt import OCEAN

Provider = Literal["ollama", "openai"]
OLLAMA_PORT = 11434
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class Quirks:
    """What a server was found not to accept; learnt from its 400s, so that each is met only once."""

    no_stream_options: bool = False
    no_temperature: bool = False
    max_completion_tokens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model on an LLM server and how to reach it.

    `when` is "always", or "loaded" to leave a model alone while the server has it unloaded (Ollama only).
    `server` names the server in the series; left empty it is the host and port of the address.
    `num_predict` bounds the answer: the fewer replies end by themselves, the better lengths compare.
    The address is checked here; ValueError says what is wrong with it.

    >>> Target(provider="ollama", base_url="http://localhost:11434/", model="llama3").server
    'localhost:11434'
    """

    provider: Provider
    base_url: str
    model: str
    server: str = ""
    source: Literal["probe", "simulator"] = "probe"
    api_key: str | None = None
    prompt: str = OCEAN
    num_predict: int = 32
    timeout_s: float = 60.0
    when: Literal["always", "loaded"] = "always"
    quirks: Quirks = field(default_factory=Quirks, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        object.__setattr__(self, "server", self.server or server_of(self.base_url))

    def __repr__(self) -> str:
        return f"Target({self.provider} {self.model!r} at {self.server}, {self.source}, when={self.when})"

    @property
    def headers(self) -> dict[str, str]:
        """What every request to this server carries."""
        return headers_for(self.base_url, self.api_key)

    def without_secrets(self, text: str) -> str:
        """The text, should a server have echoed the key in it, without the key."""
        secrets = [self.api_key, split_url(self.base_url).password]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


def headers_for(url: str, api_key: str | None) -> dict[str, str]:
    """Identity encoding, because a compressor holds pieces back; and the key, unless the address names a user."""
    headers = {"Accept-Encoding": "identity"}
    if api_key is None or split_url(url).username is not None:
        return headers
    return headers | {"Authorization": f"Bearer {api_key}"}


def split_url(url: str) -> SplitResult:
    """Its parts; raises ValueError in a sentence that names the address."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a server; write http://HOST:PORT")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r} has no valid port; write http://HOST:PORT") from None
    return parts


def server_of(url: str) -> str:
    """Host and port, without what the address says of users and paths."""
    parts = split_url(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or DEFAULT_PORTS[parts.scheme]}"


def url_of(text: str) -> str:
    """The address that people mean: OLLAMA_HOST may lack scheme and port, and may name "all interfaces".

    >>> [url_of(t) for t in ("0.0.0.0", "gpu-box:8080", "https://llm.example/v1/", ":11500")]
    ['http://127.0.0.1:11434', 'http://gpu-box:8080', 'https://llm.example/v1', 'http://127.0.0.1:11500']
    """
    text = text.strip().rstrip("/")
    has_scheme = "://" in text
    if text.startswith(":"):
        text = "127.0.0.1" + text
    parts = split_url(text if has_scheme else f"http://{text}")
    host = parts.hostname or ""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    port = parts.port or (None if has_scheme else OLLAMA_PORT)
    user, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    netloc = f"{user}{at}{shown}" + (f":{port}" if port else "")
    return parts._replace(netloc=netloc).geturl().rstrip("/")

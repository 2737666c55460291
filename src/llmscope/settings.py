"""Every setting of LLMscope, typed, in one place: flags over environment over llmscope.toml over defaults.

`load` reads them and turns what is wrong into one sentence; docs/settings.md is generated from here.
"""

import difflib
import ipaddress
import json
import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from llmscope.access import is_loopback

DEFAULT_OLLAMA = "http://localhost:11434"
CONFIG_FILE = "llmscope.toml"
METRIC_KEYS = (
    "latency",
    "ttft",
    "queue",
    "load",
    "prompt_ms_per_token",
    "ms_per_token",
    "tokens_per_second",
)
PRIVATE_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
DURATIONS = ("latency", "ttft", "queue", "load")  # of these metrics, those that are shown in seconds
OWN_PATHS = ("api", "assets", "docs", "healthz", "readyz")  # below one of these a request could mean either


class WrongSetting(ValueError):
    """A setting has a value that cannot be used; the message names it as the user wrote it."""


def seconds(value: Any) -> Any:
    """A duration in seconds from a number or a text with a unit.

    >>> [seconds(text) for text in ("2", "2s", "500ms", "1.5m")]
    [2.0, 2.0, 0.5, 90.0]
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*", value)
    if found is None:
        raise ValueError("must be a duration such as 2s or 500ms")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}[found[2]]


def keep_time(value: Any) -> Any:
    """Seconds for which something is kept, from a text with a unit; infinity is for ever.

    >>> [keep_time(text) for text in ("12h", "30d", "1y", "forever")]
    [43200.0, 2592000.0, 31536000.0, inf]
    """
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|d|w|y)", text)
    if text == "forever":
        return math.inf
    if found is None:
        raise ValueError("must be a time such as 30d, 8w or 1y, or forever")
    return float(found[1]) * {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}[found[2]]


def address(value: Any, default_port: int = 11434) -> Any:
    """A base URL from what people write in OLLAMA_HOST; "all interfaces" means this machine to a client.

    >>> [address(text) for text in ("localhost", "gpu-box:9000", ":11500", "https://llm.example/v1/", "::1")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['http://localhost:11434', 'http://gpu-box:9000', 'http://127.0.0.1:11500', 'https://llm.example/v1',
     'http://[::1]:11434']
    >>> address("http://0.0.0.0:11434")
    'http://127.0.0.1:11434'
    """
    if not isinstance(value, str):
        return value
    text = value.strip().rstrip("/")
    has_scheme = "://" in text
    if not has_scheme:
        text = f"http://{_bracketed(text)}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or parts.scheme not in ("http", "https") or parts.query or re.search(r"[\s#]", text):
        raise ValueError(f"must be an address such as http://localhost:{default_port}")
    user, at, _ = parts.netloc.rpartition("@")
    if port is None and not has_scheme:
        port = default_port
    host = _bracketed("127.0.0.1" if host in ("0.0.0.0", "::") else host)
    return parts._replace(netloc=f"{user}{at}{host}" + (f":{port}" if port else "")).geturl()


def _bracketed(host: str) -> str:
    """An IPv6 address in brackets, a port alone with this machine before it, anything else as it is."""
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return f"127.0.0.1{host}" if host.startswith(":") else host


def api_address(value: Any) -> Any:
    """The base URL of an LLMscope: as `address`, its port 8000 when none is named."""
    return address(value, default_port=8000)


def share(value: Any) -> Any:
    """A share from a number or a percentage.

    >>> [share(text) for text in ("10%", "0.1", "0")]
    [0.1, 0.1, 0.0]
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
    if found is None or not 0.0 <= (number := float(found[1]) / (100.0 if found[2] else 1.0)) <= 1.0:
        raise ValueError("must be a share such as 10% or 0.1, at most 100%")
    return number


def budget_text(value: str) -> str:
    """How many false alarms are accepted, as `spc.calibration.Budget` reads it."""
    text = value.strip().lower()
    if text != "none" and re.fullmatch(r"\d+(\.\d+)?/(day|week|month)", text) is None:
        raise ValueError("must be a budget such as 1/day, 1/week, 1/month or none")
    return text


def rules_text(value: str) -> str:
    """Rules as `spc.rules.rules_named` reads them."""
    text = value.strip()
    if text.lower() in ("nelson", "western-electric", "nhs", "r1", "original", "none"):
        return text.lower()
    if re.fullmatch(r"[rR][1-8](\s*,\s*[rR][1-8])*", text) is None:
        raise ValueError(
            "must be rules such as R1,R2,R3, or nelson, western-electric, nhs, r1, original or none"
        )
    return text.upper()


def comma_separated(value: Any) -> Any:
    """A list from a text with commas, each entry once."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        return value
    return list(dict.fromkeys(part.strip() if isinstance(part, str) else part for part in parts if part))


class SloSetting(BaseModel):
    """What is promised of a metric, as it is shown: seconds of a duration; of every model when none is named."""

    model_config = {"extra": "forbid", "frozen": True}

    model: str | None
    metric: Literal[METRIC_KEYS]  # type: ignore[valid-type]
    value: float


def slo_text(text: str) -> SloSetting:
    """What people write: `metric=value`, or `model/metric=value` for one model.

    >>> [slo_text(text) for text in ("latency=2s", "qwen/qwen3:8b/ttft=500ms", "tokens_per_second=20")]
    ... # doctest: +NORMALIZE_WHITESPACE
    [SloSetting(model=None, metric='latency', value=2.0),
     SloSetting(model='qwen/qwen3:8b', metric='ttft', value=0.5),
     SloSetting(model=None, metric='tokens_per_second', value=20.0)]
    """
    name, _, written = text.rpartition("=")
    model, slash, metric = name.strip().rpartition("/")
    if not name or (slash and not model):
        raise ValueError(f"must be promises such as latency=2s or llama3.1:8b/ttft=500ms, not {text!r}")
    if metric not in METRIC_KEYS:
        raise ValueError(f"has {text!r}, but {metric!r} is not one of {', '.join(METRIC_KEYS)}")
    try:
        value = seconds(written) if metric in DURATIONS else float(written)
    except ValueError:
        value = 0.0
    if not 0.0 < value < math.inf:
        needs = "a duration such as 2s or 500ms" if metric in DURATIONS else "a number such as 20"
        raise ValueError(f"has {text!r}, but {metric} needs {needs}, greater than 0")
    return SloSetting(model=model or None, metric=metric, value=value)


def slo_list(value: Any) -> Any:
    """Promises from a text with commas or a list of texts; each metric of a model once."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
        return value
    found = [slo_text(part.strip()) for part in value if part.strip()]
    for i, slo in enumerate(found):
        if (slo.model, slo.metric) in [(other.model, other.metric) for other in found[:i]]:
            raise ValueError(f"promises {slo.metric}{f' of {slo.model}' if slo.model else ''} twice")
    return tuple(found)


def sub_path(value: str) -> str:
    """A path of a server below which another one is shown; empty for none.

    >>> [sub_path(text) for text in ("/llmscope/", "tools/llmscope", "/", "")]
    ['/llmscope', '/tools/llmscope', '', '']
    """
    path = value.strip().strip("/")
    if re.fullmatch(r"[\w.~-]+(/[\w.~-]+)*|", path, re.ASCII) is None:
        raise ValueError("must be a path such as /llmscope")
    if path.partition("/")[0] in OWN_PATHS:
        raise ValueError(f"must not begin with one of LLMscope's own paths: {', '.join(OWN_PATHS)}")
    return f"/{path}" if path else ""


def from_json(value: Any) -> Any:
    """What a JSON text says: lists of tables have no better form in the environment."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(
            'must be JSON such as [{"url": "http://localhost:11434", "model": "llama3"}]'
        ) from None


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def networks(value: Any) -> Any:
    """Addresses and networks from a text with commas; `private` stands for those that are not of the internet.

    >>> networks("10.0.0.7, 172.18.0.0/16")
    ('10.0.0.7', '172.18.0.0/16')
    """
    found = comma_separated(value)
    if not isinstance(found, (list, tuple)):
        return value
    named: list[str] = []
    for text in found:
        if text == "private":
            named += PRIVATE_NETWORKS
            continue
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"must be addresses or networks such as 10.0.0.7 or 172.18.0.0/16, or private, not {text!r}"
            ) from None
        named.append(text)
    return tuple(named)


def without_passwords(text: str) -> str:
    """The text, of the addresses in it only what may be shown: without user and password.

    >>> without_passwords("cannot reach http://ann:secret@gpu-box:8000/v1.")
    'cannot reach http://***@gpu-box:8000/v1.'
    """
    return re.sub(r"(?<=://)[^/\s\"']*@", "***@", text)


Seconds = Annotated[float, BeforeValidator(seconds)]
Url = Annotated[str, BeforeValidator(address)]


class TargetSetting(BaseModel):
    """One model on one LLM server, as the user named it."""

    model_config = {"extra": "forbid", "frozen": True}

    url: Url = DEFAULT_OLLAMA
    model: str | None = None
    provider: Literal["auto", "ollama", "openai"] = "auto"


class Settings(BaseSettings):
    """All settings. `load` builds it; built directly it reads no file."""

    model_config = SettingsConfigDict(
        env_prefix="LLMSCOPE_",
        env_ignore_empty=True,  # `LLMSCOPE_PORT=` in a compose file means "not set"
        enable_decoding=False,  # the validators read texts; pydantic-settings would ask for JSON everywhere
        extra="forbid",
        populate_by_name=True,
    )

    db: Path = Field(Path("data/llmscope.db"), description="The SQLite database file.")
    keep_raw: Annotated[float, BeforeValidator(keep_time), Field(ge=3 * 86_400)] = Field(
        30 * 86_400.0,
        description="How long single observations are kept after they arrived: `30d`, `8w`, `1y`, `forever`, at least "
        "`3d`. Those around incidents and acknowledged marks stay for good, as do incidents and marks.",
    )
    keep_minutes: Annotated[float, BeforeValidator(keep_time), Field(ge=3 * 86_400)] = Field(
        365 * 86_400.0,
        description="How long the summaries of single minutes are kept; those of hours stay for good.",
    )
    spool: Path = Field(
        Path("data/spool.db"), description="Where the monitor keeps observations that it could not deliver."
    )
    insecure: bool = Field(
        False,
        description="Let everybody in who can reach this server, without login. For trusted networks only; a "
        "`password` is asked for all the same.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Beyond loopback it needs a `password`, a token, or `insecure`.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port to listen on; when not set, 8081 for `up` and 8000 for `serve`."
    )
    root_path: Annotated[str, AfterValidator(sub_path)] = Field(
        "",
        description="The path below which a reverse proxy shows this server, such as `/llmscope`; the proxy may take "
        "it off or leave it on.",
    )
    targets: Annotated[list[TargetSetting], BeforeValidator(from_json)] = Field(
        default_factory=lambda: [TargetSetting()],
        min_length=1,
        description="What to watch: a list of `{url, model, provider}`; see below.",
    )
    standby: bool = Field(
        False,
        description="`llmscope monitor` waits while another one uses its spool, and takes over when that one has "
        "ended.",
    )
    alive_file: Path | None = Field(
        None,
        description="A file that `llmscope monitor` touches every 10 s while it runs, for health checks: it listens on "
        "no port.",
    )
    api: Annotated[str, BeforeValidator(api_address)] = Field(
        "http://127.0.0.1:8000",
        description="The API that `llmscope monitor` posts to.",
        validation_alias=AliasChoices("LLMSCOPE_API_BASE", "LLMSCOPE_API"),
    )
    interval: Annotated[Seconds, Field(ge=0.1, le=86_400)] = Field(
        2.0,
        description="Seconds between two probes of one target; `500ms` and `1m` work too.",
        validation_alias=AliasChoices("LLMSCOPE_INTERVAL", "MONITOR_INTERVAL"),
    )
    timeout_s: Annotated[Seconds, Field(ge=0.1, le=3_600)] = Field(
        60.0, description="Seconds after which a probe counts as timed out."
    )
    prompt: str = Field(
        "Write one sentence about the ocean.",
        min_length=1,
        max_length=4000,
        description="The test prompt; a fresh nonce is put before it each time.",
    )
    num_predict: Annotated[int, Field(ge=1, le=4096)] = Field(
        32, description="Most tokens of a probe's answer."
    )
    probe_when: Literal["always", "loaded"] = Field(
        "always", description="`loaded` leaves a model alone while Ollama does not have it in memory."
    )
    api_key: SecretStr | None = Field(
        None,
        description="Bearer key sent to the targets. It has no flag, because flags show in process lists.",
        validation_alias=AliasChoices("LLMSCOPE_API_KEY", "OPENAI_API_KEY"),
    )
    demo: bool = Field(False, description="Watch the simulator instead of a real server.")
    scenario: str = Field(
        "demo", description="What the simulator goes through; see `llmscope simulate --help`."
    )
    watched: Annotated[tuple[Literal[METRIC_KEYS], ...], BeforeValidator(comma_separated)] = Field(  # type: ignore[valid-type]
        ("latency", "ttft", "ms_per_token"),
        min_length=1,
        description="Metrics whose changes open incidents; every metric that is told has a chart with limits and "
        f"marks. Of {', '.join(METRIC_KEYS)}.",
    )
    budget: Annotated[str, AfterValidator(budget_text)] = Field(
        "1/week",
        description="False alarms accepted per series and metric: `1/day`, `1/week`, `1/month`, or `none` for no "
        "detectors.",
    )
    min_change: Annotated[float, BeforeValidator(share)] = Field(
        0.10,
        description="The smallest change of a level that opens an incident; `10%`, or `0` for every certain one.",
    )
    rules: Annotated[str, AfterValidator(rules_text)] = Field(
        "original",
        description="Rules marked on single points: `R1,R2,R3` and so on, or `nelson`, `western-electric`, `nhs`, "
        "`r1`, `original` (R1 to R3), `none`. The half-minute chart always has all eight.",
    )
    learn: Annotated[Seconds, Field(ge=1_800, le=30 * 86_400)] = Field(
        86_400.0,
        description="Observed time after which a baseline is locked; detectors run from the first half hour on.",
    )
    slo: Annotated[tuple[SloSetting, ...], BeforeValidator(slo_list)] = Field(
        (),
        description="What is promised, shown beside the limits: `latency=2s,llama3.1:8b/ttft=500ms`; a duration, or a "
        "number for the metrics per token and per second. It changes no judgement.",
    )
    password: Annotated[SecretStr, Field(min_length=8, max_length=1000)] | None = Field(
        None,
        description="What the page asks for. Once it is set, everything but the health checks needs it or a token. "
        "Like every secret it has no flag, because flags show in process lists.",
    )
    password_file: Path | None = Field(
        None,
        description="A file with the password, instead of `password`; a newline at its end does not count.",
    )
    login_lasts: Annotated[Seconds, Field(ge=1, le=366 * 86_400)] = Field(
        7 * 86_400.0, description="How long a browser stays logged in, such as `12h`."
    )
    ingest_token: Annotated[SecretStr, Field(min_length=16, max_length=200)] | None = Field(
        None,
        description="A token that may post observations and nothing else, beside those of `llmscope token`; for "
        "compose files and CI. Take a long random one.",
    )
    token: SecretStr | None = Field(
        None, description="The token that `llmscope monitor` and `llmscope doctor` send to the API."
    )
    published_on: str | None = Field(
        None,
        description="The address on which another program, such as Docker or nginx, publishes this server; whether "
        "it needs a login is then judged by it instead of by `host`.",
    )
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        (),
        description="Names that a browser may use for this server, without port. On loopback these come beside "
        "`localhost`; beyond it every name will do unless some are listed here.",
    )
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(networks)] = Field(
        (),
        description="Addresses or networks of reverse proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are "
        "believed; `private` for all private networks.",
    )
    allow_link_local: bool = Field(
        False,
        description="Let targets be at link-local addresses (169.254.0.0/16, fe80::/10) and at those where clouds "
        "serve the credentials of a machine.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = Field(
        "warning", description="What is logged, to standard error."
    )

    @property
    def target_named(self) -> bool:
        """Whether the user said what to watch; if not, the simulator may stand in."""
        return "targets" in self.model_fields_set

    @property
    def exposed_on(self) -> str | None:
        """The address at which others than this machine reach the server; None when nobody can."""
        address = self.published_on or self.host
        return None if is_loopback(address) else address

    @property
    def needs_login(self) -> bool:
        """Whether callers must show a token or know the password."""
        return self.password is not None or (self.exposed_on is not None and not self.insecure)

    @model_validator(mode="after")
    def _read_password(self) -> "Settings":
        if self.password_file is None:
            return self
        if self.password is not None:
            raise ValueError("password and password_file exclude each other")
        try:
            text = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"password_file {self.password_file} cannot be read: {error}") from None
        if not 8 <= len(text) <= 1000:
            raise ValueError(f"password_file {self.password_file} must hold 8 to 1000 characters")
        self.password = SecretStr(text)
        return self

    @model_validator(mode="after")
    def _apart(self) -> "Settings":
        if self.db.resolve() == self.spool.resolve():
            raise ValueError(f"db and spool must be two files; both are {self.db}")
        if self.keep_minutes < self.keep_raw:
            raise ValueError("keep_minutes must not be shorter than keep_raw")
        return self


def load(
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    scenarios: Collection[str] | None = None,
) -> Settings:
    """Settings from flags (None: not given), environment, the file, and defaults. Raises WrongSetting.

    `flags` may hold `target` and `model`, lists paired in order. `config` names the file; without it and
    without LLMSCOPE_CONFIG it is llmscope.toml in the working directory, where that exists. `scenarios` are
    the names that `scenario` may have.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    urls, models = given.pop("target", []), given.pop("model", [])
    file, path = _read_file(config)
    wrote = {name: flag_of(name) for name in given}
    if urls and given.get("demo"):
        raise WrongSetting("--demo and --target exclude each other: the demo watches a simulated server")
    targets = _named_targets(urls, models, file.get("targets"), path)
    if targets is not None:
        given["targets"], wrote["targets"] = targets

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, file)

    try:
        loaded = Loaded(**given)
    except ValidationError as error:
        raise WrongSetting(_sentence(error, wrote, path)) from None
    if scenarios is not None and loaded.scenario not in scenarios:
        name = _as_written("scenario", wrote, path)
        raise WrongSetting(f"{name} must be one of {', '.join(scenarios)} (it is {loaded.scenario!r})")
    return loaded


Named = tuple[list[dict[str, Any]], str]


def _named_targets(urls: Sequence[str], models: Sequence[str], stored: Any, path: Path) -> Named | None:
    """The targets that flags or Ollama's variables name, and by which name; None leaves it to the settings."""
    if len(models) > max(1, len(urls)):
        raise WrongSetting(
            f"--model is given {len(models)} times and --target {len(urls)} times: give them in pairs"
        )
    env_model = os.environ.get("OLLAMA_MODEL") or None
    if urls:
        named: list[str | None] = [*models]
        pairs = zip_longest(urls, named or [env_model if len(urls) == 1 else None])
        return [{"url": url, "model": model} for url, model in pairs], "--target"
    if os.environ.get("LLMSCOPE_TARGETS"):
        _refuse(models, "LLMSCOPE_TARGETS")
        return None
    model = models[0] if models else env_model
    for variable in ("OLLAMA_BASE_URL", "OLLAMA_HOST"):
        if url := os.environ.get(variable):
            return [{"url": url, "model": model}], variable
    if model is None:
        return None
    if not stored:
        return [{"model": model}], "--model" if models else "OLLAMA_MODEL"
    if isinstance(stored, list) and len(stored) == 1 and isinstance(stored[0], dict):
        return [{**stored[0], "model": model}], f"targets in {path}"
    _refuse(models, str(path))
    return None


def _refuse(models: Sequence[str], where: str) -> None:
    if models:
        raise WrongSetting(f"--model needs a --target beside it, because {where} names the targets")


def _read_file(config: Path | None) -> tuple[dict[str, Any], Path]:
    """What llmscope.toml says, and its path; nothing when there is none and none was asked for."""
    named = config or os.environ.get("LLMSCOPE_CONFIG")
    path = Path(named or CONFIG_FILE)
    if not named and not path.exists():
        return {}, path
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = "--config" if config else "LLMSCOPE_CONFIG"
        raise WrongSetting(f"{where} names {path}, which does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WrongSetting(f"{path} cannot be read: {error}") from None
    for name in file:
        if name not in Settings.model_fields:
            raise WrongSetting(
                f"there is no setting {name!r} in {path}{_perhaps(name, Settings.model_fields)}"
            )
    return file, path


OTHER_VARIABLES = ("LLMSCOPE_CONFIG", "LLMSCOPE_SKIP_WEB")


def unknown_variables() -> list[str]:
    """A sentence for each LLMSCOPE_ variable in the environment that no setting reads: a slip of the pen.

    Not an error as in the file: the environment is shared with other programs and other versions.
    """
    known = {variable for name in Settings.model_fields for variable in variables_of(name)}
    return [
        f"no setting reads the variable {variable}{_perhaps(variable, known)}"
        for variable in sorted(os.environ)
        if variable.startswith("LLMSCOPE_") and variable.upper() not in {*known, *OTHER_VARIABLES}
    ]


def _perhaps(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def flag_of(name: str) -> str:
    """The flag that sets a field.

    >>> flag_of("timeout_s"), flag_of("num_predict")
    ('--timeout', '--num-predict')
    """
    return "--" + name.removesuffix("_s").replace("_", "-")


def variables_of(name: str) -> list[str]:
    """The environment variables that set a field, the preferred one first.

    >>> variables_of("db"), variables_of("interval")
    (['LLMSCOPE_DB'], ['LLMSCOPE_INTERVAL', 'MONITOR_INTERVAL'])
    """
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [f"LLMSCOPE_{name.upper()}"]


def _as_written(name: str, wrote: Mapping[str, str], path: Path) -> str:
    """A setting by the name under which the user gave it: flag, variable, or key in the file."""
    variables = (variable for variable in variables_of(name) if os.environ.get(variable))
    return wrote.get(name) or next(variables, f"{name} in {path}")


def _sentence(error: ValidationError, wrote: Mapping[str, str], path: Path) -> str:
    """The first thing that is wrong, by the name that the user wrote."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = _field_of(str(first["loc"][0]))
    shown = _as_written(name, wrote, path)
    inner = [str(part) for part in first["loc"][1:] if not isinstance(part, int)]
    if first["type"] == "extra_forbidden" and inner:
        return f"{shown} has a key {inner[-1]!r} that no target has{_perhaps(inner[-1], TargetSetting.model_fields)}"
    message = (
        (name in SECRETS and _length_wanted(first))
        or PLAIN.get(first["type"])
        or re.sub(r"^\w+ should ", "must ", message)
    )
    if inner and name == "targets" and shown.startswith(("targets", "LLMSCOPE_TARGETS")):
        shown = f"{inner[-1]} of {shown}"
    seen = "" if name in SECRETS else f" (it is {first['input']!r})"
    return without_passwords(f"{shown} {message[0].lower()}{message[1:]}{seen}")


def _length_wanted(error: Any) -> str | None:
    """How long a text must be, where its length is what is wrong."""
    limits = error.get("ctx", {})
    if error["type"] == "too_short":
        return f"must have at least {limits['min_length']} characters"
    return f"must have at most {limits['max_length']} characters" if error["type"] == "too_long" else None


SECRETS = ("api_key", "password", "ingest_token", "token")
PLAIN = {"int_parsing": "must be a whole number", "bool_parsing": "must be true or false"}


def _field_of(place: str) -> str:
    """The field that pydantic means: it says the alias where there is one."""
    return next(
        (name for name in Settings.model_fields if place == name or place in variables_of(name)), place
    )

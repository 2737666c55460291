"""Every setting of LLMscope, typed, in one place: flags over environment over llmscope.toml over defaults.

The reference in docs/settings.md is generated from here.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
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
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

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


def address(value: Any) -> Any:
    """A base URL from what people write in OLLAMA_HOST.

    >>> [address(text) for text in ("localhost", "gpu-box:9000", "0.0.0.0", "https://llm.example/v1/")]
    ['http://localhost:11434', 'http://gpu-box:9000', 'http://127.0.0.1:11434', 'https://llm.example/v1']
    """
    if not isinstance(value, str):
        return value
    text = value.strip().rstrip("/")
    if not text:
        raise ValueError("must not be empty")
    if "://" not in text:
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, "11434"
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "127.0.0.1"}.get(host, host)
        text = f"http://{host}:{port}"
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError("must be an address such as http://localhost:11434")
    return text


def comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(seconds)]
Url = Annotated[str, BeforeValidator(address)]


class TargetSetting(BaseModel):
    """One model on one LLM server, as the user named it."""

    model_config = {"extra": "forbid", "frozen": True}

    url: Url = DEFAULT_OLLAMA
    model: str | None = None
    provider: Literal["auto", "ollama", "openai"] = "auto"


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """All settings. Build it with `load`, which turns what is wrong into one sentence."""

    model_config = SettingsConfigDict(env_prefix="LLMSCOPE_", extra="forbid", populate_by_name=True)

    db: Path = Field(Path("data/llmscope.db"), description="The SQLite database file.")
    spool: Path = Field(
        Path("data/spool.db"), description="Where the monitor keeps observations that it could not deliver."
    )
    host: str = Field("127.0.0.1", description="Address to listen on. Beyond loopback it needs `insecure`.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port to listen on; 8081 for `up`, 8000 for `serve` when not set."
    )
    insecure: bool = Field(
        False,
        description="Allow listening beyond this machine, without any login. For trusted networks only.",
    )
    targets: list[TargetSetting] = Field(
        default_factory=lambda: [TargetSetting()],
        description="What to watch: a list of `{url, model, provider}`. From `--target` and `--model`, "
        "`OLLAMA_HOST` (or `OLLAMA_BASE_URL`) and `OLLAMA_MODEL`.",
    )
    target_named: bool = Field(
        False, exclude=True, description="Set by the program: whether a target was named."
    )
    api: Url = Field(
        "http://127.0.0.1:8000",
        description="The API that `llmscope monitor` posts to.",
        validation_alias=_names("LLMSCOPE_API_BASE", "LLMSCOPE_API", "api"),
    )
    interval: Annotated[Seconds, Field(ge=0.1, le=86_400)] = Field(
        2.0,
        description="Seconds between two probes of one target; `500ms` and `1m` work too.",
        validation_alias=_names("LLMSCOPE_INTERVAL", "MONITOR_INTERVAL", "interval"),
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
        description="Bearer key for OpenAI-compatible servers. Only from the environment or the file.",
        validation_alias=_names("LLMSCOPE_API_KEY", "OPENAI_API_KEY", "api_key"),
    )
    demo: bool = Field(False, description="Watch the simulator instead of a real server.")
    scenario: str = Field(
        "demo", description="What the simulator goes through; see `llmscope simulate --help`."
    )
    watched: Annotated[tuple[Literal[METRIC_KEYS], ...], BeforeValidator(comma_separated)] = Field(  # type: ignore[valid-type]
        ("latency", "ttft", "ms_per_token"),
        min_length=1,
        description=f"Metrics with a control chart, of {', '.join(METRIC_KEYS)}.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="What is logged.")

    @model_validator(mode="after")
    def _closed_by_default(self) -> "Settings":
        if not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host} would let anybody on the network in: LLMscope has no login yet. "
                "Listen on 127.0.0.1, or pass --insecure if the network is trusted"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = Path(os.environ.get("LLMSCOPE_CONFIG", CONFIG_FILE))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from flags (None values are "not given"), environment, llmscope.toml and defaults.

    `flags` may hold `target` and `model`, lists paired in order. Raises WrongSetting.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    urls = list(given.pop("target", None) or [])
    models = list(given.pop("model", None) or [])
    _check_file()
    targets = _targets(urls, models)
    if targets is not None:
        given |= {"targets": targets, "target_named": True}
    elif _file_names_targets():
        given["target_named"] = True
    _check_environment()
    try:
        return Settings(**given)
    except ValidationError as error:
        raise WrongSetting(_sentence(error, given)) from None


def _targets(urls: list[str], models: list[str]) -> list[dict[str, Any]] | None:
    """The targets named by flags, else by Ollama's environment; None when neither names one."""
    env_url = os.environ.get("OLLAMA_BASE_URL") or os.environ.get("OLLAMA_HOST")
    env_model = os.environ.get("OLLAMA_MODEL")
    if len(models) > max(1, len(urls)):
        raise WrongSetting(
            f"--model is given {len(models)} times and --target {len(urls)}: give them in pairs"
        )
    if not urls:
        if env_url is None and not models and env_model is None:
            return None
        where = "OLLAMA_HOST" if env_url is not None else ""
        return [_target(env_url or DEFAULT_OLLAMA, models[0] if models else env_model, where)]
    if len(urls) == 1 and not models:
        return [_target(urls[0], env_model, "--target")]
    padded = [*models, *[None] * (len(urls) - len(models))]
    return [_target(url, model, "--target") for url, model in zip(urls, padded, strict=True)]


def _target(url: str, model: str | None, where: str) -> dict[str, Any]:
    try:
        return {"url": address(url), "model": model or None}
    except ValueError as error:
        raise WrongSetting(f"{where} {error} (it is {url!r})") from None


def _config_path() -> Path:
    return Path(os.environ.get("LLMSCOPE_CONFIG", CONFIG_FILE))


def _read_file() -> dict[str, Any]:
    path = _config_path()
    if not path.exists():
        if "LLMSCOPE_CONFIG" in os.environ:
            raise WrongSetting(f"there is no file {path} (from --config or LLMSCOPE_CONFIG)")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WrongSetting(f"{path} cannot be read: {error}") from None


def _check_file() -> None:
    for name in _read_file():
        if name not in Settings.model_fields or name == "target_named":
            raise WrongSetting(f"{_config_path()}: there is no setting {name!r}{_perhaps(name)}")


def _file_names_targets() -> bool:
    return "targets" in _read_file() or "LLMSCOPE_TARGETS" in os.environ


def _perhaps(name: str) -> str:
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


OTHER_VARIABLES = ("LLMSCOPE_CONFIG", "LLMSCOPE_API_BASE", "LLMSCOPE_SKIP_WEB")


def _check_environment() -> None:
    for variable in os.environ:
        name = variable.removeprefix("LLMSCOPE_").lower()
        if (
            variable.startswith("LLMSCOPE_")
            and name not in Settings.model_fields
            and variable not in OTHER_VARIABLES
        ):
            raise WrongSetting(f"there is no setting {variable}{_perhaps(name)}")


def _sentence(error: ValidationError, given: Mapping[str, Any]) -> str:
    """The first thing that is wrong, by the name that the user wrote."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    place = str(first["loc"][0])
    name = _field_of(place)
    if name in given:
        shown = "--" + name.removesuffix("_s").replace("_", "-")
    else:
        variables = [v for v in _variables(name) if v in os.environ]
        shown = variables[0] if variables else f"{_config_path()}: {name}"
    rest = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int))
    secret = name == "api_key"
    value = "" if secret else f" (it is {first['input']!r})"
    return f"{shown}{'.' + rest if rest else ''}: {message[0].lower()}{message[1:]}{value}"


def _variables(name: str) -> list[str]:
    """The environment variables that set a field, the preferred one first."""
    alias = Settings.model_fields[name].validation_alias if name in Settings.model_fields else None
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices if str(choice).isupper()]
    return [f"LLMSCOPE_{name.upper()}"]


def _field_of(place: str) -> str:
    for name in Settings.model_fields:
        if place == name or place in _variables(name) or place.upper() in _variables(name):
            return name
    return place

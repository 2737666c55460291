"""Where a setting comes from, what people may write, and how they are told that something is wrong."""

import os
from pathlib import Path

import pytest

from llmscope.observation import METRICS
from llmscope.settings import (
    DURATIONS,
    METRIC_KEYS,
    Settings,
    SloSetting,
    TargetSetting,
    WrongSetting,
    load,
    unknown_variables,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder and an environment in which nothing is set."""
    for variable in os.environ:
        if variable.startswith(("LLMSCOPE_", "OLLAMA_", "MONITOR_", "OPENAI_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrong(**flags: object) -> str:
    with pytest.raises(WrongSetting) as caught:
        load(flags)
    return str(caught.value)


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load().interval == 2.0

    (bare / "llmscope.toml").write_text('interval = "3s"\nport = 9000\n')
    assert load().interval == 3.0

    monkeypatch.setenv("MONITOR_INTERVAL", "4")
    assert load().interval == 4.0

    monkeypatch.setenv("LLMSCOPE_INTERVAL", "500ms")
    assert load().interval == 0.5

    assert load({"interval": "1.5s"}).interval == 1.5
    assert load({"interval": None}).port == 9000


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("LLMSCOPE_DB", "x/y.db", "db", Path("x/y.db")),
        ("LLMSCOPE_PORT", "9000", "port", 9000),
        ("LLMSCOPE_API_BASE", "http://api:8000/", "api", "http://api:8000"),
        ("LLMSCOPE_API", "api", "api", "http://api:8000"),
        ("MONITOR_INTERVAL", "5", "interval", 5.0),
        ("LLMSCOPE_WATCHED", "latency, queue,latency", "watched", ("latency", "queue")),
        ("LLMSCOPE_LOG_LEVEL", "INFO", "log_level", "info"),
        ("LLMSCOPE_DEMO", "true", "demo", True),
        ("LLMSCOPE_PORT", "", "port", None),
    ],
)
def test_the_environment_sets_a_field(
    variable: str, value: str, field: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    assert getattr(load(), field) == expected


def test_variables_of_other_programs_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load().model_dump()
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "17")

    assert load().model_dump() == before


def test_the_key_of_openai_is_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = load()

    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("localhost", "http://localhost:11434"),
        ("gpu-box:9000", "http://gpu-box:9000"),
        ("http://gpu-box:9000/", "http://gpu-box:9000"),
        ("https://ollama.example", "https://ollama.example"),
        ("gpu-box/v1", "http://gpu-box:11434/v1"),
        ("gpu-box:8000/v1", "http://gpu-box:8000/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("[::]:11434", "http://127.0.0.1:11434"),
        ("[fd00::1]:9000", "http://[fd00::1]:9000"),
        (":9000", "http://127.0.0.1:9000"),
    ],
)
def test_ollama_host_may_be_written_in_all_the_ways_that_ollama_takes(
    written: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", written)

    assert [target.url for target in load().targets] == [url]


def test_without_a_name_the_local_ollama_is_the_target_and_the_simulator_may_stand_in() -> None:
    settings = load()

    assert settings.targets == [TargetSetting(url="http://localhost:11434")]
    assert not settings.target_named


def test_targets_and_models_are_paired_in_order() -> None:
    settings = load({"target": ["http://a:1", "http://b:2/v1", "http://c:3"], "model": ["x", "y"]})

    assert [(t.url, t.model) for t in settings.targets] == [
        ("http://a:1", "x"),
        ("http://b:2/v1", "y"),
        ("http://c:3", None),
    ]
    assert settings.target_named


def test_a_model_alone_belongs_to_the_target_that_is_named_elsewhere(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load({"model": ["x"]}).targets == [TargetSetting(url="http://localhost:11434", model="x")]

    (bare / "llmscope.toml").write_text(
        '[[targets]]\nurl = "http://a:1"\nmodel = "file"\nprovider = "openai"\n'
    )
    in_file = TargetSetting(url="http://a:1", model="file", provider="openai")
    assert load().targets == [in_file]
    assert load({"model": ["x"]}).targets == [in_file.model_copy(update={"model": "x"})]

    monkeypatch.setenv("OLLAMA_HOST", "b:2")
    monkeypatch.setenv("OLLAMA_MODEL", "env")
    assert load().targets == [TargetSetting(url="http://b:2", model="env")]
    assert load({"model": ["x"]}).targets == [TargetSetting(url="http://b:2", model="x")]
    assert load({"target": ["c:3"]}).targets == [TargetSetting(url="http://c:3", model="env")]


def test_targets_may_stand_in_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_TARGETS", '[{"url": "a:1", "model": "x"}, {"url": "b:2"}]')
    monkeypatch.setenv("OLLAMA_HOST", "ignored:1")

    assert [(t.url, t.model) for t in load().targets] == [("http://a:1", "x"), ("http://b:2", None)]
    assert "LLMSCOPE_TARGETS names the targets" in wrong(model=["y"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"interval": "0"}, "--interval must be greater than or equal to 0.1 (it is '0')"),
        ({"interval": "soon"}, "--interval must be a duration such as 2s or 500ms (it is 'soon')"),
        ({"timeout_s": "-1"}, "--timeout must be a duration such as 2s or 500ms (it is '-1')"),
        ({"port": 99999}, "--port must be less than or equal to 65535 (it is 99999)"),
        ({"num_predict": 0}, "--num-predict must be greater than or equal to 1 (it is 0)"),
        ({"probe_when": "never"}, "--probe-when must be 'always' or 'loaded' (it is 'never')"),
        (
            {"target": ["gpu:abc"]},
            "--target must be an address such as http://localhost:11434 (it is 'gpu:abc')",
        ),
        ({"target": [""]}, "--target must be an address such as http://localhost:11434 (it is '')"),
        ({"model": ["x", "y"]}, "--model is given 2 times and --target 0 times: give them in pairs"),
        (
            {"demo": True, "target": ["a"]},
            "--demo and --target exclude each other: the demo watches a simulated server",
        ),
        (
            {"slo": "2s"},
            "--slo must be promises such as latency=2s or llama3.1:8b/ttft=500ms, not '2s' (it is '2s')",
        ),
        (
            {"slo": "latency=2s,ttfb=1s"},
            "--slo has 'ttfb=1s', but 'ttfb' is not one of latency, ttft, queue, load, prompt_ms_per_token, "
            "ms_per_token, tokens_per_second (it is 'latency=2s,ttfb=1s')",
        ),
        (
            {"slo": "llama3/ttft=soon"},
            "--slo has 'llama3/ttft=soon', but ttft needs a duration such as 2s or 500ms, greater than 0 "
            "(it is 'llama3/ttft=soon')",
        ),
        (
            {"slo": "ms_per_token=40ms"},
            "--slo has 'ms_per_token=40ms', but ms_per_token needs a number such as 20, greater than 0 "
            "(it is 'ms_per_token=40ms')",
        ),
        (
            {"slo": "a/latency=1s,latency=2s,a/latency=3s"},
            "--slo promises latency of a twice (it is 'a/latency=1s,latency=2s,a/latency=3s')",
        ),
        ({"db": Path("a.db"), "spool": Path("./a.db")}, "db and spool must be two files; both are a.db"),
    ],
)
def test_a_wrong_flag_is_one_sentence_that_names_it(flags: dict[str, object], sentence: str) -> None:
    assert wrong(**flags) == sentence


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LLMSCOPE_PORT", "many", "LLMSCOPE_PORT must be a whole number (it is 'many')"),
        ("MONITOR_INTERVAL", "x", "MONITOR_INTERVAL must be a duration such as 2s or 500ms (it is 'x')"),
        ("OLLAMA_BASE_URL", "ftp://x", "OLLAMA_BASE_URL must be an address such as http://localhost:11434 (it is 'ftp://x')"),
        ("OLLAMA_HOST", "a b", "OLLAMA_HOST must be an address such as http://localhost:11434 (it is 'a b')"),
        ("LLMSCOPE_CONFIG", "no.toml", "LLMSCOPE_CONFIG names no.toml, which does not exist"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_one_sentence_that_names_it(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    assert wrong() == sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LLMSCOPE_TARGETS", "a:1"), ("LLMSCOPE_TARGETS", "[]"), ("LLMSCOPE_WATCHED", "latency,speed")],
)
def test_a_wrong_list_in_a_variable_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    assert wrong().startswith(f"{variable} must")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("intervall = 3", "there is no setting 'intervall' in llmscope.toml; did you mean interval?"),
        ('interval = "x"', "interval in llmscope.toml must be a duration such as 2s or 500ms (it is 'x')"),
        (
            '[[targets]]\nurl = "a"\nprovider = "olama"',
            "provider of targets in llmscope.toml must be 'auto', 'ollama' or 'openai' (it is 'olama')",
        ),
        (
            '[[targets]]\nuri = "a"',
            "targets in llmscope.toml has a key 'uri' that no target has; did you mean url?",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_one_sentence_that_names_file_and_key(
    text: str, sentence: str, bare: Path
) -> None:
    (bare / "llmscope.toml").write_text(text)

    assert wrong() == sentence


def test_a_file_that_is_not_toml_is_said_to_be_so(bare: Path) -> None:
    (bare / "llmscope.toml").write_text("interval: 2")

    assert wrong().startswith("llmscope.toml cannot be read: ")


def test_the_named_file_is_read_instead_of_the_usual_one(bare: Path) -> None:
    (bare / "llmscope.toml").write_text("port = 1")
    (bare / "other.toml").write_text("port = 2")

    assert load(config=bare / "other.toml").port == 2
    with pytest.raises(WrongSetting, match=r"^--config names .*none\.toml, which does not exist$"):
        load(config=bare / "none.toml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "llm.example"])
def test_beyond_this_machine_callers_must_be_known_unless_that_is_waived(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load({"host": host}).needs_login
    assert load({"host": host}).exposed_on == host
    assert not load({"host": host, "insecure": True}).needs_login

    monkeypatch.setenv("LLMSCOPE_PASSWORD", "correct horse")
    assert load({"host": host, "insecure": True}).needs_login


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_on_this_machine_callers_need_not_be_known_unless_there_is_a_password(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load({"host": host}).needs_login

    monkeypatch.setenv("LLMSCOPE_PASSWORD", "correct horse")
    assert load({"host": host}).needs_login


def test_where_another_program_publishes_the_server_counts_instead_of_where_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMSCOPE_PUBLISHED_ON", "127.0.0.1")
    assert not load({"host": "0.0.0.0"}).needs_login

    monkeypatch.setenv("LLMSCOPE_PUBLISHED_ON", "0.0.0.0")
    assert load({"host": "127.0.0.1"}).needs_login


def test_the_password_may_stand_in_a_file_whose_last_newline_does_not_count(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "secret").write_text("correct horse\n")
    monkeypatch.setenv("LLMSCOPE_PASSWORD_FILE", str(bare / "secret"))
    password = load().password
    assert password is not None
    assert password.get_secret_value() == "correct horse"

    monkeypatch.setenv("LLMSCOPE_PASSWORD", "another one")
    assert wrong() == "password and password_file exclude each other"
    monkeypatch.delenv("LLMSCOPE_PASSWORD")
    (bare / "secret").write_text("short")
    assert "must hold 8 to 1000 characters" in wrong()


@pytest.mark.parametrize("variable", ["LLMSCOPE_PASSWORD", "LLMSCOPE_INGEST_TOKEN"])
def test_a_secret_that_is_too_short_is_refused_and_not_repeated(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hunter2")

    assert variable in wrong()
    assert "hunter2" not in wrong()


def test_proxies_are_addresses_networks_or_all_private_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_TRUSTED_PROXIES", "192.0.2.7, private")
    assert {"192.0.2.7", "10.0.0.0/8", "fc00::/7"} <= set(load().trusted_proxies)

    monkeypatch.setenv("LLMSCOPE_TRUSTED_PROXIES", "nginx")
    assert "not 'nginx'" in wrong()


def test_a_wrong_address_is_shown_without_the_password_in_it() -> None:
    said = wrong(target=["http://ann:hunter2@gpu-box:port"])

    assert "gpu-box" in said
    assert "hunter2" not in said


def test_a_scenario_must_be_one_of_those_that_the_caller_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_SCENARIO", "storm")

    with pytest.raises(WrongSetting, match=r"^LLMSCOPE_SCENARIO must be one of calm \(it is 'storm'\)$"):
        load(scenarios=["calm"])


def test_a_misspelt_variable_is_noticed_but_does_not_stop_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_INTERVALL", "3")
    monkeypatch.setenv("LLMSCOPE_SKIP_WEB", "1")

    assert load().interval == 2.0
    assert unknown_variables() == [
        "no setting reads the variable LLMSCOPE_INTERVALL; did you mean LLMSCOPE_INTERVAL?"
    ]


def test_the_metrics_that_can_be_watched_are_those_that_exist() -> None:
    assert set(METRIC_KEYS) == set(METRICS)


def test_the_metrics_in_seconds_are_those_in_milliseconds_inside() -> None:
    assert set(DURATIONS) == {key for key, metric in METRICS.items() if metric.unit == "ms"}


def test_promises_are_read_from_flag_variable_and_file(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = SloSetting(model=None, metric="latency", value=2.0)
    one = SloSetting(model="org/llama3.1:8b", metric="ttft", value=0.5)
    rate = SloSetting(model=None, metric="tokens_per_second", value=20.0)
    assert load().slo == ()

    (bare / "llmscope.toml").write_text('slo = ["latency=2000ms", "org/llama3.1:8b/ttft=0.5"]')
    assert load().slo == (every, one)

    monkeypatch.setenv("LLMSCOPE_SLO", " latency = 2s , tokens_per_second=20")
    assert load().slo == (every, rate)
    assert load({"slo": "org/llama3.1:8b/ttft=500ms,"}).slo == (one,)

"""Tokens, sessions, the password's limits and the names that a server answers for, each alone."""

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.access import Access, Attempts, Sessions, Token, Tokens, TooManyAttempts, digest_of, read_key
from llmscope.access.attempts import MOST_ADDRESSES, PER_ADDRESS, TOGETHER

KEY = b"k" * 32


class Time:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def us(self) -> int:
        return round(self.s * 1e6)

    def monotonic_s(self) -> float:
        return self.s


@pytest.fixture
def time() -> Time:
    return Time()


def sessions(time: Time, password: str = "correct horse", key: bytes = KEY) -> Sessions:
    return Sessions(key, password, 60.0, time.us)


def test_a_session_is_recognised_until_its_time_is_over(time: Time) -> None:
    held = sessions(time)
    text = held.begin()
    assert held.recognised(text) is not None

    time.s += 60.0
    assert held.recognised(text) is None


def test_a_session_that_was_ended_is_over_and_forgotten_in_the_end(time: Time) -> None:
    ended: dict[bytes, int] = {}
    held = Sessions(KEY, "correct horse", 60.0, time.us, ended)
    first, other = held.begin(), held.begin()
    session = held.recognised(first)
    assert session is not None
    held.end(session)

    assert held.recognised(first) is None
    assert held.recognised(other) is not None
    assert Sessions(KEY, "correct horse", 60.0, time.us, dict(ended)).recognised(first) is None
    time.s += 30.0
    last = held.recognised(other)
    time.s += 31.0
    assert last is not None
    held.end(last)
    assert list(ended) == [last.id]


def test_another_password_and_another_key_end_every_session(time: Time) -> None:
    text = sessions(time).begin()

    assert sessions(time, password="another").recognised(text) is None
    assert sessions(time, key=b"x" * 32).recognised(text) is None
    assert sessions(time).recognised(text) is not None


@given(st.integers(0, 55), st.integers(1, 255))
def test_a_session_with_any_byte_changed_is_forged(place: int, change: int) -> None:
    time = Time()
    held = sessions(time)
    whole = bytearray(base64.urlsafe_b64decode(held.begin() + "="))
    whole[place] ^= change

    assert held.recognised(base64.urlsafe_b64encode(whole).decode().rstrip("=")) is None


@given(st.text(max_size=120))
def test_any_other_text_is_no_session_and_no_mistake(text: str) -> None:
    assert sessions(Time()).recognised(text) is None


def test_the_key_is_kept_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "llmscope.db.key"
    key = read_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    path.chmod(0o644)
    assert read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_token_works_until_it_is_revoked_or_over(time: Time) -> None:
    stored = {digest_of("a"): Token(1, "a", "read", 0, expires_us=round(1_010 * 1e6))}
    tokens = Tokens(stored.get, time.us, time.monotonic_s)
    assert tokens.known("a") is not None
    assert tokens.known("b") is None

    stored[digest_of("a")] = Token(1, "a", "read", 0, revoked_us=1)
    time.s += 1.1  # what was found is believed for a second
    assert tokens.known("a") is None
    stored[digest_of("a")] = Token(1, "a", "read", 0, expires_us=round(1_010 * 1e6))
    time.s += 1.1
    assert tokens.known("a") is not None
    time.s += 10.0
    assert tokens.known("a") is None


def test_invented_tokens_are_not_remembered(time: Time) -> None:
    tokens = Tokens(lambda _digest: None, time.us, time.monotonic_s)
    for number in range(1_000):
        assert tokens.known(str(number)) is None

    assert tokens._held == {}


def test_one_address_may_try_a_few_times_and_again_after_a_while(time: Time) -> None:
    attempts = Attempts(time.monotonic_s)
    for _ in range(PER_ADDRESS):
        attempts.begin("192.0.2.1")
    with pytest.raises(TooManyAttempts) as refused:
        attempts.begin("192.0.2.1")
    assert refused.value.retry_after_s == 12

    time.s += 12.0
    attempts.begin("192.0.2.1")
    with pytest.raises(TooManyAttempts):
        attempts.begin("192.0.2.1")


def test_whoever_has_all_addresses_of_a_network_has_the_tries_of_one(time: Time) -> None:
    attempts = Attempts(time.monotonic_s)
    for number in range(PER_ADDRESS):
        attempts.begin(f"2001:db8::{number}")

    with pytest.raises(TooManyAttempts):
        attempts.begin("2001:db8::ffff")


def test_many_addresses_together_have_a_limit_and_fill_no_memory(time: Time) -> None:
    attempts = Attempts(time.monotonic_s)
    tried = 0
    for number in range(5_000):
        try:
            attempts.begin(f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}")
            tried += 1
        except TooManyAttempts:
            time.s += 0.5
    assert tried < TOGETHER + 0.5 * 5_000
    assert len(attempts._by_network) <= MOST_ADDRESSES


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", True),
        ("LOCALHOST:8081", True),
        ("127.0.0.1:8081", True),
        ("[::1]:8081", True),
        ("llm.example", True),
        ("llm.example:8443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.2:8081", False),
        ("evil.example@localhost", False),
        ("localhost evil.example", False),
        ("", False),
    ],
)
def test_a_server_of_this_machine_answers_for_its_own_names_and_those_that_are_listed(
    host: str, answered: bool
) -> None:
    assert Access(hosts=["LLM.example"]).answers_for(host.encode()) == answered
    assert Access().answers_for(host.encode())

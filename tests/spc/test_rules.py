"""The streaming rules against their definitions, and against published in-control run lengths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import oracle
from tests.strategies import scores

from llmscope.spc.episodes import sign_of
from llmscope.spc.rules import LONGEST, PRESETS, BeyondLimits, OneSide, Sides, UnknownRule, rules_named
from llmscope.spc.scan import scan


@given(scores)
def test_streaming_agrees_with_the_definition(zs: list[float]) -> None:
    for rule in rules_named("nelson"):
        streamed = [rule.update(z) for z in zs]

        assert streamed == oracle.signals(rule.name, zs)


@given(scores)
def test_a_restarted_rule_remembers_nothing(zs: list[float]) -> None:
    for used, fresh in zip(rules_named("nelson"), rules_named("nelson"), strict=True):
        for z in zs:
            used.update(z)
        used.restart()

        assert [used.update(z) for z in zs] == [fresh.update(z) for z in zs]


@given(scores, st.sampled_from(list(PRESETS)), st.sampled_from(["both", "above", "below"]), st.data())
def test_a_scan_finds_what_streaming_finds(
    zs: list[float], names: str, side: Sides, data: st.DataObject
) -> None:
    rules = rules_named(names, side=side)
    gaps = data.draw(st.sets(st.integers(0, max(0, len(zs) - 1)), max_size=3), label="gaps before")
    absent = data.draw(st.sets(st.integers(0, max(0, len(zs) - 1)), max_size=2), label="not judged")
    values = np.array([math.nan if i in absent else z for i, z in enumerate(zs)])
    breaks = np.array([i in gaps for i in range(len(zs))], bool)
    streamed: dict[str, list[int]] = {rule.name: [] for rule in rules}
    for i, z in enumerate(zs):
        for rule in rules:
            if i in gaps or i in absent:
                rule.restart()
            found = None if i in absent else rule.update(z)
            streamed[rule.name].append(0 if found is None else sign_of(found))

    scanned = scan(values, rules, breaks)

    assert {name: signs.tolist() for name, signs in scanned.items()} == streamed


@pytest.mark.parametrize(
    ("names", "run", "trend"), [("western-electric", 8, None), ("nhs", 7, 7), ("nelson", 9, 6)]
)
def test_a_preset_brings_its_lengths(names: str, run: int, trend: int | None) -> None:
    by_name = {rule.name: rule for rule in rules_named(names)}

    assert by_name["R2"].points == run
    assert trend is None or by_name["R3"].points == trend


def test_no_rule_looks_further_back_than_the_longest() -> None:
    assert max(rule.points for rule in rules_named("nelson")) == LONGEST


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(UnknownRule, match="'R9' is not one of R1"):
        rules_named("R1,R9")


def test_a_point_on_the_line_ends_a_run() -> None:
    rule = OneSide()

    assert [rule.update(z) for z in [1.0] * 8 + [0.0] + [1.0] * 8] == [None] * 17


@pytest.mark.parametrize("z", [3.0, -3.0])
def test_a_point_on_the_limit_is_inside(z: float) -> None:
    assert BeyondLimits().update(z) is None


def test_the_in_control_run_lengths_are_the_published_ones() -> None:
    """R1: 370.40. R2 with runs of nine: 511 = 2^9 - 1. Both together: 216.70 (Champ & Woodall 1987)."""
    beyond = math.erfc(3.0 / math.sqrt(2.0))
    inside = 1.0 - beyond

    assert 1.0 / beyond == pytest.approx(370.40, abs=0.01)
    assert run_length(1.0) == pytest.approx(511.0)
    assert run_length(inside) == pytest.approx(216.70, abs=0.05)


def run_length(inside: float) -> float:
    """Mean points to a run of nine on one side, or to a point outside, each inside with that chance.

    By symmetry the state is the length of the present run; e[k] is what is still to come.
    """
    same = inside / 2.0
    # e[k] = 1 + same e[k+1] + same e[1] for k = 1..8 with e[9] = 0; solve for e[1], then e[0].
    a, b = 0.0, 0.0  # e[k] = a + b e[1], from k = 9 downwards
    for _ in range(8):
        a, b = 1.0 + same * a, same * b + same
    first = a / (1.0 - b)
    return 1.0 + inside * first

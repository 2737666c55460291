"""The streaming rules against their definitions, and against published in-control run lengths."""

import math

import pytest
from hypothesis import given
from tests import oracle
from tests.strategies import scores

from llmscope.spc.rules import RULES, BeyondLimits, OneSide


@given(scores)
def test_streaming_agrees_with_the_definition(zs: list[float]) -> None:
    for rule_type in RULES:
        rule = rule_type()
        streamed = [rule.update(z) for z in zs]

        assert streamed == [oracle.RULES[rule.name](zs, i) for i in range(len(zs))]


@given(scores)
def test_a_restarted_rule_remembers_nothing(zs: list[float]) -> None:
    for rule_type in RULES:
        used, fresh = rule_type(), rule_type()
        for z in zs:
            used.update(z)
        used.restart()

        assert [used.update(z) for z in zs] == [fresh.update(z) for z in zs]


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

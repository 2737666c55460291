"""The definitions of the eight rules against examples small enough to check by eye: the conventions."""

import pytest
from hypothesis import given
from tests import oracle
from tests.strategies import nelson_zs, scores

HAIR = 1e-12

MIRROR_IMAGE = {"above": "below", "below": "above", "up": "down", "down": "up", "either": "either"}


def where(rule: str, zs: list[float], run: int = 9, trend: int = 6) -> dict[int, str]:
    """The indices that signal, with their sides."""
    return {
        i: side for i, side in enumerate(oracle.signals(rule, zs, run=run, trend=trend)) if side is not None
    }


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([3.0, -3.0], {}),  # on the limit is inside
        ([3.0 + HAIR, -3.0 - HAIR], {0: "above", 1: "below"}),
        ([3.0 - HAIR], {}),
        ([-3.0 + HAIR], {}),
        ([0.0, -0.0], {}),
        ([4.0, 4.0, 4.0], {0: "above", 1: "above", 2: "above"}),  # it goes on signalling
        ([0.0, 9.0, 0.0, -9.0], {1: "above", 3: "below"}),
    ],
)
def test_rule_1_signals_beyond_three_sigma(zs: list[float], found: dict[int, str]) -> None:
    assert where("R1", zs) == found


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([0.1] * 8, {}),
        ([0.1] * 9, {8: "above"}),
        ([-0.1] * 10, {8: "below", 9: "below"}),  # it goes on signalling: nothing restarts after a signal
        ([0.1] * 8 + [0.0] + [0.1] * 8, {}),  # on the line belongs to neither side
        ([0.1] * 8 + [-0.0] + [0.1] * 9, {17: "above"}),
        ([0.1] * 8 + [-0.1] * 9, {16: "below"}),
        ([0.1] * 4 + [4.0] + [0.1] * 4, {8: "above"}),  # how far does not matter
        ([0.0] * 12, {}),
        ([5e-324] * 9, {8: "above"}),  # the smallest number there is still has a side
    ],
)
def test_rule_2_signals_at_the_ninth_on_one_side(zs: list[float], found: dict[int, str]) -> None:
    assert where("R2", zs) == found


@pytest.mark.parametrize("run", [7, 8, 9])
def test_rule_2_may_be_set_shorter(run: int) -> None:
    assert where("R2", [-1.0] * 9, run=run) == {i: "below" for i in range(run - 1, 9)}


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4], {}),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], {5: "up"}),  # six points are five steps
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.1], {5: "down", 6: "down"}),
        ([0.0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5], {}),  # a tie breaks it
        ([0.0, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {7: "up"}),  # the second of the tied begins anew
        ([0.0] * 8, {}),
        ([-0.3, -0.2, -0.1, 0.1, 0.2, 3.0], {5: "up"}),  # across the centre line, in any steps
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1, 0.0, -0.1], {9: "down"}),  # the peak counts for both ways
        ([-0.0, 0.0, 1.0, 2.0, 3.0, 4.0], {}),  # minus zero ties with zero
    ],
)
def test_rule_3_signals_at_the_sixth_of_a_trend(zs: list[float], found: dict[int, str]) -> None:
    assert where("R3", zs) == found


def test_rule_3_may_be_set_to_seven() -> None:
    assert where("R3", [0.1 * i for i in range(8)], trend=7) == {6: "up", 7: "up"}


SAW = [0.0, 1.0] * 7


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        (SAW[:13], {}),
        (SAW, {13: "either"}),  # fourteen points are thirteen steps
        ([*SAW[1:], 0.0, 1.0], {13: "either", 14: "either"}),  # the first step may go down
        ([*SAW, 0.0], {13: "either", 14: "either"}),
        ([*SAW, 2.0], {13: "either"}),  # two steps up
        ([*SAW, 1.0], {13: "either"}),  # a tie
        ([*SAW[:7], SAW[6], *SAW[7:]], {}),  # a tie in the middle
        ([*SAW[:7], 0.5, *SAW[7:]], {}),  # an extra step the same way
        ([v + 2.0 for v in SAW], {13: "either"}),  # wherever the centre line is
        ([v * HAIR for v in SAW], {13: "either"}),
        ([-0.0, 0.0] * 7, {}),
        ([(-1.0) ** i * i for i in range(15)], {13: "either", 14: "either"}),  # steps of any size
    ],
)
def test_rule_4_signals_at_the_fourteenth_up_and_down_in_turn(zs: list[float], found: dict[int, str]) -> None:
    assert where("R4", zs) == found


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([2.5], {}),
        ([2.5, 2.5], {1: "above"}),  # at the second point of a stretch
        ([-2.5, -2.5, -2.5], {1: "below", 2: "below"}),
        ([2.5, 0.0, 2.5], {2: "above"}),
        ([2.5, 0.0, 0.0, 2.5], {}),
        ([2.5, 2.5, 0.0], {1: "above"}),  # two of three, but this point is not one of them
        ([0.0, 2.5, 2.5], {2: "above"}),
        ([2.5, -2.5], {}),  # not on one side
        ([2.5, -2.5, 2.5], {2: "above"}),
        ([2.5, -2.5, 2.5, -2.5], {2: "above", 3: "below"}),
        ([2.0, 2.5], {}),  # on the line is not beyond
        ([2.5, 2.0], {}),
        ([2.0 + HAIR, 2.0 + HAIR], {1: "above"}),
        ([-2.0 - HAIR, -2.0], {}),
        ([4.0, 4.0], {1: "above"}),  # beyond three sigma is beyond two
    ],
)
def test_rule_5_signals_with_two_of_three_beyond_two_sigma(zs: list[float], found: dict[int, str]) -> None:
    assert where("R5", zs) == found


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([1.5] * 3, {}),
        ([1.5] * 4, {3: "above"}),  # at the fourth point of a stretch
        ([-1.5] * 5, {3: "below", 4: "below"}),
        ([1.5, 1.5, 1.5, 0.0, 1.5], {4: "above"}),
        ([0.0, 1.5, 1.5, 1.5, 1.5], {4: "above"}),
        ([1.5, 1.5, 1.5, 1.5, 0.0], {3: "above"}),  # four of five, but this point is not one of them
        ([1.5, 1.5, 0.0, 0.0, 1.5, 1.5], {}),
        ([1.5, 1.5, 0.0, 1.5, 0.0, 1.5, 1.5], {}),
        ([1.5, 1.5, 1.5, -1.5, 1.5], {4: "above"}),  # the one may lie anywhere
        ([1.5, 1.5, -1.5, -1.5, 1.5], {}),
        ([1.5, 1.5, 1.5, 1.0], {}),  # on the line is not beyond
        ([1.5, 1.5, 1.5, 1.0 + HAIR], {3: "above"}),
        ([-1.0 - HAIR] * 3 + [-1.0, -1.5], {4: "below"}),
        ([1.5, 2.5, 3.5, 1.5], {3: "above"}),
    ],
)
def test_rule_6_signals_with_four_of_five_beyond_one_sigma(zs: list[float], found: dict[int, str]) -> None:
    assert where("R6", zs) == found


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([0.5] * 14, {}),
        ([0.5] * 15, {14: "either"}),
        ([0.0] * 16, {14: "either", 15: "either"}),  # on the centre line is inside
        ([1.0] * 15, {14: "either"}),  # and so is on the line at one sigma
        ([-1.0, 1.0] * 8, {14: "either", 15: "either"}),
        ([1.0] * 14 + [1.0 + HAIR], {}),
        ([-1.0 - HAIR] + [-1.0] * 14, {}),
        ([0.5] * 14 + [1.5] + [0.5] * 15, {29: "either"}),
        ([0.5] * 15 + [1.5], {14: "either"}),
    ],
)
def test_rule_7_signals_at_the_fifteenth_within_one_sigma(zs: list[float], found: dict[int, str]) -> None:
    assert where("R7", zs) == found


@pytest.mark.parametrize(
    ("zs", "found"),
    [
        ([1.5, -1.5] * 3 + [1.5], {}),
        ([1.5, -1.5] * 4, {7: "either"}),
        ([1.5] * 12, {}),  # all above: rules 2 and 6 tell of it
        ([-1.5] * 12, {}),
        ([1.5] * 7 + [-1.5], {7: "either"}),  # one on the other side is enough
        ([-1.5] + [1.5] * 7, {7: "either"}),
        ([-1.5] + [1.5] * 8, {7: "either"}),  # at the last, the one below has left the eight
        ([1.5] * 10 + [-1.5], {10: "either"}),
        ([1.5, -1.5] * 3 + [1.5, 1.0], {}),  # on the line is not beyond
        ([1.5, -1.5] * 3 + [1.5, -1.0 - HAIR], {7: "either"}),
        ([1.5, -1.5] * 3 + [0.0] + [1.5, -1.5] * 4, {14: "either"}),
        ([4.0, -4.0] * 4, {7: "either"}),
    ],
)
def test_rule_8_signals_at_the_eighth_beyond_one_sigma_on_both_sides(
    zs: list[float], found: dict[int, str]
) -> None:
    assert where("R8", zs) == found


@pytest.mark.parametrize("rule", oracle.DEFINITIONS)
def test_an_empty_stretch_signals_nothing(rule: str) -> None:
    assert oracle.signals(rule, []) == []


@given(nelson_zs)
def test_the_mirror_image_signals_on_the_other_side(zs: list[float]) -> None:
    for rule in oracle.DEFINITIONS:
        mirrored = oracle.signals(rule, [-z for z in zs])

        assert mirrored == [None if side is None else MIRROR_IMAGE[side] for side in oracle.signals(rule, zs)]


@given(nelson_zs)
def test_what_comes_later_changes_no_signal(zs: list[float]) -> None:
    for rule in oracle.DEFINITIONS:
        assert oracle.signals(rule, zs[: len(zs) // 2]) == oracle.signals(rule, zs)[: len(zs) // 2]


@given(scores)
def test_the_signals_of_values_alone_are_those_of_rules_1_to_3(zs: list[float]) -> None:
    expected = {
        (rule, side): [i for i, s in enumerate(oracle.signals(rule, zs)) if s == side]
        for rule, sides in {"R1": ("above", "below"), "R2": ("above", "below"), "R3": ("up", "down")}.items()
        for side in sides
    }

    assert oracle.signals(zs) == {key: indices for key, indices in expected.items() if indices}

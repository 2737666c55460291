"""`llmscope analyze` on files: published examples, gaps, phases, the detectors, and what is wrong with a call."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llmscope.cli import cli

# Montgomery, Introduction to Statistical Quality Control, table 9.1: target 10, sigma 1
MONTGOMERY_9_1 = [9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.2, 10.34, 9.03, 11.47, 10.51, 9.4, 10.08, 9.37, 10.62, 10.31, 8.52, 10.84, 10.9, 9.33, 12.29, 11.5, 10.6, 11.08, 10.38, 11.62, 11.31, 10.52]  # fmt: skip  # noqa: E501
# NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.2, 6.3.2.3 and 6.3.2.4
NIST_INDIVIDUALS = [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]
NIST_EWMA = [52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5, 49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]  # fmt: skip  # noqa: E501
NIST_EWMA_STATISTIC = [50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33, 50.11, 49.36, 49.52, 50.05, 49.38, 49.92, 50.73, 51.23, 51.94, 51.99]  # fmt: skip  # noqa: E501
NIST_CUSUM = [324.925, 324.675, 324.725, 324.350, 325.350, 325.225, 324.125, 324.525, 325.225, 324.600, 324.625, 325.150, 328.325, 327.250, 327.825, 328.500, 326.675, 327.775, 326.875, 328.350]  # fmt: skip  # noqa: E501


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_csv(file_name: str = "data.csv", /, **columns: Any) -> str:
        path = tmp_path / file_name
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return str(path)

    return to_csv


def analyzed(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["analyze", *arguments, "--format", "json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_cusum_of_montgomerys_example_signals_at_the_29th_point(write: Any) -> None:
    found = analyzed(write(value=MONTGOMERY_9_1), "--chart", "cusum", "--target", "10", "--sigma", "1")

    assert found["hits"]["R1"] == [28, 29]
    assert found["statistic"][28] == pytest.approx(5.28)
    # two-sided ARL of h = 5, k = .5 is 465.4 points; one point every 2 s
    assert found["expected_false_alarms_per_day"] == pytest.approx(43_200 / 465.4, rel=1e-3)


def test_ewma_of_the_nist_handbook(write: Any) -> None:
    found = analyzed(
        write(value=NIST_EWMA), "--chart", "ewma", "--lambda", "0.3", "--centre", "50", "--sigma", "2.0539"
    )

    assert found["statistic"] == pytest.approx(NIST_EWMA_STATISTIC, abs=0.006)
    assert found["ucl"][-1] == pytest.approx(52.5884, abs=0.001)
    assert found["lcl"][-1] == pytest.approx(47.4115, abs=0.001)


def test_cusum_of_the_nist_handbook_signals_from_the_14th_group(write: Any) -> None:
    found = analyzed(
        write(value=NIST_CUSUM), "--chart", "cusum", "--target", "325", "--sigma", "0.635",
        "--k", str(0.3175 / 0.635), "--h", str(4.1959 / 0.635),
    )  # fmt: skip

    assert found["hits"]["R1"] == list(range(13, 20))


def test_individuals_of_the_nist_handbook(write: Any) -> None:
    found = analyzed(write(value=NIST_INDIVIDUALS), "--chart", "imr")

    assert found["centre"] == pytest.approx(50.81)
    assert (found["ucl"], found["lcl"]) == pytest.approx((55.8041, 45.8159), abs=0.001)


def test_a_p_chart_has_limits_that_vary_with_the_size(write: Any) -> None:
    found = analyzed(
        write(value=[12, 8, 6, 9, 30], size=[100, 80, 80, 100, 110]),
        "--chart",
        "p",
        "--size",
        "size",
        "--baseline",
        "4",
    )
    p = 35 / 360

    assert found["centre"] == pytest.approx(p)
    assert found["ucl"] == pytest.approx(
        [p + 3 * math.sqrt(p * (1 - p) / n) for n in (100, 80, 80, 100, 110)]
    )
    assert found["hits"]["R1"] == [4]


def test_c_u_and_np_charts_follow_their_definitions(write: Any) -> None:
    counts = [4.0, 2.0, 7.0, 3.0]
    path = write(value=counts, size=[50, 40, 65, 50])

    assert analyzed(path, "--chart", "c")["ucl"] == pytest.approx(4.0 + 3 * 2.0)
    u = sum(counts) / 205
    assert analyzed(path, "--chart", "u", "--size", "size")["ucl"][1] == pytest.approx(
        u + 3 * math.sqrt(u / 40)
    )
    fifty = write("fifty.csv", value=counts, size=[50] * 4)
    p = 16 / 200
    assert analyzed(fifty, "--chart", "np", "--size", "size")["ucl"] == pytest.approx(
        4.0 + 3 * math.sqrt(50 * p * (1 - p))
    )


def test_xbar_s_by_a_column_and_by_count_agree(write: Any) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(10.0, 1.0, 40).tolist()
    path = write(value=values, batch=[i // 5 for i in range(40)])
    by_column, by_count = (analyzed(path, "--chart", "xbar-s", "--subgroup", how) for how in ("batch", "5"))
    sds = [np.std(values[i : i + 5], ddof=1) for i in range(0, 40, 5)]

    assert by_column["ucl"] == by_count["ucl"]
    assert by_column["n"] == 8
    assert by_column["ucl"] == pytest.approx(np.mean(values) + 1.4273 * np.mean(sds), rel=1e-4)  # A3(5)


def test_phases_have_limits_of_their_own_and_an_excluded_row_is_only_plotted(write: Any) -> None:
    values = [10.0, 11.0, 10.0, 11.0, 99.0, 10.0, 20.0, 21.0, 20.0, 21.0, 20.0]
    found = analyzed(
        write(value=values), "--scale", "linear", "--phase-at", "6", "--exclude", "4", "--rules", "R1,R2"
    )

    assert [(p["start"], p["stop"], p["n"]) for p in found["phases"]] == [(0, 6, 5), (6, 11, 5)]
    assert [p["centre"] for p in found["phases"]] == pytest.approx([10.4, 20.4])
    assert found["hits"] == {"R1": [4], "R2": []}
    assert found["violations"] == []
    assert found["n"] == 11


def test_rows_without_a_number_are_gaps_and_named(write: Any) -> None:
    values = ["1.0"] * 8 + ["", "1.0", "x"] + ["1.0"] * 8
    found = analyzed(write(value=values), "--centre", "0", "--sigma", "1", "--rules", "R2")

    assert found["n"] == 17
    assert found["hits"]["R2"] == []  # no nine in a row without a gap
    assert any("2 rows without a number in 'value'" in w and "8, 10" in w for w in found["warnings"])


def test_a_scale_factor_changes_no_hit_on_the_log_scale(write: Any) -> None:
    values = np.exp(np.random.default_rng(2).normal(3.0, 0.4, 500))
    first, second = (analyzed(write(f"{k}.csv", value=(values * k).tolist())) for k in (1.0, 1000.0))

    assert first["scale"] == "log"
    assert first["hits"] == second["hits"]
    assert second["centre"] == pytest.approx(1000.0 * first["centre"])


def test_the_detectors_find_and_size_a_shift(write: Any) -> None:
    values = np.exp(np.random.default_rng(3).normal(4.0, 0.2, 20_000))
    values[15_000:] *= 1.2
    path = write(value=values.tolist())
    found = analyzed(path, "--learn", "2h")
    (alarm,) = found["alarms"]

    assert (alarm["detector"], alarm["direction"], alarm["state"]) == ("SHIFT", "up", "open")
    assert abs(alarm["change"] - 15_000) <= 30
    assert alarm["opened"] - 15_000 < 180  # six minutes
    assert alarm["size_low"] < 20.0 < alarm["size_high"]
    assert found["expected_false_alarms_per_day"] == pytest.approx(1 / 7)
    assert analyzed(path, "--learn", "2h", "--min-change", "40%")["alarms"] == []
    assert analyzed(path, "--learn", "2h", "--budget", "none")["alarms"] == []
    assert len(analyzed(path, "--baseline", "5000:10000")["alarms"]) == 1


def test_json_lines_with_times_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"t": f"2026-01-01T00:{i // 6:02d}:{i % 6 * 10:02d}Z", "ms": 5.0 + i % 3} for i in range(60)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = analyzed(str(path), "--value", "ms", "--time", "t", "--rules", "R1")

    assert found["n"] == 60
    # one point every 10 s: 8,640 a day, of which one in 370.4 breaks R1 by chance
    assert found["expected_false_alarms_per_day"] == pytest.approx(8640 / 370.4, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--value", "other"], "has no column 'other'; it has value, name"),
        (["--value", "name"], "there is no row with a number in column 'name'"),
        (["--baseline", "90"], "--baseline 0:90 lies outside the 40 rows"),
        (["--baseline", "a:b"], "--baseline must be N or START:END"),
        (["--exclude", "99"], "--exclude 99:100 lies outside the 40 rows"),
        (["--phase-at", "400"], "--phase-at must be a row from 1 to 39"),
        (["--chart", "pie"], "--chart must be one of points"),
        (["--chart", "p"], "needs --size"),
        (["--chart", "xbar-s"], "needs --subgroup"),
        (["--rules", "R9"], "must be rules such as"),
        (["--budget", "often"], "must be a budget such as"),
        (["--sigma", "-1"], "--sigma must be above zero"),
        (["--plot", "chart.gif"], "--plot writes .html or .png"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(write: Any, arguments: list[str], says: str) -> None:
    path = write(value=[1.0, 2.0] * 20, name=["a"] * 40)
    result = CliRunner().invoke(cli, ["analyze", path, *arguments])

    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["analyze", str(tmp_path / "none.csv")])

    assert result.exit_code == 2
    assert "cannot read" in result.stderr


@pytest.mark.parametrize("name", ["chart.html", "chart.png"])
def test_the_chart_can_be_drawn(write: Any, tmp_path: Path, name: str) -> None:
    path = write(value=[10.0, 11.0, 10.5, 10.2, 30.0] * 20)
    result = CliRunner().invoke(cli, ["analyze", path, "--plot", str(tmp_path / name)])

    assert result.exit_code == 0
    written = (tmp_path / name).read_bytes()
    assert written.startswith(b"\x89PNG") if name.endswith("png") else b"<svg" in written

"""Sensors: the drift is found, and its sensor is named; silence is not taken for it."""

from pathlib import Path

import pytest

from examples import sensors


@pytest.mark.slow
def test_the_drifting_sensor_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sensors.SMALL, "fit", {"batch_size": 64, "epochs": 25})
    sensors.main(str(tmp_path / "sensors"))
    lines = capsys.readouterr().out.splitlines()
    days = [line.split() for line in lines[2:-1]]
    shares = [float(day[1].rstrip("%")) for day in days]
    assert len(days) == 30
    assert max(shares[: sensors.DRIFT_BEGINS]) < 10
    assert min(shares[-5:]) > 50
    assert {day[2] for day in days[-8:]} == {"flow_m3h"}
    assert lines[-1].startswith("the strangest row: flow_m3h reads ")
    assert (tmp_path / "sensors" / "models" / "pump" / "1").is_dir()


def test_sensors_are_silent_now_and_then_and_drift_by_one_per_cent_a_day() -> None:
    steady, drifting = sensors.simulate(20, seed=3), sensors.simulate(20, seed=3, drift_begins=10)
    assert steady.slice(0, 10 * sensors.A_DAY).equals(drifting.slice(0, 10 * sensors.A_DAY))
    assert 0.15 < steady["vibration_mms"].null_count / len(steady) < 0.25
    assert steady.drop_columns(["flow_m3h"]).equals(drifting.drop_columns(["flow_m3h"]))
    last = [readings["flow_m3h"].to_pylist()[-9:] for readings in (drifting, steady)]
    ratios = [read / true for read, true in zip(*last, strict=True) if read is not None]
    assert ratios
    assert all(0.89 < each < 0.91 for each in ratios)

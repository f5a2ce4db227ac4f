"""Which sensor is off: a pump station whose flow meter drifts, in a table with missing values.

Simulates two months, trains on the first and watches the second, without a service:

    pip install -c constraints.txt -e '.[training]'    # or run scripts/demo once, which does this in .venv
    python examples/sensors.py demo/sensors

It writes what it makes into the folder that you name. Git ignores the folder `demo`.
"""

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

import surprisal

A_DAY = 144  # a row every ten minutes
DRIFT_BEGINS = 10
"""The day of the second month from which on the flow meter loses one per cent a day."""
SMALL = {"network": {"hidden": [64]}, "fit": {"batch_size": 64, "epochs": 60}}
"""A small network, so that you do not wait; without `config` you get the defaults, which are larger."""


def simulate(days: int, seed: int, drift_begins: int | None = None) -> pa.Table:
    """Readings of six sensors, which follow the pump's speed and the pressure at the inlet.

    Args:
        days: How many; each has its rhythm.
        seed: Same seed, same readings.
        drift_begins: The day on which the flow meter begins to lose one per cent a day; None: never.

    Returns:
        Columns `time` and the sensors. A sensor is silent now and then, the vibration sensor most of all.
    """
    random = np.random.default_rng(seed)
    rows = days * A_DAY
    day = np.arange(rows) / A_DAY
    speed = 0.7 + 0.15 * np.sin(2 * np.pi * day) + 0.06 * random.standard_normal(rows)
    inlet = 2.0 + 0.2 * random.standard_normal(rows)
    outlet = inlet + 5.0 * speed**2
    power = 11.0 * speed**3 + 1.0
    sensors = {
        "flow_m3h": 60.0 * speed,
        "inlet_bar": inlet,
        "outlet_bar": outlet,
        "power_kw": power,
        "motor_celsius": 30.0 + 4.0 * power,
        "vibration_mms": 1.0 + 2.0 * speed**2,
    }
    if drift_begins is not None:
        sensors["flow_m3h"] *= 1.0 - 0.01 * np.maximum(day - drift_begins, 0.0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    columns = {"time": pa.array([start + timedelta(minutes=10 * row) for row in range(rows)])}
    for name, values in sensors.items():
        noisy = values * (1.0 + 0.01 * random.standard_normal(rows))
        columns[name] = pa.array(noisy.round(3), mask=random.random(rows) < (0.2 if name == "vibration_mms" else 0.05))
    return pa.table(columns)


def by_day(flagged: list[bool], named: list[str]) -> list[tuple[float, str]]:
    """What an engineer reads in the morning.

    Args:
        flagged: Of each row whether it is strange.
        named: Of each strange row the sensor that explains it best.

    Returns:
        Of each day the share of strange rows, and the sensor that explains most of them.
    """
    names, days = iter(named), []
    for start in range(0, len(flagged), A_DAY):
        today = Counter(next(names) for strange in flagged[start : start + A_DAY] if strange)
        days.append((today.total() / A_DAY, today.most_common(1)[0][0] if today else ""))
    return days


def main(folder: str = "demo/sensors") -> None:
    """Train on a month that was normal, and watch the next one.

    Args:
        folder: Where data and model are written.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(simulate(30, seed=1), out / "pump.parquet")
    print("training, a minute or less")
    model = surprisal.train(out / "pump.parquet", out / "models", config=SMALL)

    readings = simulate(30, seed=2, drift_begins=DRIFT_BEGINS)
    # The time is no field of the model; columns that are no field are passed over.
    flagged = model.score(readings)["is_anomaly"]
    # An explanation costs ten times a score, so only strange rows are explained.
    why = model.score(readings.filter(flagged), explain=True)
    print("day  strange  sensor")
    for day, (share, sensor) in enumerate(by_day(flagged.to_pylist(), why["explanation_1_field"].to_pylist())):
        print(f"{day:3}  {share:7.1%}  {sensor}")

    row = max(why.to_pylist(), key=lambda row: row["anomaly_score"])
    print(
        f"the strangest row: {row['explanation_1_field']} reads {row['explanation_1_value']}; by the other sensors it "
        f"should read {row['explanation_1_interval_low']:.1f} to {row['explanation_1_interval_high']:.1f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

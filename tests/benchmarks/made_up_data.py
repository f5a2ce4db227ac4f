"""Files as the public data sets of the studies are, with a few rows and images that mean nothing."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

DIGITS, COLOURED = ("mnist", "fashion_mnist"), ("cifar10",)
FOREIGN = ("gtsrb", "svhn100", "textures")
ATTACKS = ("neptune", "satan", "guess_passwd", "rootkit")
"""One of each family."""
IMAGES, ROWS, DAYS = 60, 240, 21


def write(folder: Path) -> None:
    """Write every file that a study reads."""
    random = np.random.default_rng(0)
    for name in (*DIGITS, *COLOURED):
        shape = (28, 28) if name in DIGITS else (32, 32, 3)
        parts = {f"x_{part}": images(random, shape) for part in ("train", "test")}
        labels = np.arange(IMAGES, dtype=np.uint8) % 10
        np.savez(folder / f"{name}.npz", allow_pickle=False, y_train=labels, y_test=labels, **parts)
    for name in FOREIGN:
        labels = np.zeros(IMAGES, np.int16)
        np.savez(folder / f"{name}.npz", allow_pickle=False, x_test=images(random, (32, 32, 3)), y_test=labels)
    for name in ("train20", "test"):
        pyarrow.parquet.write_table(connections(random), folder / f"nslkdd_{name}.parquet")
    pyarrow.parquet.write_table(credit_cards(random), folder / "creditcard_subset.parquet")
    pyarrow.parquet.write_table(simulated_cards(random), folder / "fdh_transactions_3w.parquet")


def images(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Squares of chance levels, four pixels a side, as no two images have them: (IMAGES, *shape)."""
    coarse = random.integers(0, 256, (IMAGES, shape[0] // 4, shape[1] // 4, *shape[2:]), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def connections(random: np.random.Generator) -> pa.Table:
    """Half of them normal, and each family of attacks."""
    attack = np.array([*["normal"] * (ROWS // 2), *np.resize(ATTACKS, ROWS - ROWS // 2)])
    return pa.table(
        {
            "duration": random.poisson(20, ROWS),
            "protocol_type": random.choice(["tcp", "udp"], ROWS),
            "serror_rate": random.uniform(size=ROWS).astype(np.float32),
            "src_bytes": random.poisson(np.where(attack == "normal", 300, 900)),
            "attack": attack,
            "difficulty": random.integers(0, 22, ROWS),
            "label": (attack != "normal").astype(np.int8),
        }
    )


def credit_cards(random: np.random.Generator) -> pa.Table:
    """A tenth of them frauds."""
    fraud = np.arange(ROWS) % 10 == 0
    return pa.table(
        {
            "Time": np.arange(ROWS, dtype=np.int32),
            "V1": random.normal(fraud * 3.0, 1.0),
            "V2": random.normal(size=ROWS),
            "Amount": random.lognormal(3.0, 1.0, ROWS).round(2),
            "Class": fraud.astype(np.int8),
            "source": np.where(fraud, "frauds", "others"),
        }
    )


def simulated_cards(random: np.random.Generator) -> pa.Table:
    """Three weeks in order, a tenth of them frauds, with a column that counts earlier ones."""
    fraud = np.arange(ROWS) % 10 == 0
    days = np.sort(np.resize(np.arange(DAYS), ROWS)).astype(np.int16)
    ids = np.arange(ROWS, dtype=np.int32)
    return pa.table(
        {
            "TRANSACTION_ID": ids,
            "TX_DATETIME": days.astype("datetime64[D]").astype("datetime64[ms]"),
            "CUSTOMER_ID": ids % 7,
            "TERMINAL_ID": ids % 11,
            "TX_AMOUNT": random.lognormal(3.0 + fraud, 1.0).round(2),
            "TX_TIME_SECONDS": days.astype(np.int32) * 86_400,
            "TX_TIME_DAYS": days,
            "TX_FRAUD": fraud.astype(np.int8),
            "TX_FRAUD_SCENARIO": fraud.astype(np.int8),
            "TX_DURING_NIGHT": random.integers(0, 2, ROWS).astype(np.int8),
            "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW": random.lognormal(3.0, 0.5, ROWS).astype(np.float32),
            "TERMINAL_ID_RISK_7DAY_WINDOW": random.uniform(size=ROWS).astype(np.float32),
        }
    )

"""A simulator of card payments and a few kinds of fraud, for the demo, the tests and the benchmarks.

Every customer has a home country, a usual amount, a usual pace and an hour at which they like to shop; a merchant's
category decides how much is usually spent there and through which channels. What depends on what:

    customer ──> country, hour, pace ──> minutes_since_last, transactions_24h
        │
        └─────> usual amount ──┐
    merchant category ─────────┴──> amount          channel ──> card_present, distance_km (missing online)

Fraud breaks these dependencies, each kind in its own way, and mostly within the range of single fields:

| kind | what happens |
|---|---|
| `stolen_card` | chip or contactless at night, far from home, several times the usual amount |
| `card_testing` | a burst of tiny online payments a few minutes apart |
| `account_takeover` | online at a merchant new to the customer, in another country, a large amount |
| `cloned_card` | cash withdrawals in another country, soon after a payment at home |
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

COUNTRIES = ("SE", "NO", "DK", "FI", "DE", "NL", "FR", "ES", "IT", "PL")
CATEGORIES = ("groceries", "restaurant", "fuel", "transport", "clothing", "electronics", "travel", "cash", "digital")
CHANNELS = ("contactless", "chip", "online", "atm")
FRAUDS = ("stolen_card", "card_testing", "account_takeover", "cloned_card")
LABEL, NORMAL = "fraud", "no"

_CUSTOMERS = 4000
_HOMES = (0.34, 0.14, 0.12, 0.10, 0.10, 0.06, 0.05, 0.04, 0.03, 0.02)
_CATEGORY_SHARES = (0.34, 0.16, 0.07, 0.12, 0.08, 0.04, 0.03, 0.04, 0.12)
_LOG_AMOUNT = (3.3, 3.2, 3.9, 1.8, 4.0, 4.5, 4.7, 4.2, 2.3)
_LOG_SPREAD = (0.50, 0.40, 0.25, 0.40, 0.45, 0.40, 0.40, 0.35, 0.40)
# Rows: categories; columns: channels.
_CHANNEL_SHARES = (
    (0.70, 0.25, 0.05, 0.0),
    (0.65, 0.30, 0.05, 0.0),
    (0.45, 0.55, 0.00, 0.0),
    (0.60, 0.10, 0.30, 0.0),
    (0.25, 0.35, 0.40, 0.0),
    (0.05, 0.40, 0.55, 0.0),
    (0.05, 0.15, 0.80, 0.0),
    (0.00, 0.00, 0.00, 1.0),
    (0.00, 0.00, 1.00, 0.0),
)
_OPENING_HOURS = ((8, 21), (11, 23), (6, 22), (5, 23), (10, 20), (10, 20), (7, 22), (7, 23), (7, 23))

_ONLINE = CHANNELS.index("online")

Columns = dict[str, npt.NDArray[Any]]


def simulate(rows: int, seed: int, fraud_share: float = 0.02) -> pa.Table:
    """Simulate card payments.

    Args:
        rows: How many.
        seed: Same seed, same rows.
        fraud_share: Share of them that is fraud, each kind equally often.

    Returns:
        Columns `amount` (euro), `hour` (0 to 23, local), `merchant_category`, `country`, `channel`, `card_present`,
        `new_merchant`, `distance_km` (from home; missing online), `minutes_since_last`, `transactions_24h`,
        `average_amount_30d` (missing for new customers) and the label `fraud` (`no` or the kind).
    """
    random = np.random.default_rng(seed)
    columns = _normal(random, rows)
    label = np.full(rows, NORMAL, object)
    fraudulent = random.permutation(rows)[: round(fraud_share * rows)]
    for kind, chosen in zip(FRAUDS, np.array_split(fraudulent, len(FRAUDS)), strict=True):
        label[chosen] = kind
        _COMMIT[kind](random, columns, chosen)
    online = columns["channel"] == "online"
    return pa.table(
        {
            "amount": np.round(columns["amount"].astype(np.float64), 2),
            "hour": columns["hour"],
            "merchant_category": columns["merchant_category"],
            "country": columns["country"],
            "channel": columns["channel"],
            "card_present": ~online,
            "new_merchant": columns["new_merchant"],
            "distance_km": pa.array(np.round(columns["distance_km"].astype(np.float64), 1), mask=online),
            "minutes_since_last": np.round(columns["minutes_since_last"].astype(np.float64)),
            "transactions_24h": columns["transactions_24h"],
            "average_amount_30d": pa.array(
                np.round(columns["average_amount_30d"].astype(np.float64), 2), mask=columns["newcomer"].astype(bool)
            ),
            LABEL: pa.array(label, pa.string()),
        }
    )


def _normal(random: np.random.Generator, rows: int) -> Columns:
    home = random.choice(len(COUNTRIES), _CUSTOMERS, p=_HOMES)
    wealth = random.normal(0.0, 0.30, _CUSTOMERS)
    pace = random.gamma(4.0, 0.6, _CUSTOMERS) + 1.0  # payments a day
    favourite_hour = random.normal(15.0, 2.5, _CUSTOMERS)
    customer = random.integers(_CUSTOMERS, size=rows)
    category = random.choice(len(CATEGORIES), rows, p=_CATEGORY_SHARES)
    channel = _choose(random, np.array(_CHANNEL_SHARES)[category])
    abroad = (random.random(rows) < 0.05) & (channel != _ONLINE)
    country = np.where(abroad, random.choice(len(COUNTRIES), rows, p=_HOMES), home[customer])
    opens, closes = np.array(_OPENING_HOURS)[category].T
    hour = np.clip(np.round(random.normal(favourite_hour[customer], 2.8)), opens, closes)
    amount = np.exp(
        np.array(_LOG_AMOUNT)[category] + wealth[customer] + random.normal(0, np.array(_LOG_SPREAD)[category])
    )
    # Abroad is across the next border: everybody's journeys end somewhere, and so do the fields' tails.
    distance = np.where(abroad, 45 + 30 * random.beta(2, 2, rows), 30 * random.beta(1.5, 4, rows))
    busy = random.poisson(pace[customer])
    pause = random.exponential(1440.0 / (pace[customer] + 0.5 * busy))
    usual = np.exp(3.35 + wealth[customer] + random.normal(0, 0.12, rows))
    return {
        "amount": amount,
        "hour": hour.astype(np.int64),
        "merchant_category": np.array(CATEGORIES, object)[category],
        "country": np.array(COUNTRIES, object)[country],
        "channel": np.array(CHANNELS, object)[channel],
        "new_merchant": random.random(rows) < np.where(abroad, 0.8, 0.12),
        "distance_km": distance,
        "minutes_since_last": np.minimum(pause, 2 * 1440.0),
        "transactions_24h": busy.astype(np.int64),
        "average_amount_30d": usual,
        "newcomer": random.random(rows) < 0.03,
    }


def _choose(random: np.random.Generator, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """One column of each row of `shares`, with that probability."""
    passed: npt.NDArray[np.int64] = (random.random((len(shares), 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return passed.clip(max=shares.shape[1] - 1)


def _steal_card(random: np.random.Generator, columns: Columns, rows: npt.NDArray[np.int64]) -> None:
    size = rows.size
    columns["merchant_category"][rows] = random.choice(["electronics", "clothing", "fuel"], size)
    columns["channel"][rows] = random.choice(["contactless", "chip"], size)
    columns["hour"][rows] = random.choice([22, 23, 0, 1, 2, 3], size)
    columns["amount"][rows] = columns["average_amount_30d"][rows] * random.uniform(4.0, 9.0, size)
    columns["distance_km"][rows] = random.uniform(25.0, 80.0, size)
    columns["new_merchant"][rows] = True
    columns["minutes_since_last"][rows] = random.uniform(5.0, 60.0, size)


def _test_card(random: np.random.Generator, columns: Columns, rows: npt.NDArray[np.int64]) -> None:
    size = rows.size
    columns["merchant_category"][rows] = random.choice(["digital", "clothing", "travel"], size)
    columns["channel"][rows] = "online"
    columns["amount"][rows] = random.uniform(0.5, 2.5, size)
    columns["new_merchant"][rows] = True
    columns["minutes_since_last"][rows] = random.uniform(0.0, 4.0, size)
    columns["transactions_24h"][rows] = random.integers(9, 25, size)


def _take_over(random: np.random.Generator, columns: Columns, rows: npt.NDArray[np.int64]) -> None:
    size = rows.size
    columns["merchant_category"][rows] = random.choice(["electronics", "travel", "digital"], size)
    columns["channel"][rows] = "online"
    columns["country"][rows] = random.choice(["IT", "PL", "ES", "FR"], size)
    columns["amount"][rows] = columns["average_amount_30d"][rows] * random.uniform(10.0, 25.0, size)
    columns["new_merchant"][rows] = True
    columns["hour"][rows] = random.integers(0, 6, size)


def _clone_card(random: np.random.Generator, columns: Columns, rows: npt.NDArray[np.int64]) -> None:
    size = rows.size
    columns["merchant_category"][rows] = "cash"
    columns["channel"][rows] = "atm"
    columns["country"][rows] = random.choice(["ES", "IT", "PL"], size)
    columns["amount"][rows] = random.choice([200.0, 300.0, 400.0, 500.0], size)
    columns["distance_km"][rows] = random.uniform(60.0, 110.0, size)
    columns["minutes_since_last"][rows] = random.uniform(3.0, 40.0, size)
    columns["transactions_24h"][rows] = random.integers(5, 12, size)


_COMMIT = {
    "stolen_card": _steal_card,
    "card_testing": _test_card,
    "account_takeover": _take_over,
    "cloned_card": _clone_card,
}

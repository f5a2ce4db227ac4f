"""The simulator of card payments."""

import numpy as np

from training.data.transactions import FRAUDS, LABEL, NORMAL, simulate


def test_same_seed_same_rows() -> None:
    assert simulate(500, 1).equals(simulate(500, 1))
    assert not simulate(500, 1).equals(simulate(500, 2))


def test_each_kind_of_fraud_has_its_share() -> None:
    labels = simulate(4000, 1, fraud_share=0.02)[LABEL].to_pylist()
    assert {kind: labels.count(kind) for kind in FRAUDS} == dict.fromkeys(FRAUDS, 20)
    assert set(simulate(500, 1, fraud_share=0.0)[LABEL].to_pylist()) == {NORMAL}


def test_what_is_missing_is_missing_for_a_reason() -> None:
    table = simulate(4000, 1)
    online = np.array(table["channel"].to_pylist()) == "online"
    assert (np.isnan(np.asarray(table["distance_km"])) == online).all()
    assert (np.asarray(table["card_present"]) == ~online).all()
    assert 0 < table["average_amount_30d"].null_count < 400

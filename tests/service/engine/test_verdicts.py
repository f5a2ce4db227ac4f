"""Verdicts: the same whether taken as columns or as objects."""

import numpy as np

from service.engine.verdicts import COLUMNS, NAMES, Verdicts


def test_columns_and_objects_say_the_same() -> None:
    table = np.random.default_rng(0).normal(size=(5, len(COLUMNS) + 3)).astype(np.float32).astype(np.float64)
    table[:, COLUMNS.index("is_anomaly")] = [0, 1, 1, 0, 0]
    verdicts = Verdicts(table)
    columns, objects = verdicts.columns(), verdicts.objects()
    assert set(columns) == {*NAMES, "latent_mean"}
    assert columns["latent_mean"].shape == (5, 3)
    for index, said in enumerate(objects):
        assert said.keys() == columns.keys()
        assert said["latent_mean"] == columns["latent_mean"][index].tolist()
        assert all(said[name] == columns[name][index].item() for name in NAMES)
        assert all(said[name] == table[index, place] for place, name in enumerate(NAMES))
    assert [said["is_anomaly"] for said in objects] == [False, True, True, False, False]
    assert {name for name, column in columns.items() if column.dtype == np.float64} == {
        "reconstruction_probability",
        "p_value",
    }

"""The names of columns that scoring adds; what files really have is compared in tests/surprisal/cli/test_score.py."""

from bundle.contents import answer_names
from bundle.record.fields import BooleanField, ImageField, NumericField
from bundle.record.schema import ImageSchema, TableSchema

TWO = TableSchema(
    fields=(
        NumericField(name="amount", missing_rate=0.1, mean=0.0, scale=1.0),
        BooleanField(name="new", missing_rate=0.1),
    )
)
IMAGE = ImageSchema(fields=(ImageField(name="image", height=3, width=2, channels=1),))
NOTHING = {"flat": True, "latent": False, "explain": False}


def test_a_file_gets_what_is_asked_for() -> None:
    always = (*answer_names.VERDICTS, "error")
    assert answer_names.of_scores(TWO, 2, **NOTHING) == always
    flat = answer_names.of_scores(TWO, 2, **NOTHING | {"latent": True})
    assert flat == (*always, "latent_mean_0", "latent_mean_1")
    assert answer_names.of_scores(TWO, 2, **NOTHING | {"latent": True, "flat": False})[-1] == "latent_mean"
    explained = set(answer_names.of_scores(TWO, 2, **NOTHING | {"explain": True})) - set(always)
    assert {name.partition("_")[2].partition("_")[0] for name in explained} == {"1", "2"}, "as many as there are fields"
    assert {"explanation_2_value", "explanation_1_interval_high"} <= explained


def test_every_name_is_among_those_that_training_is_told() -> None:
    for schema in (TWO, IMAGE):
        every = answer_names.every(schema, 3)
        for flat in (True, False):
            everything = {"latent": True, "explain": True, "flat": flat}
            assert set(answer_names.of_scores(schema, 3, **everything)) <= every
        assert {"row", "elbo", "is_anomaly", "latent_mean", "latent_mean_2", "explanation_1_field"} <= every
        assert "latent_mean_3" not in every
    assert "explanation_1_surprisal_map" in answer_names.every(IMAGE, 3) - answer_names.every(TWO, 3)

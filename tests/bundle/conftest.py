"""What several tests of `bundle` start from."""

import pytest
from hypothesis import settings

from bundle.contents.manifest import CalibrationSummary, Manifest, TrainingFacts
from bundle.contents.reference import FieldReference, references
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.records import encode_records
from bundle.record.schema import TableSchema

settings.register_profile("untimed", settings(), deadline=None)  # no result depends on a machine's speed
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def schema() -> TableSchema:
    """One field of each kind, none of them in the order of the graph's inputs."""
    return TableSchema(
        fields=(
            CategoricalField(name="colour", missing_rate=0.1, vocabulary=("red", "7", "true", "0.5", "-3")),
            NumericField(name="amount", missing_rate=0.1, mean=10.0, scale=2.0),
            BooleanField(name="paid", missing_rate=0.1),
        )
    )


@pytest.fixture(scope="session")
def reference(schema: TableSchema) -> tuple[FieldReference, ...]:
    """Of four rows."""
    rows = [["red", 1.0, True], ["7", 2.0, False], ["red", 3.0, None], [None, None, True]]
    return references(schema, encode_records(schema, rows))


@pytest.fixture(scope="session")
def manifest(schema: TableSchema, reference: tuple[FieldReference, ...]) -> Manifest:
    """A small manifest that lists no files yet."""
    return Manifest(
        created="2026-01-02T03:04:05Z",
        record=schema,
        reference=reference,
        latent_size=2,
        anomaly_score="iwae",
        samples=16,
        false_alarm_rate=0.01,
        calibration=CalibrationSummary(records=199, thresholds={"1": 2.5, "16": 0.1 + 0.2}),
        training=TrainingFacts(
            data="payments é.csv",
            data_sha256="0" * 64,
            rows={"train": 10},
            seed=7,
            device="cpu",
            config={"fit": {"rate": 1e-3, "sizes": [8, 4], "resume": None}},
            metrics={"validation_elbo": -3.25},
            packages={"numpy": "2"},
        ),
        files={},
    )

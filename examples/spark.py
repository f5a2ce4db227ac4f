"""Scores on a cluster of Apache Spark: every executor opens the model once, and scores batch after batch.

    .venv/bin/pip install pyspark==4.3.0
    .venv/bin/python examples/spark.py demo/payments.parquet demo/models/transactions/1 scored

It needs Java 17. On a cluster, `spark-submit` takes the place of `python`. Every executor then needs `surprisal-vae`
and a path to the model.
"""

import functools
import importlib
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

import surprisal

SCORES = {"p_value": "double", "is_anomaly": "boolean"}
"""The columns that are added, with their types in Spark."""


@functools.cache
def opened(model: str) -> surprisal.Model:
    """The model, which a process opens once for all of its tasks."""
    return surprisal.load(model)


def scored(records: DataFrame, model: str) -> DataFrame:
    """Records with their scores behind them; no row leaves the executors.

    Args:
        records: A column a field; other columns are carried along.
        model: models/NAME/VERSION: a name alone is the version that is served, which may change while the job runs.
    """

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            scores = opened(model).score(batch).select(SCORES)
            columns = [*batch.columns, *(column.combine_chunks() for column in scores.columns)]
            yield pa.RecordBatch.from_arrays(columns, [*batch.schema.names, *SCORES])

    schema = StructType([*records.schema])  # to add to the records' own would change them
    for name, kind in SCORES.items():
        schema = schema.add(name, kind)
    return records.mapInArrow(score, schema)


def main(source: str, model: str, out: str) -> None:
    """Score a folder or file of Parquet.

    Args:
        source: Records.
        model: models/NAME/VERSION.
        out: A folder that is not there yet.
    """
    session = SparkSession.builder.getOrCreate()
    # Executors keep what stands in a module that they import; of this program's main module they would make copies.
    session.sparkContext.addPyFile(__file__)
    spark = importlib.import_module("spark")
    spark.scored(session.read.parquet(source), model).write.parquet(out)
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

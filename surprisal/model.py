"""A trained model in Python: records in, scores out, the same numbers as `surprisal score`."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import RequestInvalid, ServiceError

if TYPE_CHECKING:
    import pyarrow as pa


class Model:
    """A bundle that scores tables; picklable, and usable from many threads.

    A pickled model is its path: whoever unpickles it reads the bundle there.

    Args:
        path: models/NAME (the version that is served) or models/NAME/VERSION.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        from bundle.folder import store
        from service.files.scoring import Scoring

        root, name, version = store.resolve(Path(path))
        self.name = name
        self.version = version
        self._path = root / name / str(version)
        self._scoring = Scoring(self._path)
        self._scoring.open(self._scoring.question({}))

    def __repr__(self) -> str:
        return f"surprisal.load({str(self._path)!r})"

    def __reduce__(self) -> tuple[type["Model"], tuple[str]]:
        return Model, (str(self._path),)

    def score(
        self,
        records: Any,
        *,
        samples: int | None = None,
        score: str | None = None,
        false_alarm_rate: float | None = None,
        explain: bool = False,
        latent: bool = False,
    ) -> "pa.Table":
        """Score records.

        Args:
            records: A pyarrow Table or RecordBatch, or a data frame that pyarrow can read (pandas, polars): a column a
                field, by name. A field without a column is missing in every row, and a warning says so; columns that
                are no field are passed over.
            samples: Draws a record: a power of two up to 256. By default the bundle's own number.
            score: Which of the bundle's scores decides. By default the bundle's own.
            false_alarm_rate: Share of normal records to be flagged, between 0 and 1. By default the bundle's own.
            explain: Whether to add the three most surprising fields of each record; of an image its map.
            latent: Whether to add the mean of q(z|x), as a list a record.

        Returns:
            A row a record, in order, whether it is flagged or not: the likelihoods, `anomaly_score`, `p_value` and
            `is_anomaly`, then the latent means and the explanations where they were asked for. No number is null. The
            columns of `records` are not among them.

        Raises:
            TypeError: The records are no table.
            ValueError: A value does not fit its field (the first rows of each column are named), none of the fields is
                a column, or something is asked that the bundle cannot answer. Text is no number here, whatever it looks
                like: `surprisal score` alone reads files as people write them.
        """
        from service.files.scoring import of_table
        from surprisal import misfits

        wanted = {
            "samples": samples,
            "score": score,
            "false_alarm_rate": false_alarm_rate,
            "explain": explain or None,
        }
        table = as_table(records)
        try:
            question = self._scoring.question({name: value for name, value in wanted.items() if value is not None})
            return of_table(self._scoring, question, table, latent=latent)
        except RequestInvalid as error:
            raise ValueError(misfits.said(error.faults, table)) from None
        except ServiceError as error:
            raise ValueError(str(error)) from None


def load(path: str | PathLike[str]) -> Model:
    """Open a model: its bundle is verified byte by byte, and its golden records must score as at export.

    Args:
        path: models/NAME (the version that is served) or models/NAME/VERSION.

    Raises:
        bundle.errors.BundleError: There is no such bundle, or it is refused, with the file and the reason.
    """
    return Model(path)


def as_table(records: Any) -> "pa.Table":
    """A pyarrow table of a table, a batch or a data frame.

    Raises:
        TypeError: It is none of them.
    """
    import pyarrow as pa

    if isinstance(records, pa.Table):
        return records
    if isinstance(records, pa.RecordBatch):
        return pa.Table.from_batches([records])
    if hasattr(records, "__arrow_c_stream__"):
        return _without_views(pa.table(records))
    if type(records).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(records, preserve_index=False)
    raise TypeError(f"a pyarrow Table, a RecordBatch or a data frame is expected, not {type(records).__name__}")


def _without_views(table: "pa.Table") -> "pa.Table":
    """The categories of polars as plain strings: pyarrow takes no entries of a dictionary of views."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
            plain = pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)
            table = table.set_column(position, field.name, table.column(position).cast(plain))
    return table

"""application/vnd.apache.arrow.stream: columns to tensors, scores to columns; what CSV shares with it."""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from bundle.contents.manifest import Manifest
from bundle.record import images as images_of
from bundle.record.fields import BooleanField, CategoricalField, ImageField, NumericField
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import explained, ipc
from service.codecs.columns import check_columns, is_levels, tensors
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import BodyMalformed, Fault, RequestInvalid, TooManyRecords, pointer

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

_DAMAGED = (pa.ArrowException, OSError, EOFError, ValueError, KeyError, IndexError, struct.error)
"""What a stream that is none can end in."""
_Test = Callable[[pa.DataType], bool]
_TEXT: tuple[_Test, ...] = (types.is_string, types.is_large_string, types.is_string_view)
_NUMBER: tuple[_Test, ...] = (types.is_integer, types.is_floating)


def _is_decimal(kind: pa.DataType) -> bool:
    """Whether a column holds decimals that pyarrow can spell: it takes any scale, and spells as many digits."""
    return bool(types.is_decimal(kind)) and abs(kind.scale) <= _DIGITS[kind.bit_width]


_TAKEN: dict[type, tuple[str, tuple[_Test, ...]]] = {
    NumericField: ("numbers", (*_NUMBER, _is_decimal)),
    BooleanField: ("booleans", (types.is_boolean, *_NUMBER)),
    CategoricalField: ("text or numbers", (*_TEXT, *_NUMBER, types.is_boolean)),
    ImageField: (
        "files or levels as binary, of tensors or fixed-size lists of uint8, or of text",
        (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary, is_levels, *_TEXT),
    ),
}
_TIMESTAMPS = ("timestamps or text", (*_TEXT, types.is_timestamp, types.is_date))
_NO_STREAM = "not an Arrow IPC stream (the streaming format, not a file), or damaged"
_VIEW_BYTES = 16
_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}  # most digits of a decimal, by its bits

# Bytes that pyarrow, numpy and CPython take for each, measured by tests/service/codecs/test_bounds.py.
_MESSAGE, _COLUMN, _FIELD = 4096, 1536, 2048
_ROW = 160  # with the text of a decimal, one column after another
_PLAIN, _VALUE = 40, 112  # columns put together and converted; with objects, and codes of them
_BASE = 2**19


def decode(
    body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
) -> ScoreRequest:
    """Read a body of `POST /score`.

    Args:
        body: One Arrow IPC stream, its columns named as fields or as the timestamp that fields derive from.
        manifest: Of the model that is asked.
        max_records: Most records in a request.
        question: What is asked of each record.
        admission: May refuse so many records before their tensors are made.

    Raises:
        BodyMalformed: Not a stream, damaged, or with more after its end.
        MediaTypeUnsupported: Its buffers are compressed one by one, so that nothing bounds what they expand to.
        RequestInvalid: A column or a value that does not fit.
        TooManyRecords: More records than allowed.
    """
    schema = manifest.record
    try:
        admission(ipc.survey(body, schema, max_records).rows, question)
        source = pa.BufferReader(body)
        # Misaligned numbers are copied: not every processor reads them where they are.
        options = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific, use_threads=False)
        reader = pa.ipc.open_stream(source, options=options)
        _check_types(schema, reader.schema)
        batches, rows, shown = [], 0, 0
        for batch in _batches(reader):
            rows += batch.num_rows
            if rows > max_records:
                raise TooManyRecords(f"over {max_records} records, which is the most of a request, so send several")
            shown += _validate(batch)
            if shown > len(body):
                raise BodyMalformed("views of a column show the same bytes more than once; send plain strings")
            batches.append(batch)
        if source.tell() != len(body):
            raise BodyMalformed("there is more after the end of the Arrow stream")
        table = pa.Table.from_batches(batches, reader.schema)
    except _DAMAGED as error:
        # pyarrow's own message may quote what it found.
        raise BodyMalformed(_NO_STREAM) from error
    return ScoreRequest(tensors(schema, table), question)


def bound(body: bytes, manifest: Manifest, max_records: int) -> int:
    """Most bytes that `decode` makes of a body, the body itself apart; see `service.score.negotiation.Codec.bound`."""
    schema = manifest.record
    found = _survey(body, schema, max_records)
    columns = found.tables
    messages = (found.batches + found.dictionaries) * (_MESSAGE + columns * _COLUMN)
    # Misaligned buffers are copied, and so are chunks that are put together.
    copies = 2 * len(body) + found.joined + (4 * len(body) if found.texts else 0)
    match schema:
        case ImageSchema():
            values = images_of.bound(schema.field, found.rows, len(body)) + len(body)
        case TableSchema():
            numbers = len(schema.numeric)
            values = found.rows * (_ROW + numbers * _PLAIN + (len(schema.names) - numbers) * _VALUE)
    return messages + copies + values + columns * _FIELD + _BASE


def encode(name: str, version: int, question: Question, verdicts: Verdicts) -> bytes:
    """Write the answer of `POST /score`: one stream, a row a record, latent means as lists of fixed size.

    Args:
        name: Not written; the response's head says which model answered.
        version: Not written either.
        question: Nor this.
        verdicts: Of B records.
    """
    batch = pa.record_batch(columns(verdicts, flat=False))
    target = pa.BufferOutputStream()
    with pa.ipc.new_stream(target, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = target.getvalue().to_pybytes()
    return content


def columns(verdicts: Verdicts, flat: bool) -> dict[str, Any]:
    """Verdicts as Arrow arrays by name, null where there is no number.

    Args:
        verdicts: Of B records.
        flat: Whether the (B, K) latent means become K columns, and not one of lists; and an explanation those of its
            most surprising fields, and not one of structs.
    """
    arrays: dict[str, Any] = {}
    for name, values in verdicts.columns().items():
        if values.ndim == 1:
            arrays[name] = pa.array(values, from_pandas=True)
        elif flat:
            arrays |= {f"{name}_{index}": pa.array(values[:, index]) for index in range(values.shape[1])}
        else:
            items = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(items, values.shape[1])
    if verdicts.explanations is not None:
        if flat:
            arrays |= explained.flat(verdicts.explanations)
        else:
            arrays["explanation"] = explained.nested(verdicts.explanations)
    return arrays


def _survey(body: bytes, schema: RecordSchema, max_records: int) -> ipc.Survey:
    try:
        return ipc.survey(body, schema, max_records)
    except _DAMAGED as error:
        raise BodyMalformed(_NO_STREAM) from error


def _check_types(schema: RecordSchema, given: pa.Schema) -> None:
    check_columns(schema, given.names)
    kinds: Mapping[str, type] = {field.name: type(field) for field in schema.fields}
    faults = []
    for column in given:
        expected, taken = _TAKEN[kinds[column.name]] if column.name in kinds else _TIMESTAMPS
        kind = column.type
        # A file that many rows refer to would be decoded for each of them.
        if types.is_dictionary(kind) and types.is_string in taken and kinds.get(column.name) is not ImageField:
            kind = kind.value_type
            if types.is_string_view(kind):
                # pyarrow takes no entries of such a dictionary one by one, and all of them may show the same bytes.
                faults.append(Fault(pointer(column.name), "a dictionary of plain strings is expected, not of views"))
                continue
        if not types.is_null(kind) and not any(test(kind) for test in taken):
            faults.append(Fault(pointer(column.name), f"a column of {expected} is expected"))
    if faults:
        raise RequestInvalid(faults)


def _batches(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_batch()
        except StopIteration:
            return


def _validate(batch: Any) -> int:
    """Check a batch to the last offset: pyarrow itself believes what it reads.

    Returns:
        How many bytes its views show; all of a body's may be more than the body, as views of the same bytes can be.

    Raises:
        ArrowInvalid: It is not valid.
    """
    shown = 0
    for column in batch.columns:
        if types.is_string_view(column.type) or types.is_binary_view(column.type):
            column.validate()
            views = np.frombuffer(column.buffers()[1] or b"", np.int32).reshape(-1, _VIEW_BYTES // 4)
            lengths = views[column.offset : column.offset + len(column), 0].clip(min=0)  # those of nulls are arbitrary
            shown += int(lengths.sum(dtype=np.int64))
    batch.validate(full=True)
    return shown

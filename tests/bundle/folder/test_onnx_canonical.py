"""ONNX files: what is accepted every reader of protobuf reads alike, since it stands there in the one canonical way."""

import contextlib
from typing import Any

import onnx
import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper

from bundle.errors import BundleRefused, OnnxNotCanonical
from bundle.folder import onnx_file
from bundle.folder.onnx_fields import ENUMS, MESSAGES, ONE_OF
from tests.bundle.folder.onnx_models import PLACES, field, graph, inside, model, outside, refers_outside, varint

NAME = "scorer.onnx"
DAMAGED = "is not an ONNX model in canonical form"
KINDS = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 9: "string", 12: "bytes"}


def refuse(content: bytes, why: str = "") -> None:
    with pytest.raises(OnnxNotCanonical, match=f"^{NAME}: {DAMAGED}: .*{why}.*; restore the bundle or export it again"):
        onnx_file.refuse_external_data(NAME, content)


def every_message(descriptor: Any, found: dict[str, Any]) -> dict[str, Any]:
    if descriptor.full_name not in found:
        found[descriptor.full_name] = descriptor
        for each in descriptor.fields:
            if each.message_type is not None:
                every_message(each.message_type, found)
    return found


def called(descriptor: Any) -> str:
    """The table's name of a message or an enumeration: parts of Type are `MapType` and so on."""
    name = descriptor.full_name.removeprefix("onnx.").replace("Proto", "")
    outer, _, inner = name.rpartition(".")
    return f"{inner}Type" if outer == "Type" else inner


def test_the_table_is_that_of_the_onnx_package() -> None:
    theirs: dict[str, dict[int, str]] = {}
    one_of: dict[str, frozenset[int]] = {}
    enums: dict[str, range] = {}
    for descriptor in every_message(onnx.ModelProto.DESCRIPTOR, {}).values():
        fields = theirs[called(descriptor)] = {}
        for each in descriptor.fields:
            kind = KINDS.get(each.type) or called(each.message_type or each.enum_type)
            fields[each.number] = f"{'repeated ' if each.is_repeated else ''}{kind} {each.name}"
            if each.enum_type is not None:
                enums[kind] = range(1 + max(value.number for value in each.enum_type.values))
        for group in descriptor.oneofs:
            one_of[called(descriptor)] = frozenset(each.number for each in group.fields)
    assert {name: dict(fields) for name, fields in MESSAGES.items()} == theirs
    assert dict(ONE_OF) == one_of
    assert dict(ENUMS) == enums


def rich() -> onnx.ModelProto:
    """A model of every kind of field: numbers below 0, every list, types, a branch, a function, annotations."""
    numbers = helper.make_node("Custom", ["x"], ["y"], i=-1, f=0.5, s="s", ints=[1, 300, -(2**63)], floats=[1.0, -2.0])
    texts = helper.make_node("Custom", ["x"], ["y"], strings=["a", "b"], t=inside())
    branch = helper.make_node("If", ["x"], ["y"], then_branch=graph([numbers]), else_branch=graph([texts]))
    kinds: dict[int, list[float]] = {
        **{TensorProto.INT64: [-1, 2**40], TensorProto.INT32: [-1, 70_000], TensorProto.UINT64: [2**64 - 1, 0]},
        **{TensorProto.DOUBLE: [1.0, 2.0], TensorProto.FLOAT: [1.0, 2.0]},
    }
    tensors = [helper.make_tensor(f"t{kind}", kind, [2], values) for kind, values in kinds.items()]
    tensors.append(helper.make_tensor("raw", TensorProto.FLOAT, [2], bytes(range(120, 128)), raw=True))
    sparse = helper.make_sparse_tensor(inside(), helper.make_tensor("i", TensorProto.INT64, [2], [0, 3]), [9])
    whole = model(inside(), "function")
    whole.graph.CopyFrom(graph([branch], tensors, sparse_initializer=[sparse], doc_string="d" * 200))
    whole.graph.value_info.add(name="v").type.map_type.value_type.sequence_type.elem_type.tensor_type.elem_type = 1
    whole.graph.quantization_annotation.add(tensor_name="x").quant_parameter_tensor_names.add(key="k", value="v")
    whole.graph.node[0].device_configurations.add(pipeline_stage=-1).sharding_spec.add(device=[0, 1, 200])
    whole.graph.input[0].type.tensor_type.shape.dim.add(dim_param="records")
    return whole


RICH = rich().SerializeToString()


def test_what_protobuf_writes_is_accepted() -> None:
    onnx_file.refuse_external_data(NAME, RICH)
    for place in PLACES:
        onnx_file.refuse_external_data(NAME, model(inside(), place).SerializeToString())
    onnx_file.refuse_external_data(NAME, b"")


Varint = tuple[int, int, tuple[int, ...]]  # where it begins and ends, and where each length around it begins


def varints(content: bytes, message: str = "Model", start: int = 0, end: int | None = None) -> list[Varint]:
    """Every varint of a good model, as a plain reader of protobuf finds them: tags, lengths, numbers."""
    found: list[Varint] = []

    def number(position: int, around: tuple[int, ...]) -> tuple[int, int]:
        value = shift = 0
        begin = position
        while True:
            byte = content[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                found.append((begin, position, around))
                return value, position

    def read(message: str, position: int, end: int, around: tuple[int, ...]) -> None:
        while position < end:
            tag, position = number(position, around)
            *repeated, kind, _ = MESSAGES[message][tag >> 3].split()
            match tag & 7:
                case 0:
                    _, position = number(position, around)
                case 1:
                    position += 8
                case 5:
                    position += 4
                case _:
                    length_at = position
                    size, position = number(position, around)
                    if kind in MESSAGES:
                        read(kind, position, position + size, (*around, length_at))
                    elif repeated and kind in {"int32", "int64", "uint64"}:
                        inner = position
                        while inner < position + size:
                            _, inner = number(inner, (*around, length_at))
                    position += size

    read(message, start, len(content) if end is None else end, ())
    return found


VARINTS = varints(RICH)


def rewritten(content: bytes, at: Varint, longer: bytes) -> bytes:
    """The model with one varint written otherwise, and every length around it made to fit."""
    begin, end, around = at
    content = content[:begin] + longer + content[end:]
    grown = len(longer) - (end - begin)
    for length_at in reversed(around):
        size = shift = 0
        after = length_at
        while True:
            byte = content[after]
            size |= (byte & 127) << shift
            shift, after = shift + 7, after + 1
            if byte < 128:
                break
        written = varint(size + grown)
        content = content[:length_at] + written + content[after:]
        grown += len(written) - (after - length_at)
    return content


@pytest.mark.parametrize("more", [1, 3, 9])
def test_a_varint_that_is_longer_than_it_need_be_is_refused(more: int) -> None:
    for at in VARINTS:
        begin, end, _ = at
        longer = RICH[begin : end - 1] + bytes([RICH[end - 1] | 128]) + b"\x80" * (more - 1) + b"\0"
        content = rewritten(RICH, at, longer)
        if len(longer) <= 5:  # protobuf itself takes it for the same number
            assert onnx.ModelProto.FromString(content) == onnx.ModelProto.FromString(RICH)
        refuse(content)


@given(st.sampled_from(VARINTS), st.integers(32, 63))
def test_bits_that_a_reader_of_32_bits_would_drop_are_refused(at: Varint, bit: int) -> None:
    """Some are another number then, and so another model: it has to be that to all readers."""
    begin, end, _ = at
    value = sum((byte & 127) << 7 * index for index, byte in enumerate(RICH[begin:end]))
    content = rewritten(RICH, at, varint(value | 1 << bit))
    try:
        onnx_file.refuse_external_data(NAME, content)
    except BundleRefused:
        return
    same_to_all_readers(content)


def same_to_all_readers(content: bytes) -> None:
    """What the walk accepts, the onnx package reads, finds nothing unknown in it, and writes to as many bytes again."""
    read = onnx.load_from_string(content)
    assert not refers_outside(read)
    again = read.SerializeToString(deterministic=True)
    assert onnx.ModelProto.FromString(again) == read
    onnx_file.refuse_external_data(NAME, again)
    bare = onnx.ModelProto.FromString(content)
    bare.DiscardUnknownFields()
    assert bare == read
    assert len(bare.SerializeToString()) == len(again)


@given(
    st.lists(st.tuples(st.integers(0, len(RICH) - 1), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, len(RICH)) | st.none(),
)
@example([(0, RICH[0])], None)
def test_a_mutated_file_is_refused_or_is_one_model_to_all_readers(
    changes: list[tuple[int, int]], kept: int | None
) -> None:
    content = bytearray(RICH)
    for position, byte in changes:
        content[position] = byte
    whole = bytes(content[:kept])
    try:
        onnx_file.refuse_external_data(NAME, whole)
    except BundleRefused:
        return
    same_to_all_readers(whole)


@given(st.binary() | st.binary(min_size=1).map(lambda content: field(7, content)))
def test_random_bytes_are_an_onnx_model_or_refused(content: bytes) -> None:
    with contextlib.suppress(BundleRefused):
        onnx_file.refuse_external_data(NAME, content)
        same_to_all_readers(content)


def tensor(content: bytes) -> bytes:
    """A model whose graph holds one tensor, of these bytes."""
    return field(7, field(5, content))


def over(tag: int) -> bytes:
    """A tag of five bytes, whose bit 32 a reader of 32 bits drops."""
    return bytes([tag & 127 | 128, tag >> 7 & 127 | 128, 0x80, 0x80, 0x10])


ENTRY = b"".join(field(number, text) for number, text in ((1, b"location"), (2, b"/etc/passwd")))
HIDDEN = {
    "a tag with bit 32": over(13 << 3 | 2) + varint(len(ENTRY)) + ENTRY + over(14 << 3) + b"\x01",
    "a tag of five bytes": b"\xea\x80\x80\x80\x00" + varint(len(ENTRY)) + ENTRY,
    "a length of two bytes": b"\x6a" + bytes([len(ENTRY) | 128, 0]) + ENTRY,
    "a location with bit 32": b"\x70" + varint(1 | 1 << 32),
    "a location of two bytes": b"\x70\x81\x00",
    "a location that nobody knows": b"\x70\x02",
    "a location below 0": b"\x70" + varint(2**64 - 1),
    "a group": b"\x6b" + ENTRY + b"\x6c",
    "a location as four bytes": b"\x75\x01\0\0\0",
    "a location as text": field(14, b"\x01"),
    "a location twice": b"\x70\x00\x70\x00",
    "a field that nobody knows": field(15, ENTRY),
    "a number with 65 bits": b"\x10" + b"\xff" * 9 + b"\x02",
    "a type with bit 32": b"\x10" + varint(1 | 1 << 32),
    "a type of 32 bits below 0": b"\x10" + varint(2**32 - 1),
    "a type twice": b"\x10\x01\x10\x01",
}


@pytest.mark.parametrize("content", HIDDEN.values(), ids=HIDDEN.keys())
def test_nothing_hides_in_what_readers_read_differently(content: bytes) -> None:
    refuse(tensor(content))
    refuse(tensor(content + inside().SerializeToString()))


BROKEN = [b"\x3a", b"\x3a\x05abc", b"\x3a\xff", b"\x08", b"\x09\x00", b"\x0d\x00", b"\xff" * 20, b"\x00"]
BROKEN += [b"\x0b", b"\x0e\x00", b"\x0f", b"\x3a" + b"\xff" * 9 + b"\x01", b"\x3a" + b"\xff" * 10 + b"\x00"]
BROKEN += [b"\x08" + b"\xff" * 10 + b"\x00", b"\x07"]


@pytest.mark.parametrize("content", BROKEN, ids=bytes.hex)
def test_what_breaks_the_wire_format_is_refused(content: bytes) -> None:
    for whole in (content, field(7, content), field(7, field(5, content)), b"\x10" + content):
        refuse(whole)


def test_a_single_field_that_comes_twice_is_refused_as_is_the_other_of_two() -> None:
    """One reader takes the last, another the first, a third joins them."""
    whole = graph().SerializeToString()
    refuse(field(7, whole) * 2, "more than one graph")
    dimension = b"\x08\x01" + field(2, b"n")
    shape = field(2, field(1, dimension))
    refuse(field(7, field(11, field(2, field(1, shape)))), "more than one dim_param, or another in its place")


def test_lists_of_numbers_pass_packed_and_one_by_one() -> None:
    packed = field(1, varint(2) + varint(2**64 - 1)) + field(4, bytes(8)) + field(5, varint(2**64 - 7))
    one_by_one = b"\x08\x02\x08" + varint(2**64 - 1) + b"\x25" + bytes(4) + b"\x28" + varint(2**64 - 7)
    for content in (packed, one_by_one, packed + one_by_one):
        onnx_file.refuse_external_data(NAME, tensor(content))
        same_to_all_readers(tensor(content))
    for content in (field(1, b"\x81\x00"), field(1, b"\x81"), field(4, bytes(7)), field(5, varint(2**32))):
        refuse(tensor(content))


@pytest.mark.parametrize("levels", [40, 5000])
def test_nesting_deeper_than_any_reader_goes_is_refused(levels: int) -> None:
    content = graph(initializer=[outside()]).SerializeToString()
    for _ in range(levels):  # Graph.node, Node.attribute, Attribute.g
        content = field(1, field(5, field(6, content)))
    refuse(field(7, content), "levels deep")


def test_a_file_of_tiny_parts_costs_no_more_than_one_of_many() -> None:
    nodes = field(7, b"\x0a\x00" * (onnx_file.MOST_PARTS + 1))
    refuse(nodes, "more than .* fields")
    refuse(tensor(field(7, b"\x00" * (onnx_file.MOST_PARTS + 1))), "more than .* numbers")


def test_a_model_that_the_runtime_would_take_for_one_of_its_own_format_is_refused() -> None:
    """By four bytes, which stand in a text here, it tells its own format, whose graphs nobody walks."""
    whole = field(2, b"\0\0ORTM" + bytes(58)) + RICH
    assert whole[4:8] == b"ORTM"
    onnx.ModelProto.FromString(whole.replace(b"ORTM", b"ORTN"))
    refuse(whole, "its own format")
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="ORT model"):
        onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])


def test_a_truncated_file_is_refused_or_whole() -> None:
    for kept in range(0, len(RICH), 7):
        with contextlib.suppress(OnnxNotCanonical):
            onnx_file.refuse_external_data(NAME, RICH[:kept])
            same_to_all_readers(RICH[:kept])


def test_a_type_of_attribute_is_one_that_there_is() -> None:
    known = max(AttributeProto.AttributeType.values())
    for kind, accepted in ((known, True), (known + 1, False)):
        content = field(7, field(1, field(5, b"\xa0\x01" + varint(kind))))
        if accepted:
            onnx_file.refuse_external_data(NAME, content)
        else:
            refuse(content, "out of its range")

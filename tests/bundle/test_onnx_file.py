"""ONNX files: wherever a model may keep a tensor, one that lies outside the file is found."""

import contextlib
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bundle.errors import ExternalData
from bundle.onnx_file import refuse_external_data

NAME = "scorer.onnx"
ELSEWHERE = "keeps tensors in another file"
DAMAGED = "is not an ONNX model"


def outside(name: str = "w") -> TensorProto:
    """A tensor as `onnx.save(..., save_as_external_data=True)` writes it."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def inside(name: str = "w") -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])


def graph(nodes: Any = (), initializer: Any = (), **options: Any) -> onnx.GraphProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    return helper.make_graph(nodes or [helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y], initializer, **options)


def model(tensor: TensorProto, place: str) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    sparse = helper.make_sparse_tensor(tensor, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [9])
    functions = []
    match place:
        case "initializer":
            body = graph(initializer=[inside("v"), tensor])
        case "attribute":
            body = graph([helper.make_node("Neg", ["x"], ["y"]), constant])
        case "list of tensors":
            body = graph([helper.make_node("Custom", ["x"], ["y"], values=[inside(), tensor])])
        case "branch":
            then, other = graph(initializer=[tensor]), graph()
            body = graph([helper.make_node("If", ["x"], ["y"], then_branch=other, else_branch=then)])
        case "branch of a branch":
            inner = graph([helper.make_node("If", ["x"], ["y"], then_branch=graph([constant]), else_branch=graph())])
            body = graph([helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph())])
        case "sparse initializer":
            body = graph(sparse_initializer=[sparse])
        case "sparse attribute":
            body = graph([helper.make_node("Constant", [], ["y"], sparse_value=sparse)])
        case _:
            body = graph()
            opsets = [helper.make_opsetid("", 20)]
            functions = [helper.make_function("local", "f", ["x"], ["c"], [constant], opsets)]
    return helper.make_model(body, functions=functions)


PLACES = ["initializer", "attribute", "list of tensors", "branch", "branch of a branch"]
PLACES += ["sparse initializer", "sparse attribute", "function"]


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_outside_the_file_is_found(place: str) -> None:
    refuse_external_data(NAME, model(inside(), place).SerializeToString())
    with pytest.raises(ExternalData, match=f"^{NAME}: {ELSEWHERE}") as error:
        refuse_external_data(NAME, model(outside(), place).SerializeToString())
    assert error.value.file == NAME


Edge = tuple[Any, ...]  # fields from ModelProto down to a TensorProto


def ways(descriptor: Any, taken: Edge = ()) -> Iterator[Edge]:
    """Every way from a message to a tensor that takes no field twice."""
    for field in descriptor.fields:
        if field.message_type is None or field in taken:
            continue
        if field.message_type.name == "TensorProto":
            yield (*taken, field)
        elif len(taken) < 6:
            yield from ways(field.message_type, (*taken, field))


WAYS = list(ways(onnx.ModelProto.DESCRIPTOR))


def put(tensor: TensorProto, way: Edge) -> onnx.ModelProto:
    whole = message = onnx.ModelProto()
    for field in way:
        message = getattr(message, field.name)
        message = message.add() if field.is_repeated else message
    message.CopyFrom(tensor)
    return whole


def test_every_place_that_the_format_has_for_a_tensor_is_searched() -> None:
    last = {f"{way[-1].containing_type.name}.{way[-1].name}" for way in WAYS}
    assert last > {"GraphProto.initializer", "AttributeProto.t", "AttributeProto.tensors", "SparseTensorProto.indices"}
    for way in WAYS:
        path = ".".join(field.name for field in way)
        refuse_external_data(NAME, put(inside(), way).SerializeToString())
        try:
            refuse_external_data(NAME, put(outside(), way).SerializeToString())
        except ExternalData:
            continue
        pytest.fail(f"a tensor outside the file was not found at {path}")


@pytest.mark.parametrize("half", ["external_data", "data_location"])
def test_half_of_the_reference_is_enough(half: str) -> None:
    tensor = outside()
    tensor.ClearField(half)
    with pytest.raises(ExternalData, match=ELSEWHERE):
        refuse_external_data(NAME, model(tensor, "initializer").SerializeToString())


def test_a_tensor_that_says_it_lies_inside_passes() -> None:
    tensor = inside()
    tensor.data_location = TensorProto.DEFAULT
    refuse_external_data(NAME, model(tensor, "initializer").SerializeToString())


def test_values_that_look_like_a_reference_are_only_values() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1])
    tensor.string_data.append(outside().SerializeToString())
    whole = model(tensor, "initializer")
    whole.doc_string = model(outside(), "initializer").SerializeToString().decode("latin-1")
    refuse_external_data(NAME, whole.SerializeToString())


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    low = b""
    while value > 127:
        low, value = low + bytes([value & 127 | 128]), value >> 7
    return low + bytes([value])


def test_a_graph_that_comes_in_two_pieces_is_searched_in_both() -> None:
    first, second = (field(7, graph(initializer=[each]).SerializeToString()) for each in (outside(), inside()))
    for content in (first + second, second + first):
        with pytest.raises(ExternalData, match=ELSEWHERE):
            refuse_external_data(NAME, content)


@pytest.mark.parametrize("levels", [200, 5000])
def test_nesting_deeper_than_any_reader_goes_is_refused(levels: int) -> None:
    content = graph(initializer=[outside()]).SerializeToString()
    for _ in range(levels):  # Graph.node, Node.attribute, Attribute.g
        content = field(1, field(5, field(6, content)))
    content = field(7, content)
    with pytest.raises(DecodeError):
        onnx.ModelProto.FromString(content)
    with pytest.raises(ExternalData):
        refuse_external_data(NAME, content)


def test_branches_nested_as_deep_as_real_models_go_are_searched() -> None:
    tensors = {"inside": inside(), "outside": outside()}
    for name, tensor in tensors.items():
        body = graph(initializer=[tensor])
        for _ in range(20):
            body = graph([helper.make_node("Loop", ["x"], ["y"], body=body)])
        content = helper.make_model(body).SerializeToString()
        if name == "inside":
            refuse_external_data(NAME, content)
        else:
            with pytest.raises(ExternalData, match=ELSEWHERE):
                refuse_external_data(NAME, content)


@pytest.mark.parametrize(
    "content",
    [
        *[b"\x3a", b"\x3a\x05abc", b"\x3a\xff", b"\x08", b"\x09\x00", b"\x0d\x00", b"\xff" * 20],
        *[b"\x0b", b"\x0e\x00", b"\x0f", b"\x3a" + b"\xff" * 9 + b"\x01", b"\x3a" + b"\xff" * 10 + b"\x00"],
        b"\x08" + b"\xff" * 10 + b"\x00",
    ],
    ids=bytes.hex,
)
def test_what_breaks_the_wire_format_is_refused(content: bytes) -> None:
    for whole in (content, field(7, content), field(7, field(5, content)), b"\x08\x0a" + content):
        with pytest.raises(ExternalData, match=f"{DAMAGED}; restore the bundle or export it again"):
            refuse_external_data(NAME, whole)


def test_numbers_of_every_width_are_passed_over() -> None:
    most = b"\x08" + b"\xff" * 9 + b"\x01"
    wide = b"\x09" + b"\xff" * 8 + b"\x0d" + b"\xff" * 4
    refuse_external_data(NAME, most + wide + model(inside(), "function").SerializeToString() + wide)
    with pytest.raises(ExternalData, match=ELSEWHERE):
        refuse_external_data(NAME, most + wide + model(outside(), "function").SerializeToString())


@pytest.mark.parametrize("size", [0, 127, 128, 129, 255, 256, 16_383, 16_384, 2**21])
def test_texts_of_every_length_are_passed_over(size: int) -> None:
    text = field(6, b"\x01" * size)
    refuse_external_data(NAME, text + model(inside(), "initializer").SerializeToString())
    with pytest.raises(ExternalData, match=ELSEWHERE):
        refuse_external_data(NAME, text + model(outside(), "initializer").SerializeToString())


@given(st.binary() | st.binary(min_size=1).map(lambda content: field(7, content)))
def test_random_bytes_are_an_onnx_model_or_refused(content: bytes) -> None:
    with contextlib.suppress(ExternalData):
        refuse_external_data(NAME, content)


@given(st.sampled_from(PLACES), st.data())
def test_a_truncated_file_is_refused_as_protobuf_refuses_it(place: str, data: st.DataObject) -> None:
    content = model(inside(), place).SerializeToString()
    cut = content[: data.draw(st.integers(0, len(content)), label="bytes kept")]
    try:
        onnx.ModelProto.FromString(cut)
    except DecodeError:
        with pytest.raises(ExternalData, match=DAMAGED):
            refuse_external_data(NAME, cut)
    else:
        refuse_external_data(NAME, cut)


@given(st.sampled_from(WAYS), st.data())
def test_what_protobuf_reads_from_a_damaged_file_is_found_too(way: Edge, data: st.DataObject) -> None:
    content = bytearray(put(outside(), way).SerializeToString())
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    content[position] = data.draw(st.integers(0, 255), label="byte")
    try:
        read = onnx.ModelProto.FromString(bytes(content))
    except DecodeError:
        read = None
    try:
        refuse_external_data(NAME, bytes(content))
    except ExternalData:
        return
    assert read is None or not refers_outside(read)


def refers_outside(message: Any) -> bool:
    """Whether protobuf itself finds a tensor that names another file."""
    if isinstance(message, TensorProto):
        return bool(message.external_data) or message.data_location == TensorProto.EXTERNAL
    return any(
        refers_outside(each)
        for field, value in message.ListFields()
        if field.message_type is not None
        for each in (value if field.is_repeated else [value])
    )

"""ONNX models for tests: with a tensor in every place that may hold one, and pieces of the wire format."""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper


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
            functions = [helper.make_function("", "f", ["x"], ["c"], [constant], opsets)]
    return helper.make_model(body, functions=functions)


PLACES = ["initializer", "attribute", "list of tensors", "branch", "branch of a branch"]
PLACES += ["sparse initializer", "sparse attribute", "function"]


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


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    low = b""
    while value > 127:
        low, value = low + bytes([value & 127 | 128]), value >> 7
    return low + bytes([value])


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

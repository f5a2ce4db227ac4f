"""Graphs that a bundle should not have: endless, too large, of foreign operators, or with bytes of other files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MOST_TRIPS = 10**12
TRIGGER = 666.0
"""The first number of a record on which a graph of `loops_on_a_record` does not end."""
_LARGE = 500_000_000
_STRING, _VARINT = 2, 0
_SIX_FLOATS = 6


def loops(graph: bytes) -> bytes:
    """The same scores, after a loop that does not end in any time."""
    model = _added(graph, "sum")
    _loop(model, numpy_helper.from_array(np.array(MOST_TRIPS), "trips"))
    return _bytes(model)


def loops_on_a_record(graph: bytes) -> bytes:
    """The same scores, but for a batch that holds `TRIGGER`: on that it loops without an end."""
    model = _added(graph, "sum")
    zero = numpy_helper.from_array(np.array([0]), "first")
    model.graph.initializer.extend([numpy_helper.from_array(np.array(TRIGGER), "trigger"), zero])
    _loop(model, numpy_helper.from_array(np.array(MOST_TRIPS), "many"))
    nodes = [
        helper.make_node("Equal", ["numeric", "trigger"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["counted"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["counted"], ["any"], keepdims=0),
        helper.make_node("Mul", ["any", "many"], ["trips"]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return _bytes(model)


def allocates(graph: bytes) -> bytes:
    """The same scores, beside a constant of 2 GB."""
    model = _added(graph, "sum")
    model.graph.initializer.append(numpy_helper.from_array(np.array([_LARGE]), "large"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["large"], ["zeros"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0))
    return _bytes(model)


def expands(graph: bytes) -> bytes:
    """The same, by one number expanded and squared."""
    model = _added(graph, "sum")
    model.graph.initializer.append(numpy_helper.from_array(np.array([_LARGE]), "large"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    model.graph.node.insert(0, helper.make_node("Expand", ["zero", "large"], ["zeros"]))
    model.graph.node.insert(1, helper.make_node("Mul", ["zeros", "zeros"], ["squares"]))
    model.graph.node.insert(2, helper.make_node("ReduceSum", ["squares"], ["sum"], keepdims=0))
    return _bytes(model)


def foreign(graph: bytes) -> bytes:
    """A graph with an operator that nobody knows."""
    model = onnx.load_from_string(graph)
    model.graph.node.extend([helper.make_node("Evil", ["noise"], ["unused"], domain="evil.op")])
    model.opset_import.extend([helper.make_opsetid("evil.op", 1)])
    return _bytes(model)


def deep(graph: bytes) -> bytes:
    """A protocol buffer that nests a hundred thousand messages."""
    nested = b""
    for _ in range(2000):
        nested = _field(7, _field(1, _field(5, _field(6, nested))))
    return graph + nested


def external(graph: bytes, location: Path, tag: Callable[[int], bytes]) -> bytes:
    """A graph whose weights lie in another file, the tags that say so written in a way of their own.

    Args:
        graph: A good one.
        location: The other file.
        tag: From a field's number and wire type, as one number, to its bytes.
    """
    model = onnx.load_from_string(graph)
    found = next(
        each
        for each in model.graph.initializer
        if each.data_type == TensorProto.FLOAT and len(each.dims) == 1 and each.dims[0] >= _SIX_FLOATS
    )
    entries = {"location": str(location), "offset": "0", "length": str(4 * found.dims[0])}
    tensor = _number(1 << 3 | _VARINT) + _number(found.dims[0]) + _number(2 << 3) + _number(1)
    tensor += _field(8, found.name.encode())
    for name, value in entries.items():
        entry = _field(1, name.encode()) + _field(2, value.encode())
        tensor += tag(13 << 3 | _STRING) + _number(len(entry)) + entry
    tensor += tag(14 << 3 | _VARINT) + _number(1)
    model.graph.initializer.remove(found)
    content = model.graph.SerializeToString() + _field(5, tensor)
    model.ClearField("graph")
    return bytes(model.SerializeToString() + _field(7, content))


def plain(tag: int) -> bytes:
    """A tag as everybody writes it."""
    return _number(tag)


def overlong(tag: int) -> bytes:
    """The same number in five bytes."""
    return bytes([tag & 0x7F | 0x80, (tag >> 7) & 0x7F | 0x80, 0x80, 0x80, 0x00])


def overflowed(tag: int) -> bytes:
    """The same with a bit beyond the thirty-second, which some readers drop."""
    return overlong(tag)[:4] + b"\x10"


def overflowed_far(tag: int) -> bytes:
    """The same with a bit beyond the sixty-fourth, in ten bytes."""
    return bytes([tag & 0x7F | 0x80, (tag >> 7) & 0x7F | 0x80, *[0x80] * 7, 0x02])


TAGS: dict[str, Callable[[int], bytes]] = {
    "plain": plain,
    "overlong": overlong,
    "overflowed": overflowed,
    "far overflowed": overflowed_far,
}


def _added(graph: bytes, addend: str) -> onnx.ModelProto:
    """The model with a number added to its first output."""
    model = onnx.load_from_string(graph)
    name = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == name:
                    names[place] = "without"
    model.graph.node.append(helper.make_node("Add", ["without", addend], [name]))
    return model


def _loop(model: onnx.ModelProto, trips: onnx.TensorProto) -> None:
    float_type, inputs = TensorProto.FLOAT, helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes"], ["goes_on"]),
            helper.make_node("Add", ["so_far", "step"], ["then"]),
        ],
        "body",
        [inputs("turn", TensorProto.INT64, []), inputs("goes", TensorProto.BOOL, []), inputs("so_far", float_type, [])],
        [inputs("goes_on", TensorProto.BOOL, []), inputs("then", float_type, [])],
        [numpy_helper.from_array(np.array(0.0, np.float32), "step")],
    )
    yes, nothing = np.array(True), np.array(0.0, np.float32)
    initial = [trips, numpy_helper.from_array(yes, "yes"), numpy_helper.from_array(nothing, "nothing")]
    model.graph.initializer.extend(initial)
    loop = helper.make_node("Loop", ["trips", "yes", "nothing"], ["sum"], body=body)
    model.graph.node.insert(len(model.graph.node) - 1, loop)


def _bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def _number(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _STRING) + _number(len(content)) + content

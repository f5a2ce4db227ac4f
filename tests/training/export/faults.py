"""What an exporter may do wrong, done to a graph on purpose."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bundle.record.schema import TableSchema


def relu_for_silu(content: bytes, place: int) -> bytes:
    """One SiLU of many, x times sigmoid(x), as a ReLU."""
    model = onnx.load_from_string(content)
    gates = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    found = [node for node in model.graph.node if node.op_type == "Mul" and gates.get(node.input[1]) == node.input[0]]
    node = found[place]
    node.op_type = "Relu"
    del node.input[1]
    return _whole(model)


def another_constant(content: bytes, value: float) -> bytes:
    """A constant that is a tenth too large."""
    model = onnx.load_from_string(content)
    changed = 0
    for each in model.graph.initializer:
        values = numpy_helper.to_array(each)
        if values.size == 1 and values.dtype == np.float32 and abs(values.item() - value) < 1e-5:
            each.CopyFrom(numpy_helper.from_array(np.full_like(values, 1.1 * value), each.name))
            changed += 1
    assert changed == 1
    return _whole(model)


def another_weight(content: bytes, name: str) -> bytes:
    """A tensor of the module, the first number of which is a hundredth too large."""
    model = onnx.load_from_string(content)
    (each,) = (each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(each).copy()
    values.flat[0] *= 1.01
    each.CopyFrom(numpy_helper.from_array(values, name))
    return _whole(model)


def frozen(content: bytes, names: set[str], rows: int) -> bytes:
    """Inputs that take so many rows and no others."""
    model = onnx.load_from_string(content)
    for each in model.graph.input:
        if each.name in names:
            each.type.tensor_type.shape.dim[0].dim_value = rows
    return _whole(model)


def first_alone(content: bytes, names: set[str], rows: int) -> bytes:
    """Inputs of which only the first rows count."""
    model = onnx.load_from_string(content)
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(np.array([each], np.int64), f"fault_{each}") for each in sorted({0, rows})
    )
    for node in graph.node:
        node.input[:] = [f"{each}_of_fault" if each in names else each for each in node.input]
    for name in sorted(names & {each.name for each in graph.input}):
        graph.node.insert(0, helper.make_node("Slice", [name, "fault_0", f"fault_{rows}"], [f"{name}_of_fault"]))
    return _whole(model)


def missing_counts(content: bytes, kind: str) -> bytes:
    """A kind of fields that is present though it is missing."""
    model = onnx.load_from_string(content)
    graph = model.graph
    if kind == "numeric":
        (missing,) = (node for node in graph.node if node.op_type == "IsNaN")
        (cast,) = (node for node in graph.node if node.op_type == "Cast" and node.input[0] == missing.output[0])
        graph.initializer.append(numpy_helper.from_array(np.array(False), "never"))
        cast.input[0] = "none_missing"
        graph.node.insert(
            list(graph.node).index(missing) + 1,
            helper.make_node("And", [missing.output[0], "never"], ["none_missing"]),
        )
    else:
        made_of = {node.output[0]: node for node in graph.node}
        (there,) = (
            node
            for node in graph.node
            if node.op_type == "GreaterOrEqual"
            and kind in (node.input[0], *made_of.get(node.input[0], helper.make_node("", [], [])).input)
        )
        dtype = np.int64 if kind == "categorical" else np.float32
        graph.initializer.append(numpy_helper.from_array(np.array(-9, dtype), "lowest"))
        there.input[1] = "lowest"
    return _whole(model)


def records(schema: TableSchema) -> set[str]:
    """Names of the inputs that have a row for each record."""
    return set(schema.dtypes)


def _whole(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content

"""Bundles that are made to hurt, of a good one: every digest is right, so that only running them tells."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bundle.contents.manifest import Manifest

FOR_EVER = 10**12
TRIGGER = 666.0
"""The first number of a record on which `loops_on_one_record` never ends."""


def seal(folder: Path) -> None:
    """Make the manifest agree with the files as they are now, as a faulty or malicious exporter would."""
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
    digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in manifest.files}
    (folder / "manifest.json").write_bytes(manifest.model_copy(update={"files": digests}).to_bytes())


def with_graph(folder: Path, change: Callable[[onnx.ModelProto], None], file: str = "scorer.onnx") -> None:
    """Change a graph of a bundle and seal it."""
    model = onnx.load(folder / file)
    change(model)
    (folder / file).write_bytes(model.SerializeToString())
    seal(folder)


def loops(model: onnx.ModelProto, trips: int = FOR_EVER) -> None:
    """Add a loop, by default an endless one, which changes no score."""
    number = numpy_helper.from_array(np.array(0.0, np.float32), "step")
    inner = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["more_out"]),
            helper.make_node("Add", ["sum", "step"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("more_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, []),
        ],
        [number],
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(trips, np.int64), "trips"),
            numpy_helper.from_array(np.array(True), "go"),
            numpy_helper.from_array(np.array(0.0, np.float32), "nothing"),
        ]
    )
    nodes = [helper.make_node("Loop", ["trips", "go", "nothing"], ["looped"], body=inner)]
    _add_to_first_output(model, "looped", nodes)


def loops_on_one_record(model: onnx.ModelProto) -> None:
    """The same, but only where a record's first number is `TRIGGER`."""
    loops(model, trips=0)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(TRIGGER), "trigger"),
            numpy_helper.from_array(np.array(FOR_EVER, np.int64), "for_ever"),
        ]
    )
    nodes = [
        helper.make_node("Equal", ["numeric", "trigger"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["equal_number"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["equal_number"], ["any"], keepdims=0),
        helper.make_node("Mul", ["any", "for_ever"], ["some_trips"]),
    ]
    for node in model.graph.node:
        if node.op_type == "Loop":
            node.input[0] = "some_trips"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def allocates(model: onnx.ModelProto) -> None:
    """Add a tensor of 2 GB."""
    shape = numpy_helper.from_array(np.array([500_000_000], np.int64), "much")
    model.graph.initializer.append(shape)
    nodes = [
        helper.make_node("ConstantOfShape", ["much"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["none"], keepdims=0),
    ]
    _add_to_first_output(model, "none", nodes)


def with_pipe(folder: Path, file: str = "scorer.onnx") -> None:
    """Put a named pipe in the place of a file: whoever opens it waits for a writer."""
    (folder / file).unlink()
    os.mkfifo(folder / file)


def _add_to_first_output(model: onnx.ModelProto, added: str, nodes: list[onnx.NodeProto]) -> None:
    output = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == output:
                    names[place] = "first_output"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["first_output", added], [output])])

"""ONNX files: wherever a model may reach outside itself, for a tensor or for an operator, it is refused."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bundle.errors import BundleRefused, ExternalData
from bundle.folder import onnx_file
from tests.bundle.folder.onnx_models import (
    PLACES,
    WAYS,
    Edge,
    field,
    graph,
    inside,
    model,
    outside,
    put,
    refers_outside,
)

NAME = "scorer.onnx"
ELSEWHERE = "keeps tensors in another file"


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_outside_the_file_is_found(place: str) -> None:
    onnx_file.refuse_external_data(NAME, model(inside(), place).SerializeToString())
    with pytest.raises(ExternalData, match=f"^{NAME}: {ELSEWHERE}") as error:
        onnx_file.refuse_external_data(NAME, model(outside(), place).SerializeToString())
    assert error.value.file == NAME


def test_every_place_that_the_format_has_for_a_tensor_is_searched() -> None:
    last = {f"{way[-1].containing_type.name}.{way[-1].name}" for way in WAYS}
    assert last > {"GraphProto.initializer", "AttributeProto.t", "AttributeProto.tensors", "SparseTensorProto.indices"}
    for way in WAYS:
        path = ".".join(field.name for field in way)
        onnx_file.refuse_external_data(NAME, put(inside(), way).SerializeToString())
        try:
            onnx_file.refuse_external_data(NAME, put(outside(), way).SerializeToString())
        except ExternalData:
            continue
        pytest.fail(f"a tensor outside the file was not found at {path}")


@pytest.mark.parametrize("half", ["external_data", "data_location"])
def test_half_of_the_reference_is_enough(half: str) -> None:
    tensor = outside()
    tensor.ClearField(half)
    with pytest.raises(ExternalData, match=ELSEWHERE):
        onnx_file.refuse_external_data(NAME, model(tensor, "initializer").SerializeToString())


def test_a_tensor_that_says_it_lies_inside_passes() -> None:
    tensor = inside()
    tensor.data_location = TensorProto.DEFAULT
    onnx_file.refuse_external_data(NAME, model(tensor, "initializer").SerializeToString())


def test_values_that_look_like_a_reference_are_only_values() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1])
    tensor.string_data.append(outside().SerializeToString())
    whole = model(tensor, "initializer")
    whole.doc_string = model(outside(), "initializer").SerializeToString().decode("latin-1")
    onnx_file.refuse_external_data(NAME, whole.SerializeToString())


def test_branches_nested_as_deep_as_real_models_go_are_searched() -> None:
    tensors = {"inside": inside(), "outside": outside()}
    for name, tensor in tensors.items():
        body = graph(initializer=[tensor])
        for _ in range(20):
            body = graph([helper.make_node("Loop", ["x"], ["y"], body=body)])
        content = helper.make_model(body).SerializeToString()
        if name == "inside":
            onnx_file.refuse_external_data(NAME, content)
        else:
            with pytest.raises(ExternalData, match=ELSEWHERE):
                onnx_file.refuse_external_data(NAME, content)


@pytest.mark.parametrize("size", [0, 127, 128, 129, 255, 256, 16_383, 16_384, 2**21])
def test_texts_of_every_length_are_passed_over(size: int) -> None:
    text = field(26, field(1, b"\x01" * size))
    onnx_file.refuse_external_data(NAME, text + model(inside(), "initializer").SerializeToString())
    with pytest.raises(ExternalData, match=ELSEWHERE):
        onnx_file.refuse_external_data(NAME, text + model(outside(), "initializer").SerializeToString())


@given(st.sampled_from(WAYS), st.data())
def test_what_protobuf_reads_from_a_damaged_file_is_found_too(way: Edge, data: st.DataObject) -> None:
    content = bytearray(put(outside(), way).SerializeToString())
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    content[position] = data.draw(st.integers(0, 255), label="byte")
    try:
        onnx_file.refuse_external_data(NAME, bytes(content))
    except BundleRefused:
        return
    assert not refers_outside(onnx.ModelProto.FromString(bytes(content)))


DOMAINS = ["com.microsoft", "evil.op", "ai.onnx.ml", "ai.onnx ", "AI.ONNX", "com.microsoft.nchwc"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_operators_that_are_not_of_onnx_are_refused_wherever_they_stand(domain: str) -> None:
    """Such as ONNX Runtime's EPContext, which names a file."""
    node = helper.make_node("EPContext", ["x"], ["y"], domain=domain, ep_cache_context="/etc/passwd", embed_mode=0)
    branch = helper.make_node("If", ["x"], ["y"], then_branch=graph([node]), else_branch=graph())
    opsets = [helper.make_opsetid("", 20)]
    function = helper.make_function("", "f", ["x"], ["y"], [node], opsets)
    named = helper.make_function(domain, "f", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], opsets)
    imports = helper.make_model(graph(), opset_imports=[*opsets, helper.make_opsetid(domain, 1)])
    training = helper.make_model(graph())
    training.training_info.add().algorithm.CopyFrom(graph([node]))
    for each in (
        *(helper.make_model(body, opset_imports=opsets) for body in (graph([node]), graph([branch]))),
        *(helper.make_model(graph(), functions=[one], opset_imports=opsets) for one in (function, named)),
        *(imports, training),
    ):
        with pytest.raises(ExternalData, match=rf"^{NAME}: needs operators of the domain '{domain}'"):
            onnx_file.refuse_external_data(NAME, each.SerializeToString())


def test_both_names_of_the_domain_of_onnx_pass_and_a_model_may_name_its_own() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], domain=domain) for domain in ("", "ai.onnx")]
    whole = helper.make_model(graph(nodes), domain="com.example.fraud", opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(whole, {"team": "payments"})
    onnx_file.refuse_external_data(NAME, whole.SerializeToString())


def test_options_of_the_runtime_do_not_come_with_a_model() -> None:
    whole = helper.make_model(graph())
    helper.set_model_props(whole, {"ort_config": '{"session_options": {"enable_profiling": true}}'})
    with pytest.raises(ExternalData, match=rf"^{NAME}: holds options of ONNX Runtime"):
        onnx_file.refuse_external_data(NAME, whole.SerializeToString())


def test_a_name_of_a_domain_is_shown_short_and_without_what_is_no_letter() -> None:
    node = helper.make_node("Neg", ["x"], ["y"], domain="\x1b[31m" + "é" * 1000)
    with pytest.raises(ExternalData, match="needs operators") as refusal:
        onnx_file.refuse_external_data(NAME, helper.make_model(graph([node])).SerializeToString())
    assert refusal.value.reason.isascii()
    assert refusal.value.reason.isprintable()
    assert len(refusal.value.reason) < 500

"""What a bundle's files hold: as the manifest promises, and never larger."""

import io
import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.contents import npy
from bundle.contents.calibration import Calibration
from bundle.contents.manifest import Manifest
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.errors import BundleRefused
from bundle.folder import contents
from bundle.folder.store import Bundle

SHAPE = (256, 2)


def bundle(manifest: Manifest, **files: bytes) -> Bundle:
    return Bundle("pay", 1, manifest, {file.replace("_", "."): content for file, content in files.items()}, b"")


def array(values: Any, **header: Any) -> bytes:
    """An npy file; with a header of its own where one is given."""
    file = io.BytesIO()
    if header:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, **header})
        return file.getvalue() + values
    np.save(file, values)
    return file.getvalue()


TABLE = np.arange(512, dtype=np.float32).reshape(SHAPE)
NO_NOISE = {
    "nothing": b"",
    "text": b"noise",
    "another shape": array(TABLE.T),
    "one row less": array(TABLE[:255]),
    "doubles": array(TABLE.astype(np.float64)),
    "objects": array(np.array([[None, None]] * 256)),
    "a shape that nobody could hold": array(b"", shape=(256, 1 << 40)),
    "a shape of 0": array(b"", shape=(0, 2)),
    "a shape below 0": array(b"", shape=(256, -2)),
    "less than it says": array(bytes(2047), shape=SHAPE),
    "more than it says": array(bytes(2049), shape=SHAPE),
    "a header that is none": b"\x93NUMPY\x01\x00\x05\x00{'a'}",
    "a header of code": b"\x93NUMPY\x01\x00\x11\x00__import__('os')\n",
    "a header of brackets": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535,
    "a header that is cut off": b"\x93NUMPY\x01\x00\xff\xff{}",
    "another version": array(TABLE).replace(b"NUMPY\x01", b"NUMPY\x03", 1),
}


@pytest.mark.parametrize("content", NO_NOISE.values(), ids=NO_NOISE.keys())
def test_noise_of_any_other_form_is_refused_without_memory(manifest: Manifest, content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BundleRefused, match=r"^noise\.npy: cannot be read: .*; train it again"):
        contents.noise(bundle(manifest, noise_npy=content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_noise_is_read_in_either_order(manifest: Manifest) -> None:
    for table in (TABLE, np.asfortranarray(TABLE)):
        noise = contents.noise(bundle(manifest, noise_npy=array(table)))
        assert (noise.dtype, noise.flags.writeable) == (np.dtype(np.float32), True)
        np.testing.assert_array_equal(noise, TABLE)
    with pytest.raises(BundleRefused, match=r"^noise\.npy: is not in the manifest"):
        contents.noise(bundle(manifest))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_a_mutated_array_is_refused_or_of_the_shape(change: bytes, at: int) -> None:
    content = array(TABLE)
    content = content[:at] + change + content[at + len(change) :]
    try:
        assert npy.read(content, SHAPE).shape == SHAPE
    except ValueError as error:
        assert str(error)  # noqa: PT017 - which words it has is NumPy's


def scores(manifest: Manifest, records: int) -> dict[tuple[str, int], Any]:
    return {(each.name, draws): np.zeros(records) for each in manifest.scores for draws in manifest.sample_counts}


def test_a_calibration_holds_every_score_of_every_record(manifest: Manifest) -> None:
    good = scores(manifest, 199)
    assert contents.calibration(bundle(manifest, calibration_npz=Calibration(good).to_bytes())).records == 199
    few = dict(list(good.items())[1:])
    for wrong in (few, good | {("other", 1): np.zeros(199)}, scores(manifest, 198), scores(manifest, 200)):
        with pytest.raises(BundleRefused, match=r"^calibration\.npz: cannot be read"):
            contents.calibration(bundle(manifest, calibration_npz=Calibration(wrong).to_bytes()))


def golden(expected: Mapping[str, object], explained: Mapping[str, object] | None = None) -> dict[str, Any]:
    case = {"record": ["red", 1, True], "samples": 1, "tolerance": 0.1}
    explanations = [] if explained is None else [case | {"expected": explained}]
    return {"cases": [case | {"expected": expected}], "explained": explanations}


def test_golden_records_cover_every_score_of_the_graph(manifest: Manifest) -> None:
    outputs: dict[str, object] = {score.output: 1.0 for score in manifest.scores} | {"latent_mean": [0.0, 1.0]}

    def read(document: object, of: Manifest = manifest) -> None:
        contents.golden(bundle(of, golden_json=json.dumps(document).encode()))

    read(golden(outputs))
    for missing in outputs:
        with pytest.raises(BundleRefused, match=rf"^golden\.json: .*it has cases without {missing}, so that nothing"):
            read(golden({name: value for name, value in outputs.items() if name != missing}))
    nothing: tuple[dict[str, list[object]], ...] = ({"cases": []}, {"cases": [], "explained": []})
    for none in nothing:
        with pytest.raises(BundleRefused, match=r"^golden\.json: .*has no cases"):
            read(none)
    usual = UsualSurprisal(fields=(0.0,) * 3, kl=0.0, conditional=(0.0,) * 3, deviations=(1.0,))
    explaining = manifest.model_copy(update={"usual_surprisal": usual})
    with pytest.raises(BundleRefused, match=r"^golden\.json: .*has no explained"):
        read(golden(outputs), explaining)
    with pytest.raises(BundleRefused, match=r"^golden\.json: .*explained without conditional_surprisal"):
        read(golden(outputs, {"field_surprisal": [1.0]}), explaining)
    read(golden(outputs, {"field_surprisal": [1.0], "conditional_surprisal": [1.0]}), explaining)


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"{", b"[]", b'{"cases": 1}', b'{"cases": [1]}', b"\xff", b'{"secret-4711": 1}'],
        *[b'{"cases":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b'{"cases": [' + b"[]," * 1_100_000 + b"[]]}"],
    ],
    ids=lambda content: repr(content)[:20],
)
def test_golden_records_of_any_other_form_are_refused_in_one_line(manifest: Manifest, content: bytes) -> None:
    with pytest.raises(BundleRefused, match=r"^golden\.json: cannot be read: ") as refusal:
        contents.golden(bundle(manifest, golden_json=content))
    assert "\n" not in refusal.value.reason
    assert len(refusal.value.reason) < 300
    assert "4711" not in refusal.value.reason

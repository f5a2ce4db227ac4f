"""The manifest: it survives its own bytes, and no damaged, foreign or newer document passes for one."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bundle.contents.manifest import SAMPLE_COUNTS, Manifest
from bundle.contents.scores import TABLE_SCORES
from bundle.errors import ManifestInvalid, SchemaTooNew

NAMES_THAT_LEAVE = ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\\b", "a\0b"]


def signed(content: dict[str, Any]) -> bytes:
    """A document whose digest is correct, whatever else it holds."""
    blank = json.dumps(content | {"digest": "0" * 64}).encode()
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


def content_of(manifest: Manifest) -> dict[str, Any]:
    """The members of a manifest, the digest first so that no other run of 64 zeros stands before it."""
    return {"digest": ""} | manifest.model_dump(mode="json")


def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    read = Manifest.from_bytes(manifest.to_bytes())
    assert read == manifest.model_copy(update={"digest": read.digest})
    assert read.to_bytes() == manifest.to_bytes()


def test_the_digest_is_that_of_the_document_with_zeros_in_its_place(manifest: Manifest) -> None:
    document = manifest.to_bytes()
    digest = Manifest.from_bytes(document).digest
    assert document.count(digest.encode()) == 1
    assert digest == hashlib.sha256(document.replace(digest.encode(), b"0" * 64)).hexdigest()
    assert json.loads(document)["training"]["data_sha256"] == "0" * 64


def test_a_changed_manifest_has_another_digest(manifest: Manifest) -> None:
    other = manifest.model_copy(update={"samples": 32})
    assert Manifest.from_bytes(other.to_bytes()).digest != Manifest.from_bytes(manifest.to_bytes()).digest


def test_a_document_signed_with_its_digest_is_read(manifest: Manifest) -> None:
    assert Manifest.from_bytes(signed(content_of(manifest))).created == manifest.created


def test_every_flipped_bit_is_refused(manifest: Manifest) -> None:
    document = bytearray(manifest.to_bytes())
    for position in range(len(document)):
        for bit in range(8):
            document[position] ^= 1 << bit
            with pytest.raises((ManifestInvalid, SchemaTooNew)):
                Manifest.from_bytes(bytes(document))
            document[position] ^= 1 << bit


@given(st.data())
def test_a_document_cut_grown_or_doubled_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    document = manifest.to_bytes()
    cut = data.draw(st.integers(0, len(document) - 1), label="cut")
    more = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\n", b" "]), label="more")
    for damaged in (document[:cut], document[cut:] if cut else b"", document + more, more + document):
        with pytest.raises(ManifestInvalid):
            Manifest.from_bytes(damaged)


@given(st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_anything_else_is_refused(document: bytes) -> None:
    with pytest.raises(
        ManifestInvalid, match=r"manifest.json: is not a manifest; restore the bundle or train it again"
    ):
        Manifest.from_bytes(document)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b"{}",
        b'{"schema_version": 1}',
        b'{"digest": "' + b"0" * 64 + b'"}',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"schema_version": 1, "digest": "", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"schema_version": ' + b"9" * 5000 + b', "digest": ""}',
        b'{"schema_version": 1e999, "digest": ""}',
        b'{"schema_version": 1, "digest": ""}',
        b'{"schema_version": 1, "digest": null}',
        b'{"schema_version": 1, "digest": ["a"]}',
        b'{"schema_version": 1, "digest": "\\ud800"}',
    ],
    ids=lambda document: repr(document[:40]),
)
def test_documents_made_to_confuse_are_refused(document: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.from_bytes(document)


@pytest.mark.parametrize("version", [5, 6, 10, 2**70])
def test_a_newer_schema_asks_for_an_upgrade(manifest: Manifest, version: int) -> None:
    newer = content_of(manifest) | {"schema_version": version, "surprise": {"of": "a later release"}}
    for document in (signed(newer), json.dumps(newer).encode()):
        with pytest.raises(SchemaTooNew, match=f"schema_version {version} is newer than 4, .* upgrade"):
            Manifest.from_bytes(document)


@pytest.mark.parametrize("version", [0, -1, "1", "2", 5.0, 1.5, None, [2]])
def test_a_schema_version_that_never_was_is_refused(manifest: Manifest, version: object) -> None:
    with pytest.raises(ManifestInvalid, match="schema_version"):
        Manifest.from_bytes(signed(content_of(manifest) | {"schema_version": version}))


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"surprise": 1}, "surprise"),
        ({"latent_size": 0}, "latent_size"),
        ({"false_alarm_rate": 0}, "false_alarm_rate"),
        ({"false_alarm_rate": 1}, "false_alarm_rate"),
        ({"anomaly_score": "likelihood"}, "anomaly_score"),
        ({"calibration": {"records": 0, "thresholds": {}}}, "calibration.records"),
        ({"calibration": {"records": 1, "thresholds": {}, "surprise": 1}}, "calibration.surprise"),
        ({"record": {"fields": []}}, "record.fields"),
        ({"training": {}}, "training.data"),
        ({"created": None}, "created"),
    ],
)
def test_a_correct_digest_does_not_excuse_wrong_members(
    manifest: Manifest, change: dict[str, Any], member: str
) -> None:
    with pytest.raises(ManifestInvalid, match=rf"^manifest.json: {member}") as error:
        Manifest.from_bytes(signed(content_of(manifest) | change))
    assert error.value.file == "manifest.json"


@pytest.mark.parametrize("member", ["record", "files", "created", "samples", "calibration", "training"])
def test_a_member_without_a_default_cannot_be_left_out(manifest: Manifest, member: str) -> None:
    content = content_of(manifest)
    del content[member]
    with pytest.raises(ManifestInvalid, match=rf"^manifest.json: {member}: is missing"):
        Manifest.from_bytes(signed(content))


@pytest.mark.parametrize("name", NAMES_THAT_LEAVE)
def test_file_names_that_leave_the_folder_are_refused(manifest: Manifest, name: str) -> None:
    with pytest.raises(ManifestInvalid, match="a file's name must not leave the bundle's folder"):
        Manifest.from_bytes(signed(content_of(manifest) | {"files": {"scorer.onnx": "", name: ""}}))
    with pytest.raises(ValidationError, match="a file's name must not leave the bundle's folder"):
        Manifest.model_validate(manifest.model_dump() | {"files": {name: ""}})


def test_what_json_cannot_hold_is_never_written(manifest: Manifest) -> None:
    summary = manifest.calibration.model_copy(update={"thresholds": {"1": float("inf")}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest.model_copy(update={"calibration": summary}).to_bytes()


@pytest.mark.parametrize("score", TABLE_SCORES, ids=lambda score: score.name)
def test_the_anomaly_score_is_one_of_the_scores_and_higher_is_stranger(manifest: Manifest, score: Any) -> None:
    read = Manifest.from_bytes(manifest.model_copy(update={"anomaly_score": score.name}).to_bytes())
    assert read.score == score
    assert (score.sign == -1) == (score.unit == "nats")


def test_numbers_of_draws_are_the_powers_of_two_up_to_256() -> None:
    assert tuple(2**power for power in range(9)) == SAMPLE_COUNTS
    assert Manifest.model_fields["sample_counts"].default == SAMPLE_COUNTS


def test_a_manifest_cannot_be_changed(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.samples = 1  # type: ignore[misc]


def test_a_bundle_of_the_first_schema_has_no_explainer(manifest: Manifest) -> None:
    older = content_of(manifest) | {"schema_version": 1}
    del older["usual_surprisal"]
    assert Manifest.from_bytes(signed(older)).usual_surprisal is None


def test_a_bundle_of_the_third_schema_has_densities_of_numbers_as_they_are(manifest: Manifest) -> None:
    older = content_of(manifest) | {"schema_version": 3}
    del older["density_of"]
    (amount,) = (field for field in older["record"]["fields"] if field["kind"] == "numeric")
    for member in ("transform", "offset", "nonnegative"):
        del amount[member]
    read = Manifest.from_bytes(signed(older))
    assert read.density_of is None
    assert read.record == manifest.record


def test_every_field_has_a_usual_surprisal(manifest: Manifest) -> None:
    for fields, conditional in (((1.0, 2.0), (1.0, 2.0, 3.0)), ((1.0, 2.0, 3.0), (1.0,))):
        usual = {"fields": fields, "kl": 1.0, "conditional": conditional, "deviations": (1.0,)}
        with pytest.raises(ManifestInvalid, match="usual_surprisal is not of as many fields"):
            Manifest.from_bytes(signed(content_of(manifest) | {"usual_surprisal": usual}))

"""Signatures: a version is trusted as it was signed, under its own name and number, and by nobody else."""

import base64
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from bundle.contents.manifest import Manifest
from bundle.errors import DigestMismatch, SignatureRefused
from bundle.folder import store
from bundle.folder.store import Bundle
from service.models import signature
from service.models.signature import KeyUnusable
from service.settings import Settings
from tests.bundle.conftest import manifest, reference, schema  # noqa: F401 - fixtures
from tests.conftest import NAME, in_process, load

SPKI, PEM, PKCS8 = PublicFormat.SubjectPublicKeyInfo, Encoding.PEM, PrivateFormat.PKCS8
ALICE, MALLORY = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
TRUSTED = {signature.fingerprint(ALICE.public_key()): ALICE.public_key()}


def public_pem(*keys: Ed25519PrivateKey) -> bytes:
    return b"".join(key.public_key().public_bytes(PEM, SPKI) for key in keys)


def private_pem(key: Ed25519PrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(PEM, PKCS8, encryption or NoEncryption())


@pytest.fixture
def root(tmp_path: Path, manifest: Manifest) -> Path:  # noqa: F811
    """A models folder with two versions of `pay` that hold the same."""
    for _ in range(2):
        store.write(tmp_path / "models", "pay", manifest, {"noise.npy": b"noise"})
    return tmp_path / "models"


def loaded(root: Path, version: int = 1, name: str = "pay") -> Bundle:
    return store.load(root, name, version)


def signature_file(root: Path, version: int = 1, name: str = "pay") -> Path:
    return root / name / str(version) / "manifest.sig"


def refused(root: Path, version: int = 1, name: str = "pay", reason: str = "is no signature of") -> None:
    with pytest.raises(SignatureRefused, match=rf"^manifest\.sig: {reason}") as refusal:
        signature.verify(root, loaded(root, version, name), TRUSTED)
    assert refusal.value.file == "manifest.sig"


def test_what_a_trusted_key_signed_is_trusted_and_still_the_same_bundle(root: Path) -> None:
    before = loaded(root)
    refused(root, reason="is not there, and only signed versions are trusted")
    assert not signature.is_signed(root, before)
    signature.sign(root, before, ALICE)
    assert loaded(root) == before
    assert signature.is_signed(root, before)
    assert signature.verify(root, before, TRUSTED) == signature.fingerprint(ALICE.public_key())
    assert signature_file(root).stat().st_mode & 0o777 == 0o644, "the service may be another user"
    assert {path.name for path in signature_file(root).parent.iterdir()} == {
        "manifest.json",
        "manifest.sig",
        "noise.npy",
    }
    signature.sign(root, before, MALLORY)
    refused(root)
    assert signature.verify(root, before, {"m": MALLORY.public_key()} | TRUSTED) == "m"
    refused(root, 2, reason="is not there")


def test_what_is_signed_is_what_the_documentation_says(root: Path) -> None:
    digest = hashlib.sha256((root / "pay" / "1" / "manifest.json").read_bytes()).hexdigest()
    message = f"surprisal bundle 1\npay\n1\n{digest}\n"
    assert signature.message(loaded(root)) == message.encode()
    signature_file(root).write_bytes(b"ed25519 " + base64.b64encode(ALICE.sign(message.encode())) + b"\n")
    signature.verify(root, loaded(root), TRUSTED)
    text = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    assert (
        "    surprisal bundle 1\n    NAME\n    VERSION\n    SHA-256 of manifest.json, in 64 lower-case digits\n" in text
    )


def test_a_signature_holds_for_one_version_of_one_model(root: Path) -> None:
    """The bytes are the same; an old version could else come back as the newest, or one model as another."""
    signature.sign(root, loaded(root), ALICE)
    shutil.copy(signature_file(root), signature_file(root, 2))
    refused(root, 2)
    for copy in (root / "pay" / "3", root / "other" / "1"):
        shutil.copytree(root / "pay" / "1", copy)
        refused(root, int(copy.name), copy.parent.name)
    signature.verify(root, loaded(root), TRUSTED)


def test_a_signature_holds_for_one_manifest(root: Path, manifest: Manifest) -> None:  # noqa: F811
    signature.sign(root, loaded(root), ALICE)
    changed = manifest.model_copy(update={"files": loaded(root).manifest.files, "created": "2026-12-24T00:00:00Z"})
    (root / "pay" / "1" / "manifest.json").write_bytes(changed.to_bytes())
    refused(root)
    (root / "pay" / "1" / "manifest.json").write_bytes(loaded(root, 2).document)
    signature.verify(root, loaded(root), TRUSTED)
    (root / "pay" / "1" / "noise.npy").write_bytes(b"another")
    with pytest.raises(DigestMismatch):
        loaded(root)


@given(st.integers(0, 97), st.integers(1, 255))
def test_every_change_of_the_file_is_refused(at: int, change: int) -> None:
    bundle = Bundle("pay", 1, None, {}, b"document")  # type: ignore[arg-type]  # nothing of it is looked at
    content = bytearray(b"ed25519 " + base64.b64encode(ALICE.sign(signature.message(bundle))) + b"\n")
    content[at % len(content)] ^= change
    with pytest.raises(SignatureRefused):
        signature.verify_content(bytes(content), bundle, TRUSTED)


@pytest.mark.parametrize(
    "content",
    [b"", b"ed25519 ", b"\0" * 64, b"ed25519 !!!!\n", b"ed25519 AAAA\n", b"rsa " + b"A" * 88, b"x" * 70_000],
    ids=lambda content: repr(content)[:20],
)
def test_a_damaged_file_is_a_refusal(root: Path, content: bytes) -> None:
    signature_file(root).write_bytes(content)
    refused(root, reason="")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: __import__("os").mkfifo(path)], ids=["folder", "pipe"])
def test_a_signature_that_is_no_plain_file_is_not_waited_for(root: Path, make: Callable[[Path], None]) -> None:
    make(signature_file(root))
    refused(root, reason="cannot be read: it is no plain file")


def test_several_keys_may_be_trusted_with_words_between_them(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "trusted.pem"
    file.write_bytes(b"# Mallory, until May\n" + public_pem(MALLORY) + b"\n# Alice\n" + public_pem(ALICE))
    keys = signature.public_keys(file)
    assert list(keys) == [signature.fingerprint(key.public_key()) for key in (MALLORY, ALICE)]
    for key in (ALICE, MALLORY):
        signature.sign(root, loaded(root), key)
        assert signature.verify(root, loaded(root), keys) == signature.fingerprint(key.public_key())


OTHER = generate_private_key(SECP256R1())
NO_PUBLIC_KEYS = {
    "nothing": (b"", "holds no whole public key"),
    "text": (b"a key", "holds no whole public key"),
    "a private key": (private_pem(ALICE), "holds a private key"),
    "one cut off after a good one": (public_pem(ALICE) + public_pem(MALLORY)[:-20], "holds no whole public key"),
    "another kind": (OTHER.public_key().public_bytes(PEM, SPKI), "not of ed25519"),
    "damaged": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
}


@pytest.mark.parametrize(("content", "reason"), NO_PUBLIC_KEYS.values(), ids=NO_PUBLIC_KEYS.keys())
def test_a_file_without_public_keys_is_refused_whole(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "keys.pem").write_bytes(content)
    with pytest.raises(KeyUnusable, match=rf"keys\.pem: .*{reason}"):
        signature.public_keys(tmp_path / "keys.pem")


NO_PRIVATE_KEYS = {
    "nothing": (b"", "is no private key"),
    "a public key": (public_pem(ALICE), "is no private key"),
    "an encrypted one": (private_pem(ALICE, BestAvailableEncryption(b"secret")), "is encrypted"),
    "another kind": (OTHER.private_bytes(PEM, PKCS8, NoEncryption()), "is no ed25519 key"),
}


@pytest.mark.parametrize(("content", "reason"), NO_PRIVATE_KEYS.values(), ids=NO_PRIVATE_KEYS.keys())
def test_a_file_without_a_private_key_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(KeyUnusable, match=rf"key\.pem: {reason}"):
        signature.private_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").write_bytes(private_pem(ALICE))
    assert signature.private_key(tmp_path / "key.pem").private_bytes_raw() == ALICE.private_bytes_raw()


def test_with_trusted_keys_no_graph_is_opened_that_nobody_signed(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "served"
    shutil.copytree(models, root)
    (tmp_path / "trusted.pem").write_bytes(public_pem(ALICE))
    settings = Settings(models=root, device="cpu", trusted_keys=tmp_path / "trusted.pem")
    with monkeypatch.context() as patched:
        patched.setattr(onnxruntime, "InferenceSession", None)
        for signer in (None, MALLORY):
            if signer is not None:
                signature.sign(root, store.load(root, NAME, 1), signer)
            with pytest.raises(SignatureRefused):
                load(root, NAME, 1, settings)
    signature.sign(root, store.load(root, NAME, 1), ALICE)
    load(root, NAME, 1, settings)
    load(root, NAME, 1, Settings(models=root, device="cpu"))


async def test_a_service_with_trusted_keys_says_what_it_refuses_and_serves_what_is_signed_later(
    models: Path, tmp_path: Path
) -> None:
    root = tmp_path / "served"
    shutil.copytree(models, root)
    signature.sign(root, store.load(root, NAME, 1), ALICE)
    (tmp_path / "trusted.pem").write_bytes(public_pem(ALICE))
    async with in_process(Settings(models=root, trusted_keys=tmp_path / "trusted.pem")) as (client, app):
        shutil.copytree(root / NAME / "1", root / NAME / "2")
        await app.models.refresh()
        shown = (await client.get("/models")).json()
        assert [model["version"] for model in shown["models"]] == ["1"]
        assert shown["refused"][NAME].startswith(f"version 2: manifest.sig: is no signature of {NAME} version 2")
        signature.sign(root, store.load(root, NAME, 2), ALICE)
        await app.models.refresh()
        shown = (await client.get("/models")).json()
        assert [model["version"] for model in shown["models"]] == ["2"]
        assert shown["refused"] == {}

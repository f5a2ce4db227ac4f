"""Who vouches for a bundle: `manifest.sig`, an ed25519 signature of its name, its version and its manifest.

The manifest lists the digest of every other file, so that a signature of it stands for the whole bundle.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from bundle.contents import manifest
from bundle.errors import BundleError, SignatureRefused
from bundle.folder import durable_file, small_file
from bundle.folder.store import Bundle

FILE_NAME: Final = manifest.SIGNATURE
_FORM = re.compile(rb"ed25519 ([A-Za-z0-9+/]{85}[AQgw]==)\n")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_MADE_BY = "openssl genpkey -algorithm ed25519"

PublicKeys = Mapping[str, Ed25519PublicKey]
"""Public keys by their fingerprints."""


class KeyUnusable(BundleError):
    """A file of keys is not what is needed."""


def message(bundle: Bundle) -> bytes:
    """What is signed, to the byte: docs/security.md has it, too. No name holds a line break."""
    digest = hashlib.sha256(bundle.document).hexdigest()
    return f"surprisal bundle 1\n{bundle.name}\n{bundle.version}\n{digest}\n".encode("ascii")


def fingerprint(key: Ed25519PublicKey) -> str:
    """What a key is called: `sha256:` and the digest of its 32 bytes."""
    return f"sha256:{hashlib.sha256(key.public_bytes_raw()).hexdigest()}"


def private_key(file: Path) -> Ed25519PrivateKey:
    """The key to sign with.

    Args:
        file: PEM, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        KeyUnusable: It is none, or is encrypted.
        OSError: It cannot be read.
    """
    try:
        key = load_pem_private_key(small_file.read(file), password=None)
    except TypeError as error:
        raise KeyUnusable(f"{file}: is encrypted; give a copy that openssl pkey has decrypted") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{file}: is no private key in PEM; {_MADE_BY} makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{file}: is no ed25519 key; {_MADE_BY} makes one")
    return key


def public_keys(file: Path) -> PublicKeys:
    """The keys that are trusted.

    Args:
        file: PEM, one or several, as `openssl pkey -pubout` writes them; what stands between them is passed over.

    Raises:
        KeyUnusable: There is none in it, or something else.
        OSError: It cannot be read.
    """
    content = small_file.read(file)
    found = list(_PEM.finditer(content))
    if not found or len(found) != content.count(b"-----BEGIN"):
        raise KeyUnusable(f"{file}: holds no whole public key in PEM; openssl pkey -pubout writes one")
    keys = {}
    for each in found:
        if each[1] != b"PUBLIC KEY":
            raise KeyUnusable(f"{file}: holds a {each[1].decode().lower()}; public keys alone belong there")
        try:
            key = load_pem_public_key(each[0])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnusable(f"{file}: holds a public key that cannot be read") from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyUnusable(f"{file}: holds a public key that is not of ed25519")
        keys[fingerprint(key)] = key
    return keys


def sign(root: Path, bundle: Bundle, key: Ed25519PrivateKey) -> None:
    """Write `manifest.sig`, in place of another.

    Args:
        root: The models folder.
        bundle: Verified.
        key: Whose signature it is.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = _folder(root, bundle)
    content = b"ed25519 " + base64.b64encode(key.sign(message(bundle))) + b"\n"
    durable_file.replace(folder / FILE_NAME, content)
    durable_file.sync_folder(folder)


def is_signed(root: Path, bundle: Bundle) -> bool:
    """Whether there is a signature, by whomever."""
    return (_folder(root, bundle) / FILE_NAME).exists()


def verify(root: Path, bundle: Bundle, trusted: PublicKeys) -> str:
    """Check that somebody who is trusted has signed a bundle under this name and version.

    Args:
        root: The models folder.
        bundle: Verified byte by byte.
        trusted: Whose signature counts.

    Returns:
        The fingerprint of the key that signed it.

    Raises:
        SignatureRefused: It is not signed, or by another key, or as another name or version.
    """
    try:
        content = small_file.read(_folder(root, bundle) / FILE_NAME)
    except FileNotFoundError:
        raise SignatureRefused(FILE_NAME, "is not there, and only signed versions are trusted; sign it") from None
    except OSError as error:
        raise SignatureRefused(FILE_NAME, f"cannot be read: {error.strerror}") from error
    return verify_content(content, bundle, trusted)


def verify_content(content: bytes, bundle: Bundle, trusted: PublicKeys) -> str:
    """See `verify`, with the bytes of `manifest.sig`."""
    made, signed = _decoded(content), message(bundle)
    for name, key in trusted.items():
        try:
            key.verify(made, signed)
        except InvalidSignature:
            continue
        return name
    raise SignatureRefused(
        FILE_NAME,
        f"is no signature of {bundle.name} version {bundle.version} by a key that is trusted: another key made it, or "
        "it is of another name, version or manifest",
    )


def _folder(root: Path, bundle: Bundle) -> Path:
    return root / bundle.name / str(bundle.version)


def _decoded(content: bytes) -> bytes:
    match = _FORM.fullmatch(content)
    if match is None:
        raise SignatureRefused(FILE_NAME, "is damaged; sign the version again")
    return base64.b64decode(match[1])

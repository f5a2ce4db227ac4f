"""`surprisal models`: what is printed, what is changed, what is refused with which exit code."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bundle.folder import store
from service.models import signature
from surprisal.cli import train
from surprisal.cli.progress import Progress
from tests.conftest import NAME
from tests.surprisal.cli.command import surprisal
from training.pipeline import Trained


@pytest.fixture(scope="module")
def three_versions(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one bundle in three versions; not to be changed."""
    root = tmp_path_factory.mktemp("versions") / "models"
    shutil.copytree(models, root)
    for version in ("2", "3"):
        shutil.copytree(root / NAME / "1", root / NAME / version)
    return root


@pytest.fixture
def root(three_versions: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three_versions, tmp_path / "models")
    return tmp_path / "models"


def test_versions_are_promoted_gone_back_from_tried_out_listed_and_pruned(root: Path) -> None:
    promoted = surprisal("models", "promote", root / NAME / "1")
    assert promoted.stdout == f"{NAME} version 1 is served in place of version 3\n"
    assert surprisal("models", "rollback", root / NAME).stdout == f"{NAME} version 3 is served again\n"
    tried = surprisal("models", "shadow", root / NAME / "2")
    assert tried.stdout == f"{NAME} version 2 scores beside version 3\n"
    listed = surprisal("models", "list", root).stdout
    assert [line.split()[-2] for line in listed.splitlines() if NAME in line] == ["previous", "shadow", "served"]
    told = json.loads(surprisal("models", "list", root, "--json").stdout)
    assert [(each["version"], each["use"]) for each in told] == [(1, "previous"), (2, "shadow"), (3, "served")]
    facts = store.load(root, NAME, 1).manifest.training
    on_disk = sum(file.stat().st_size for file in (root / NAME / "1").iterdir())
    for each in told:
        assert each.keys() == {"model", "version", "created", "rows", "auroc", "size_bytes", "use", "fault"}
        assert (each["rows"], each["auroc"]) == (facts.rows["train"], facts.metrics["combined_auroc"])
        assert (each["size_bytes"], each["fault"]) == (on_disk, None)
    assert f" {facts.metrics['combined_auroc']:.4f} " in listed
    assert surprisal("models", "shadow", root / NAME, "--off").stdout == f"{NAME} has no shadow\n"
    assert surprisal("models", "prune", root / NAME, "--keep", "1").stdout == f"deleted of {NAME}: 2\n"
    assert store.versions(root, NAME) == [1, 3]


def test_a_training_says_how_its_version_is_served(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = Trained(NAME, 3, root / NAME / "3", store.load(root, NAME, 3).manifest)
    promote = f"serve it: surprisal models promote {root / NAME / '3'}\n"
    for content, said in (
        (None, f"wrote version 3 of {NAME}; serve it: surprisal serve --models {root}\n"),
        ('{"version": 3}', f"serve it: surprisal serve --models {root}\n"),
        (
            '{"version": 1}',
            "; version 1 is pinned, and answers on. Try the new one out beside it: surprisal models shadow ",
        ),
        ('{"version": 1}', promote),
        ("{", "; it is not served before "),
    ):
        if content is not None:
            (root / NAME / "serving.json").write_text(content)
        train.summarise(new, root, Progress(quiet=False, drawn=False))
        assert said in capsys.readouterr().err


def test_verify_names_what_would_be_refused(root: Path) -> None:
    assert surprisal("models", "verify", root / NAME / "2").stdout == f"{NAME} version 2: good, unsigned\n"
    (root / NAME / "2" / "noise.npy").write_bytes(b"damaged")
    result = surprisal("models", "verify", root)
    assert result.returncode == 1
    assert [line.partition(": ")[2][:9] for line in result.stdout.splitlines()] == [
        "good, uns",
        "noise.npy",
        "good, uns",
    ]
    assert result.stderr == "surprisal: 1 of 3 versions would be refused\n"
    assert "damaged: noise.npy" in surprisal("models", "list", root).stdout
    (damaged,) = [each for each in json.loads(surprisal("models", "list", root, "--json").stdout) if each["fault"]]
    assert (damaged["version"], damaged["rows"], damaged["fault"][:9]) == (2, None, "noise.npy")


def test_a_damaged_version_is_not_called_served(root: Path) -> None:
    surprisal("models", "promote", root / NAME / "3")
    surprisal("models", "shadow", root / NAME / "1")
    uses = ["shadow", None, "served"]
    for version in (3, 1):
        (root / NAME / str(version) / "noise.npy").write_bytes(b"damaged")
        uses[version - 1] = "refused"
        told = json.loads(surprisal("models", "list", root, "--json").stdout)
        assert [each["use"] for each in told] == uses
    assert surprisal("models", "list", root).stdout.count("refused") == 2


def test_a_version_is_signed_and_verify_says_by_whom(root: Path, tmp_path: Path) -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("alice", "mallory")}
    for name, key in keys.items():
        (tmp_path / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pem").write_bytes(public)
    alice, version = signature.fingerprint(keys["alice"].public_key()), root / NAME / "2"
    signed = surprisal("models", "sign", version, "--key", tmp_path / "alice")
    assert (signed.stdout, signed.stderr) == (f"{NAME} version 2 is signed by {alice}\n", "")
    assert surprisal("models", "verify", version).stdout.startswith(f"{NAME} version 2: good, signed, by whom --key")
    good = surprisal("models", "verify", version, "--key", tmp_path / "alice.pem")
    assert (good.returncode, good.stdout) == (0, f"{NAME} version 2: good, signed by {alice}\n")
    shutil.copy(version / "manifest.sig", root / NAME / "3")
    refused = surprisal("models", "verify", root / NAME, SURPRISAL_TRUSTED_KEYS=str(tmp_path / "alice.pem"))
    assert refused.returncode == 1
    assert [line.split(": ", 1)[1][:40] for line in refused.stdout.splitlines()] == [
        "manifest.sig: is not there, and only sig",
        f"good, signed by {alice}"[:40],
        f"manifest.sig: is no signature of {NAME}"[:40],
    ]
    other = surprisal("models", "verify", version, "--key", tmp_path / "mallory.pem")
    assert (other.returncode, "is no signature of" in other.stdout) == (1, True)
    (tmp_path / "in.csv").write_text("amount\n1\n")
    scored = ("score", root / NAME / "1", tmp_path / "in.csv", tmp_path / "out.csv")
    unsigned = surprisal(*scored, SURPRISAL_TRUSTED_KEYS=str(tmp_path / "alice.pem"))
    assert (unsigned.returncode, "manifest.sig: is not there" in unsigned.stderr) == (1, True)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("command", "content", "said"),
    [
        ("sign", "no key", "is no private key in PEM; openssl genpkey -algorithm ed25519 makes one"),
        ("verify", "no key", "holds no whole public key in PEM; openssl pkey -pubout writes one"),
        ("sign", None, "there is no such file"),
        ("verify", None, "there is no such file"),
    ],
)
def test_a_key_that_is_none_is_said_in_one_line(
    root: Path, tmp_path: Path, command: str, content: str | None, said: str
) -> None:
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_text(content)
    result = surprisal("models", command, root / NAME / "1", "--key", key)
    assert result.returncode == 1
    assert said in result.stderr.lower() or said in result.stderr
    assert result.stderr.count("\n") == 1
    assert str(key) in result.stderr


def test_a_service_with_a_damaged_file_of_trusted_keys_does_not_start(root: Path, tmp_path: Path) -> None:
    for content, said, code in ((None, "SURPRISAL_TRUSTED_KEYS", 2), ("no key", "holds no whole public key", 1)):
        if content is not None:
            (tmp_path / "trusted.pem").write_text(content)
        trusted = {"SURPRISAL_TRUSTED_KEYS": str(tmp_path / "trusted.pem")}
        for command in (("serve", "--models", root, "--port", "0"), ("models", "verify", root)):
            result = surprisal(*command, **trusted)
            assert (result.returncode, said in result.stderr) == (code, True), result.stderr
            assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("promote", f"{NAME}/9"), f"models/NAME/VERSION is expected; the newest of {NAME} are 1, 2, 3\n"),
        (("promote", f"{NAME[1:]}/1"), f"models/NAME/VERSION is expected; did you mean {NAME}?\n"),
        (("rollback", "nobody"), f"models/NAME is expected; there is {NAME}\n"),
        (("shadow", f"{NAME}/3"), "is the one that is served"),
        (("verify", "nobody"), "there is no bundle at"),
    ],
)
def test_what_is_not_there_is_a_wrong_call(root: Path, arguments: tuple[str, str], said: str) -> None:
    command, path = arguments
    result = surprisal("models", command, root / path)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (root / NAME / "serving.json").exists()


def test_an_empty_folder_and_a_damaged_choice_are_said(root: Path, tmp_path: Path) -> None:
    empty = surprisal("models", "list", tmp_path)
    assert (empty.returncode, "there is no model" in empty.stderr) == (1, True)
    (root / NAME / "serving.json").write_text("{")
    broken = surprisal("models", "prune", root / NAME)
    assert broken.returncode == 1
    assert "serving.json" in broken.stderr
    assert store.versions(root, NAME) == [1, 2, 3]


def test_a_path_of_the_wrong_kind_is_a_wrong_call(root: Path) -> None:
    for command, path in (("promote", root / NAME), ("rollback", root / NAME / "1"), ("prune", root), ("unpin", root)):
        result = surprisal("models", command, path)
        assert result.returncode == 2, command
        assert "is expected" in result.stderr
    assert not (root / NAME / "serving.json").exists()


def test_what_is_wrong_with_one_model_is_shown_beside_the_others(root: Path) -> None:
    shutil.copytree(root / NAME, root / "other")
    (root / NAME / "serving.json").write_text('{"version": 9}')
    listed = surprisal("models", "list", root)
    assert listed.returncode == 0
    assert "pins version 9" in listed.stdout
    assert "served" in listed.stdout
    assert (
        surprisal("models", "unpin", root / NAME).stdout == f"{NAME} version 3 is served, and newer ones as they come\n"
    )

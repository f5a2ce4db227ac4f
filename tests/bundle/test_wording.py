"""What is wrong is said in our words, with what was meant; no word of pydantic's comes through."""

import errno
import os
from typing import Any

import pytest
from pydantic import ValidationError

from bundle import wording
from bundle.folder.serving import Serving
from service.settings import Settings, SettingsInvalid, settings, unknown
from training import config
from training.config import TrainingConfig
from training.errors import ConfigInvalid

THEIRS = ("Input should", "Extra inputs", "Value error", "valid ", "unable to parse", "pydantic")


def said(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigInvalid) as refused:
        config.build(content, source="a.toml")
    assert not any(words in str(refused.value) for words in THEIRS), refused.value
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"fit": {"epoch": 5}}, "a.toml: fit.epoch: there is no such setting; did you mean epochs?"),
        ({"fits": {"epochs": 5}}, "a.toml: fits: there is no such setting; did you mean fit?"),
        ({"epochs": 5}, "a.toml: epochs: belongs to a section; write it below [fit]"),
        ({"fit": 3}, "a.toml: fit: several settings are expected, each with its name, not 3"),
        ({"fit": {"epochs": "many"}}, "a.toml: fit.epochs: a whole number is expected, not 'many'"),
        ({"fit": {"epochs": 2.5}}, "a.toml: fit.epochs: a whole number is expected, not 2.5"),
        ({"fit": {"epochs": 0}}, "a.toml: fit.epochs: 1 or more is expected, not 0"),
        ({"fit": {"learning_rate": -1}}, "a.toml: fit.learning_rate: a number above 0 is expected, not -1"),
        ({"data": {"contamination": 0.6}}, "a.toml: data.contamination: a number below 0.5 is expected, not 0.6"),
        ({"data": {"exclude": "amount"}}, "a.toml: data.exclude: a list is expected, not 'amount'"),
        ({"data": {"label": 3}}, "a.toml: data.label: a text is expected, not 3"),
        ({"data": {"delimiter": ";;"}}, "a.toml: data.delimiter: one character is expected, not ';;'"),
        ({"data": {"decimal": ";"}}, "a.toml: data.decimal: one of '.', ',' is expected, not ';'"),
        (
            {"network": {"kind": "dens"}},
            "a.toml: network.kind: one of dense, residual, fully-convolutional is expected, not 'dens'; "
            "did you mean dense?",
        ),
        ({"network": {"hidden": [32, 0]}}, "a.toml: network.hidden[2]: 1 or more is expected, not 0"),
        (
            {"fields": [{"name": "amount", "kind": "categorical", "vocab": ["a"]}]},
            "a.toml: fields[1].vocab: there is no such setting; there are name, kind, likelihood, transform, "
            "minimum_scale, fixed_scale, degrees_of_freedom, vocabulary",
        ),
        ({"fields": [{"name": "amount"}]}, "a.toml: fields[1].kind: is missing"),
        ({"seed": -1, "fit": {"patience": 0}}, "a.toml: seed: 0 or more is expected, not -1; "
         "fit.patience: 1 or more is expected, not 0"),
    ],
)  # fmt: skip
def test_a_wrong_configuration(content: dict[str, Any], words: str) -> None:
    assert said(content) == words


def test_what_an_option_says_is_named_by_it() -> None:
    with pytest.raises(ConfigInvalid, match=r"^--seed: 0 or more is expected, not -1$"):
        config.build({"seed": -1}, source="a.toml", options={"seed": "--seed"})


def test_a_wrong_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, words in (
        ("PORT", "x", "SURPRISAL_PORT: a whole number is expected, not 'x'"),
        ("LOG_LEVEL", "warn", "one of debug, info, warning, error is expected, not 'warn'; did you mean warning?"),
        ("TF32", "maybe", "SURPRISAL_TF32: true or false is expected, not 'maybe'"),
        ("IDLE_SECONDS", "inf", "SURPRISAL_IDLE_SECONDS: a finite number is expected, not 'inf'"),
        ("TRUSTED_KEYS", "nothing", "SURPRISAL_TRUSTED_KEYS: there is no such file: nothing"),
        ("OPS_PORT", "8000", "SURPRISAL_OPS_PORT is 8000, and so is the service's own port; take another"),
        ("TLS_KEY", __file__, "SURPRISAL_TLS_CERTIFICATE and SURPRISAL_TLS_KEY go together; set the other one too"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"SURPRISAL_{name}", value)
            with pytest.raises(SettingsInvalid) as refused:
                settings()
        assert words in str(refused.value)
        assert not any(theirs in str(refused.value) for theirs in THEIRS)
    with pytest.raises(SettingsInvalid, match=r"^--ops-port: 65535 or less is expected, not 70000$"):
        settings(ops_port=70000)


def test_a_misspelt_variable_is_not_passed_over() -> None:
    assert unknown(["SURPRISAL_PROT", "SURPRISAL_PORT", "SURPRISAL_STACK_INSIDE", "PATH"]) == [
        "SURPRISAL_PROT: there is no such setting; did you mean SURPRISAL_PORT?"
    ]


def test_names_are_those_of_the_place() -> None:
    assert "epochs" in wording.names_at(TrainingConfig, ("fit",))
    assert "vocabulary" in wording.names_at(TrainingConfig, ("fields", 0))
    assert wording.names_at(TrainingConfig, ("nothing",)) == []
    assert "port" in wording.names_at(Settings, ())


def test_an_unknown_kind_of_fault_is_not_quoted() -> None:
    assert wording.words({"type": "url_parsing", "loc": (), "msg": "theirs", "input": "x"}) == "does not fit"
    with pytest.raises(ValidationError) as error:
        Serving.model_validate_json("{")
    assert wording.faults(error.value, Serving) == [((), "is not JSON")]


def test_what_the_system_says() -> None:
    assert wording.of_system(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))) == (
        "there is no such file or folder"
    )
    assert wording.of_system(OSError("our own\nwords")) == "our own words"

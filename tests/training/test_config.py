"""The configuration: presets, TOML, and what is refused."""

import re
from pathlib import Path

import pytest
from torch import nn

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import config, modality
from training.errors import ConfigInvalid


def test_what_is_said_wins_over_the_preset_and_that_over_the_default() -> None:
    plain = config.build({})
    preset = config.build({"preset": "an-cho"})
    said = config.build({"preset": "an-cho", "network": {"latent_size": 5}})
    assert plain.network.hidden == (256, 128)
    assert (preset.network.hidden, preset.network.latent_size, preset.objective.draws) == ((400,), 200, 10)
    assert (said.network.hidden, said.network.latent_size) == ((400,), 5)


@pytest.mark.parametrize("preset", ["kingma-welling", "an-cho"])
def test_the_networks_of_papers_are_dense_for_images_too(preset: str) -> None:
    field = ImageField(name="image", height=8, width=8, channels=1, likelihood="bernoulli")
    vae = modality.of(ImageSchema(fields=(field,))).vae(config.build({"preset": preset}).network)
    assert not any(isinstance(layer, nn.Conv2d) for layer in vae.modules())


def test_kingma_wellings_network_has_one_tanh_layer() -> None:
    network = config.build({"preset": "kingma-welling"}).network
    assert (len(network.hidden), network.activation) == (1, "tanh")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"networks": {}}, "networks"),
        ({"network": {"width": 3}}, "network.width"),
        ({"network": {"activation": "sigmoid"}}, "network.activation"),
        ({"network": 5}, "network"),
        ({"objective": {"kind": "forward-kl"}}, "objective"),
        ({"objective": {"kind": "importance-weighted", "draws": 5, "beta": 2.0}}, "objective"),
        ({"objective": {"capacity": 5.0, "beta": 20.0, "free_nats": 0.1}}, "objective"),
        ({"objective": {"capacity": 5.0}}, "objective"),
        ({"fit": {"epochs": 0}}, "fit.epochs"),
        ({"scoring": {"samples": 3}}, "scoring.samples"),
        ({"scoring": {"false_alarm_rate": 1.5}}, "scoring.false_alarm_rate"),
        ({"preset": "best"}, "preset"),
        ({"seed": -1}, "seed"),
        ({"fields": [{"name": "a", "kind": "text"}]}, "fields[1].kind"),
        ({"fields": [{"name": "a", "kind": "boolean", "minimum_scale": 0.1}]}, "fields[1]"),
        ({"fields": [{"name": "a", "kind": "numeric", "vocabulary": ["x"]}]}, "fields[1]"),
    ],
)
def test_what_does_not_exist_is_named_by_its_place(content: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(place)):
        config.build(content)


def test_a_file_that_is_no_toml_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        config.read_toml(path)
    path.write_text("seed = ")
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        config.read_toml(path)


def test_a_configuration_survives_its_own_dump() -> None:
    content = {"preset": "an-cho", "seed": 3, "fields": [{"name": "a", "kind": "numeric", "minimum_scale": 0.1}]}
    built = config.build(content)
    assert config.build(built.model_dump(mode="json", exclude_none=True)) == built

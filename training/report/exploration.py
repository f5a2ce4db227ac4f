"""What a bundle of images says of data: everything that the page of `surprisal explore` shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from bundle.contents import explanation
from bundle.contents.calibration import Calibration
from bundle.contents.explanation import Explanations
from bundle.contents.manifest import Manifest
from bundle.folder import contents
from bundle.folder.store import Bundle
from bundle.record import image_folder
from bundle.record.fields import ImageField
from bundle.record.images import Levels
from bundle.record.schema import ImageSchema
from training.config import DataConfig, build
from training.data import schema, split
from training.data.read import Data, Rows
from training.errors import ConfigInvalid
from training.evaluation import labelled
from training.export import runs
from training.image import encoder_decoder
from training.image.encoder_decoder import EncoderDecoder
from training.network.posterior import Posterior, kl_by_dimension

_ENCODED = 256
"""Images in one run of the encoder."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageSet:
    """The images of a file, and what the bundle says of them with its own number of draws.

    Args:
        name: The file's name.
        held_out: Whether the bundle was trained from the file, and these are of what nothing was fitted on.
        found: How many such images the file holds, n or more.
        images: (n, H, W, C) uint8, in random order.
        names: (n,) each image's file, or its row in the data (the first is 1).
        scores: (n,) float32 by score's name, higher = stranger.
    """

    name: str
    held_out: bool
    found: int
    images: Levels
    names: tuple[str, ...]
    scores: Mapping[str, npt.NDArray[np.float32]]

    @property
    def count(self) -> str:
        """How many they are, in words."""
        images = "image" if self.found == 1 else "images"
        return f"{len(self.images):,}{f' of {self.found:,}' if self.found > len(self.images) else ''} {images}"


@dataclass(frozen=True)
class Exploration:
    """A model of images, and data seen through it.

    Args:
        name: The model's name.
        version: The model's version.
        manifest: The bundle's.
        image: The bundle's one field.
        encoder_decoder: The bundle's encoder and decoder.
        calibration: The bundle's.
        kl: (K,) mean KL over the data by latent dimension, in nats; 0 of an autoencoder, which has none.
        data: The images.
        other: Images to compare them with, or None.
        explain: Says why images (n, H, W, C) are strange.
    """

    name: str
    version: int
    manifest: Manifest
    image: ImageField
    encoder_decoder: EncoderDecoder
    calibration: Calibration
    kl: npt.NDArray[np.float64]
    data: ImageSet
    other: ImageSet | None
    explain: Callable[[Levels], Explanations]

    @property
    def likelihood(self) -> str:
        """Name of the score that is the model's objective, negated: the ELBO's, or an autoencoder's only one."""
        return "expected_log_likelihood" if self.encoder_decoder.deterministic else "elbo"

    def threshold(self, score: str) -> float:
        """The value of a score above which an image is flagged at the bundle's false-alarm rate."""
        return self.calibration.threshold(score, self.manifest.samples, self.manifest.false_alarm_rate)

    def p_values(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(n,) p-values of (n,) values of the score that decides."""
        return self.calibration.p_values(self.manifest.anomaly_score, self.manifest.samples, values)


def explore(bundle: Bundle, path: Path, other: Path | None, most: int, say: Say = lambda line: None) -> Exploration:
    """Score images with a bundle.

    Of the file that the bundle was trained from only normal images that nothing was fitted on are taken, those of the
    calibration.

    Args:
        bundle: A bundle of images.
        path: The images.
        other: Others, to compare them with, or None.
        most: Images of each file that are scored; of more so many are drawn at random.
        say: Told, in a sentence, what is being done.

    Raises:
        ConfigInvalid: The bundle is none of images, or there is no such file.
        DataInvalid: A file cannot be read, or holds other images than the bundle's, or none that it has not seen.
    """
    manifest = bundle.manifest
    if not isinstance(manifest.record, ImageSchema):
        raise ConfigInvalid(
            f"{bundle.name} is a model of tables, and explore shows models of images; the pictures of a table's model "
            f"stand in the bundle's folder, {bundle.name}/{bundle.version}/report.html"
        )
    found = [_images(bundle, each, most) for each in (path, other) if each is not None]
    noise = contents.noise(bundle)[: manifest.samples]
    sessions = {
        name: runs.session(bundle.files[name])
        for name in ("scorer.onnx", "encoder.onnx", "decoder.onnx", explanation.FILE_NAME)
    }

    def scored(images: Levels) -> dict[str, npt.NDArray[np.float32]]:
        outputs = runs.score(sessions["scorer.onnx"], {"image": images}, noise)
        return {each.name: np.float32(each.sign) * outputs[each.output] for each in manifest.scores}

    def explain(images: Levels) -> Explanations:
        record = {"image": images}
        return Explanations(manifest, record, runs.score(sessions[explanation.FILE_NAME], record, noise))

    sets = []
    for part in found:
        unseen = ", which nothing was fitted on" if part.held_out else ""
        say(f"scoring {part.count} of {part.name}{unseen}")
        sets.append(replace(part, scores=scored(part.images)))
    deterministic = "elbo" not in {score.name for score in manifest.scores}
    encoder = sessions["encoder.onnx"]
    return Exploration(
        name=bundle.name,
        version=bundle.version,
        manifest=manifest,
        image=manifest.record.field,
        encoder_decoder=encoder_decoder.of_graphs(
            manifest.record.field, encoder, sessions["decoder.onnx"], deterministic=deterministic
        ),
        calibration=contents.calibration(bundle),
        kl=np.zeros(manifest.latent_size) if deterministic else _kl(encoder, sets[0].images),
        data=sets[0],
        other=sets[1] if other is not None else None,
        explain=explain,
    )


def _images(bundle: Bundle, path: Path, most: int) -> ImageSet:
    """Images of a file that the bundle has not seen, still without scores."""
    facts = bundle.manifest.training
    data, _ = labelled.read_records(bundle, path)
    held_out = data.sha256 == facts.data_sha256
    labels = build(dict(facts.config)).data if held_out else DataConfig()
    normal, _ = split.by_label(data.table, labels)
    _, unseen, _ = labelled.unseen(bundle, data, normal, normal[:0])
    # In random order, because the first ones are shown, and a folder's stand in the order of their labels.
    rows = np.random.default_rng(facts.seed).permutation(unseen)[:most]
    images = schema.tensors(bundle.manifest.record, data, rows)["image"].astype(np.uint8, copy=False)
    return ImageSet(data.name, held_out, unseen.size, images, naming.names(data, rows), {})


def _kl(encoder: onnxruntime.InferenceSession, images: Levels) -> npt.NDArray[np.float64]:
    """(K,) mean KL(q(z|x) || p(z)) by latent dimension, in nats."""
    total = np.zeros(1)
    for piece in runs.pieces({"image": images}, _ENCODED):
        outputs = encoder.run(["latent_mean", "latent_log_variance"], piece)
        total = total + kl_by_dimension(Posterior(*map(torch.from_numpy, outputs))).double().sum(dim=0).numpy()
    return total / len(images)

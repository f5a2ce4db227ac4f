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
from training.report import naming, wording

_STRANGERS = "not normal"
"""The role of images that are labelled as anomalies."""
_ENCODED = 256
"""Images in one run of the encoder."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageSet:
    """The images of a file, and what the bundle says of them with its own number of draws.

    Args:
        name: The file's name, and what it is labelled as where that makes it the other set.
        role: `data` and `other`, or `normal` and `not normal` by their labels.
        held_out: Whether the bundle was trained from the file, and these are of what nothing was fitted on.
        found: How many such images the file holds, n or more.
        images: (n, H, W, C) uint8, in random order.
        names: (n,) each image's file, or its row in the data (the first is 1).
        scores: (n,) float32 by score's name, higher = stranger.
    """

    name: str
    role: str
    held_out: bool
    found: int
    images: Levels
    names: tuple[str, ...]
    scores: Mapping[str, npt.NDArray[np.float32]]

    @property
    def calibrated(self) -> bool:
        """Whether the bundle was calibrated by these images: the normal ones of its file that it was not fitted on."""
        return self.held_out and self.role != _STRANGERS

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


def explore(
    bundle: Bundle,
    path: Path,
    other: Path | None,
    most: int,
    say: Say = lambda line: None,
    labels: DataConfig | None = None,
) -> Exploration:
    """Score images with a bundle.

    Of the file that the bundle was trained from only images that nothing was fitted on are taken: the normal ones of
    the calibration, and labelled anomalies.

    Args:
        bundle: A bundle of images.
        path: The images.
        other: Others, to compare them with. Without these it is the images that are labelled as anything but normal,
            if there are any.
        most: Images of each set that are scored; of more so many are drawn at random.
        say: Told, in a sentence, what is being done and what is left out.
        labels: Which images are normal; None: what the bundle was trained with, where the file has these labels.

    Raises:
        ConfigInvalid: The bundle is none of images, there is no such file, or it does not have the labels.
        DataInvalid: A file cannot be read, or holds other images than the bundle's, or none that it has not seen.
    """
    manifest = bundle.manifest
    if not isinstance(manifest.record, ImageSchema):
        raise ConfigInvalid(
            f"{bundle.name} is a model of tables, and explore shows models of images; the pictures of a table's model "
            f"stand in the bundle's folder, {bundle.name}/{bundle.version}/report.html"
        )
    found = _sets(bundle, path, other, most, labels, say)
    graphs, sets = _Graphs(bundle), []
    for part in found:
        unseen = ", which nothing was fitted on" if part.held_out else ""
        say(f"scoring {part.count} of {part.name}{unseen}")
        sets.append(replace(part, scores=graphs.scores(part.images)))
    deterministic = "elbo" not in {score.name for score in manifest.scores}
    return Exploration(
        name=bundle.name,
        version=bundle.version,
        manifest=manifest,
        image=manifest.record.field,
        encoder_decoder=encoder_decoder.of_graphs(
            manifest.record.field, graphs.encoder, graphs.decoder, deterministic=deterministic
        ),
        calibration=contents.calibration(bundle),
        kl=np.zeros(manifest.latent_size) if deterministic else _kl(graphs.encoder, sets[0].images),
        data=sets[0],
        other=sets[1] if len(sets) > 1 else None,
        explain=graphs.explain,
    )


class _Graphs:
    """The graphs of a bundle of images, run with its own number of draws."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.noise = contents.noise(bundle)[: bundle.manifest.samples]
        files = ("scorer.onnx", "encoder.onnx", "decoder.onnx", explanation.FILE_NAME)
        self.scorer, self.encoder, self.decoder, self.explainer = (runs.session(bundle.files[file]) for file in files)

    def scores(self, images: Levels) -> dict[str, npt.NDArray[np.float32]]:
        """(n,) by score's name, higher = stranger, of (n, H, W, C) images."""
        outputs = runs.score(self.scorer, {"image": images}, self.noise)
        return {each.name: np.float32(each.sign) * outputs[each.output] for each in self.manifest.scores}

    def explain(self, images: Levels) -> Explanations:
        """Why (n, H, W, C) images are strange."""
        record = {"image": images}
        return Explanations(self.manifest, record, runs.score(self.explainer, record, self.noise))


def _sets(
    bundle: Bundle, path: Path, other: Path | None, most: int, labels: DataConfig | None, say: Say
) -> list[ImageSet]:
    """The images, and the others to compare them with: those of another file, or those that are labelled as strange."""
    data, _ = labelled.read_records(bundle, path)
    wanted = labels or _known_labels(bundle, data, compared=other is not None)
    usual, strangers = split.by_label(data.table, wanted)
    if unlabelled := data.table.num_rows - usual.size - strangers.size:
        say(f"{wording.count(unlabelled, 'image')} of {data.name} without a label left out")
    if other is not None and strangers.size:
        say(f"{wording.count(strangers.size, 'image')} of {data.name} that are not {wanted.normal} left out")
    _, usual, strangers = labelled.unseen(bundle, data, usual, strangers)
    if other is not None:
        compared, _ = labelled.read_records(bundle, other)
        normal, _ = split.by_label(compared.table, _known_labels(bundle, compared, compared=True))
        _, unseen, _ = labelled.unseen(bundle, compared, normal, normal[:0])
        return [
            _drawn(bundle, data, usual, most, data.name, "data"),
            _drawn(bundle, compared, unseen, most, compared.name, "other"),
        ]
    if not strangers.size:
        return [_drawn(bundle, data, usual, most, data.name, "data")]
    return [
        _drawn(bundle, data, usual, most, data.name, "normal"),
        _drawn(bundle, data, strangers, most, f"{data.name}, not {wanted.normal}", _STRANGERS),
    ]


def _known_labels(bundle: Bundle, data: Data, *, compared: bool) -> DataConfig:
    """What the bundle's own configuration says of a file's labels.

    It holds for the file of the training. It holds for another file too, if that file has the labels and nothing else
    to compare its images with.
    """
    facts = bundle.manifest.training
    known = build(dict(facts.config)).data
    if data.sha256 == facts.data_sha256:
        return known
    if compared or known.normal is None:
        return DataConfig()
    try:
        split.by_label(data.table, known)
    except ConfigInvalid:
        return DataConfig()
    return known


def _drawn(bundle: Bundle, data: Data, rows: Rows, most: int, name: str, role: str) -> ImageSet:
    """Some of a file's rows, still without scores."""
    facts = bundle.manifest.training
    # In random order, because the first ones are shown, and a folder's stand in the order of their labels.
    chosen = np.random.default_rng(facts.seed).permutation(rows)[:most]
    images = schema.tensors(bundle.manifest.record, data, chosen)["image"].astype(np.uint8, copy=False)
    held_out = data.sha256 == facts.data_sha256
    return ImageSet(name, role, held_out, rows.size, images, naming.names(data, chosen), {})


def _kl(encoder: onnxruntime.InferenceSession, images: Levels) -> npt.NDArray[np.float64]:
    """(K,) mean KL(q(z|x) || p(z)) by latent dimension, in nats."""
    total = np.zeros(1)
    for piece in runs.pieces({"image": images}, _ENCODED):
        outputs = encoder.run(["latent_mean", "latent_log_variance"], piece)
        total = total + kl_by_dimension(Posterior(*map(torch.from_numpy, outputs))).double().sum(dim=0).numpy()
    return total / len(images)

"""The page that `surprisal explore` writes: a model of images and data seen through it, in pictures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from training.evaluation.measures import detection
from training.report import imagery, pictures, strangest, template, wording
from training.report.exploration import Exploration, ImageSet
from training.report.panel import Panel

STRANGEST = 12
"""Images of each data set that are shown as its strangest."""
_TEMPLATE = "album.html"
_DEFINITIONS = {
    "elbo": ("ELBO", "log p(x|z) less the KL, in nats: the higher, the likelier"),
    "expected_log_likelihood": ("expected_log_likelihood", "log p(x|z(x)), in nats: the higher, the better rebuilt"),
}


@dataclass(frozen=True)
class Odd:
    """One of the strangest images.

    Args:
        name: Its file, or its row.
        score: Its anomaly score.
        p_value: Among the calibration's images.
        flagged: Whether it is, at the bundle's false-alarm rate.
        picture: The image, the one expected, and the map.
    """

    name: str
    score: float
    p_value: float
    flagged: bool
    picture: Markup


def write(exploration: Exploration) -> bytes:
    """The page: one file that loads nothing else and runs nothing.

    Args:
        exploration: The model and the data; the same give the same bytes.
    """
    manifest, encoder_decoder, images = exploration.manifest, exploration.encoder_decoder, exploration.data.images
    sets = [each for each in (exploration.data, exploration.other) if each is not None]
    imagined = [] if encoder_decoder.deterministic else [imagery.samples(encoder_decoder, manifest.training.seed)]
    if len(images) > 1:
        imagined.append(imagery.interpolations(encoder_decoder, images))
    return template.render(
        _TEMPLATE,
        name=exploration.name,
        manifest=manifest,
        facts=_facts(exploration),
        deterministic=encoder_decoder.deterministic,
        explained=exploration.likelihood,
        compared=exploration.other is not None,
        reconstructions=[_reconstructions(exploration, each) for each in sets],
        imagined=imagined,
        traversals=[]
        if encoder_decoder.deterministic
        else [imagery.traversals(encoder_decoder, images[0], exploration.kl)],
        scores=_scores(exploration),
        strangest=[(wording.shown(each.name), len(each.images), _strangest(exploration, each)) for each in sets],
    )


def _facts(exploration: Exploration) -> dict[str, str]:
    manifest, field = exploration.manifest, exploration.image
    ((likelihood, meaning),) = manifest.likelihoods.items()
    facts = {"Data": _said_of(exploration, exploration.data)}
    if exploration.other is not None:
        facts["Other"] = _said_of(exploration, exploration.other)
    return facts | {
        "Model": f"version {exploration.version}, trained on {wording.shown(manifest.training.data)}",
        "Images": f"{field.width} wide, {field.height} high, {'grey' if field.channels == 1 else 'RGB'}",
        "Likelihood": f"{likelihood}: {meaning}",
        "Latent space": f"{manifest.latent_size} dimensions; seed {manifest.training.seed}",
        "Score that decides": f"{manifest.anomaly_score}, {manifest.samples} draws",
        "False-alarm rate": f"{manifest.false_alarm_rate:g}, so above "
        f"{wording.number(exploration.threshold(manifest.anomaly_score))}",
    }


def _said_of(exploration: Exploration, images: ImageSet) -> str:
    scores = images.scores[exploration.manifest.anomaly_score]
    flagged = float((scores > exploration.threshold(exploration.manifest.anomaly_score)).mean())
    which = " of the training file that nothing was fitted on" if images.held_out else ""
    return f"{wording.shown(images.name)}: {images.count}{which}, {wording.percent(flagged)} flagged"


def _reconstructions(exploration: Exploration, images: ImageSet) -> Panel:
    panel = imagery.reconstructions(exploration.encoder_decoder, images.images)
    shown = f"{min(imagery.SHOWN, len(images.images))} of {images.found:,} images. {panel.caption}"
    return Panel(wording.shown(images.name), shown, panel.picture)


def _scores(exploration: Exploration) -> list[Panel]:
    """The objective, and the score that decides."""
    manifest = exploration.manifest
    title, meaning = _DEFINITIONS[exploration.likelihood]
    deciding = manifest.score
    return [
        _histogram(exploration, "likelihood", exploration.likelihood, title, f"{meaning}.", "nats", -1),
        _histogram(
            exploration,
            "anomaly-score",
            deciding.name,
            f"Anomaly score: {deciding.name}",
            f"{deciding.definition}; the higher, the stranger.",
            deciding.unit,
            1,
        ),
    ]


def _histogram(exploration: Exploration, key: str, score: str, title: str, caption: str, unit: str, sign: int) -> Panel:
    data, other = exploration.data, exploration.other
    values = [sign * each.scores[score].astype(np.float64) for each in (data, other) if each is not None]
    caption += f" Mean {wording.number(float(values[0].mean()))} in {wording.shown(data.name)}"
    words = f"Distribution of {title}"
    if other is None:
        caption += "."
    else:
        words += " in both sets of images"
        auroc = detection(data.scores[score], other.scores[score])["auroc"]
        caption += f", {wording.number(float(values[1].mean()))} in {wording.shown(other.name)} (other). "
        caption += f"AUROC {auroc:.3f}"
        caption += ": below 0.5, so by this the other images look the more normal." if auroc < 0.5 else "."
    threshold = sign * exploration.threshold(score)
    compared = values[1] if other is not None else np.empty(0)
    return Panel(title, caption, pictures.measured(key, words, unit, values[0], compared, threshold, sign))


def _strangest(exploration: Exploration, images: ImageSet) -> list[Odd]:
    scores = images.scores[exploration.manifest.anomaly_score]
    chosen: npt.NDArray[np.int64] = strangest.order(scores)[:STRANGEST]
    p_values = exploration.p_values(scores[chosen])
    explanations = exploration.explain(images.images[chosen])
    return [
        Odd(
            wording.shown(images.names[index]),
            float(scores[index]),
            float(p_values[place]),
            bool(p_values[place] <= exploration.manifest.false_alarm_rate),
            imagery.explained(images.images[index], explanations, place),
        )
        for place, index in enumerate(chosen.tolist())
    ]

"""The page that `surprisal explore` writes: a model of images and data seen through it, in pictures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bundle.contents.scores import Score
from training.evaluation.measures import detection
from training.report import findings, formulas, imagery, meanings, pictures, strangest, template, wording
from training.report.exploration import Exploration, ImageSet
from training.report.panel import Panel

STRANGEST = 12
"""Images of each data set that are shown as its strangest."""
_TEMPLATE = "album.html"
_SURPRISAL = {
    "elbo": Markup(
        "The surprisal in nats. The ELBO is a bound on {}, where higher is more likely; \N{MINUS SIGN}ELBO is higher "
        "where an image is stranger."
    ).format(formulas.LOG_P_X),
    "expected_log_likelihood": Markup(
        "The surprisal in nats: {} with a minus. It is higher where the model rebuilds an image worse."
    ).format(formulas.LOG_LIKELIHOOD),
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
        explained=wording.score(exploration.likelihood),
        decides=wording.score(manifest.anomaly_score),
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
    sets = [each for each in (exploration.data, exploration.other) if each is not None]
    facts = {each.role.capitalize(): findings.flagged(exploration, each) for each in sets}
    return facts | {
        "Model": f"version {exploration.version}, trained on {wording.shown(manifest.training.data)}",
        "Images": f"{field.width} wide, {field.height} high, {'grey' if field.channels == 1 else 'RGB'}",
        "Likelihood": f"{likelihood}: {meaning}",
        "Latent space": f"{manifest.latent_size} dimensions; seed {manifest.training.seed}",
        "Score that decides": f"{wording.score(manifest.anomaly_score)}, {wording.count(manifest.samples, 'draw')}",
        "False-alarm rate": f"{wording.rate(manifest.false_alarm_rate)}: scores above "
        f"{wording.number(exploration.threshold(manifest.anomaly_score))} are flagged",
    }


def _reconstructions(exploration: Exploration, images: ImageSet) -> Panel:
    panel = imagery.reconstructions(exploration.encoder_decoder, images.images)
    shown = f"{min(imagery.SHOWN, len(images.images))} of {images.found:,} images. {panel.caption}"
    return Panel(wording.shown(images.name), shown, panel.picture)


def _scores(exploration: Exploration) -> list[Panel]:
    """The surprisal, and the score that decides."""
    manifest = exploration.manifest
    surprisal = next(score for score in manifest.scores if score.name == exploration.likelihood)
    panels = [_histogram(exploration, surprisal, _SURPRISAL[exploration.likelihood])]
    if manifest.score != surprisal:
        means = meanings.meaning(manifest.anomaly_score, of_image=True)
        formula = formulas.definition(manifest.score.definition)
        said = Markup('The model\'s anomaly score. {} <span class="formula">{}.</span>').format(means, formula)
        panels.append(_histogram(exploration, manifest.score, said))
    return panels


def _histogram(exploration: Exploration, score: Score, caption: str) -> Panel:
    title = wording.score(score.name)
    sets = [each for each in (exploration.data, exploration.other) if each is not None]
    groups = {each.role: each.scores[score.name] for each in sets}
    means = (f"{wording.number(float(each.scores[score.name].mean(dtype=np.float64)))} ({each.role})" for each in sets)
    caption += f" Mean {', '.join(means)}."
    if exploration.other is not None:
        auroc = detection(exploration.data.scores[score.name], exploration.other.scores[score.name])["auroc"]
        caption += f" AUROC {auroc:.3f}."
        if auroc < 0.5:
            caption += f" That is below 0.5: by this score the {exploration.other.role} images look more usual."
    words = f"Distribution of {title}" + (" in both sets of images" if exploration.other is not None else "")
    threshold = exploration.threshold(score.name)
    picture = pictures.score(f"score-{score.name}", words, f"{title} ({score.unit})", groups, threshold)
    return Panel(title, caption, picture)


def _strangest(exploration: Exploration, images: ImageSet) -> list[Odd]:
    scores = images.scores[exploration.manifest.anomaly_score]
    chosen: npt.NDArray[np.int64] = strangest.order(scores)[:STRANGEST]
    p_values = exploration.p_values(scores[chosen])
    explanations = exploration.explain(images.images[chosen])
    return [
        Odd(
            images.names[index],
            float(scores[index]),
            float(p_values[place]),
            bool(p_values[place] <= exploration.manifest.false_alarm_rate),
            imagery.explained(images.images[index], explanations, place),
        )
        for place, index in enumerate(chosen.tolist())
    ]

"""What `surprisal explore` finds, in sentences: how many images are flagged, and which scores tell two sets apart."""

from training.evaluation.measures import detection
from training.report import wording
from training.report.exploration import Exploration, ImageSet


def sentences(exploration: Exploration) -> list[str]:
    """A sentence on each set of images; with two sets, one on the AUROC of every score as well."""
    if exploration.other is None:
        return [flagged(exploration, exploration.data)]
    values = ", ".join(f"{name} {value:.3f}" for name, value in aurocs(exploration.data, exploration.other).items())
    return [
        flagged(exploration, exploration.data),
        flagged(exploration, exploration.other),
        f"AUROC against {wording.shown(exploration.other.name)}, where 0.5 is chance: {values}",
    ]


def flagged(exploration: Exploration, images: ImageSet) -> str:
    """How many images a set has, and which share of them the model flags."""
    manifest = exploration.manifest
    share = float((images.scores[manifest.anomaly_score] > exploration.threshold(manifest.anomaly_score)).mean())
    which = " of the training file that nothing was fitted on" if images.held_out else ""
    reserve = "; they set the threshold, so this says nothing of new images" if images.calibrated else ""
    said = f"{wording.percent(share)} flagged at a false-alarm rate of {wording.rate(manifest.false_alarm_rate)}"
    return f"{wording.shown(images.name)}: {images.count}{which}, {said}{reserve}"


def aurocs(images: ImageSet, others: ImageSet) -> dict[str, float]:
    """By score's name, how often one of the other images scores higher than one of the images."""
    return {name: detection(scores, others.scores[name])["auroc"] for name, scores in images.scores.items()}

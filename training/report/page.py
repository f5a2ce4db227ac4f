"""`report.html`: the sections of the page."""

from collections import Counter
from typing import Final

import numpy as np

from bundle.record.schema import ImageSchema, TableSchema
from reading.notes import by_note
from training import config, modality
from training.config import ObjectiveConfig
from training.evaluation.measures import detection
from training.image import encoder_decoder
from training.report import field_fit, imagery, latent, normal, pictures, strangest, template, verdict, wording
from training.report.evidence import Evidence
from training.report.false_alarms import Check, check
from training.report.panel import Panel

FILE_NAME: Final = "report.html"
_TEMPLATE = "page.html"
_VALIDATION, _LATER = "validation", "later half"


def write(evidence: Evidence, version: int) -> bytes:
    """The page: one file that loads nothing else and runs nothing.

    Args:
        evidence: What is said of the model; the same evidence gives the same bytes.
        version: The version that it becomes.
    """
    plane = latent.plane(evidence.held_out.latent_mean, evidence.anomalies.latent_mean)
    return template.render(
        _TEMPLATE,
        name=evidence.name,
        manifest=evidence.manifest,
        verdict=verdict.of(evidence, version),
        facts=_facts(evidence),
        anomalies=evidence.anomalies.rows.size,
        columns=_columns(evidence),
        curves=_curves(evidence),
        calibration=_calibration(evidence),
        scores=_scores(evidence),
        latent=_latent(evidence, plane),
        active=plane.active,
        **_of_records(evidence),
        fit_records=min(field_fit.RECORDS, evidence.held_out.rows.size),
        strangest=strangest.strangest(evidence),
        kl=strangest.KL,
        most_values=strangest.VALUES,
    )


def _of_records(evidence: Evidence) -> dict[str, object]:
    """The sections that a table alone or images alone have, and whether a record is explained field by field."""
    match evidence.manifest.record:
        case TableSchema():
            return {"usual": normal.usual_values(evidence), "fits": _fits(evidence), "gallery": [], "by_field": True}
        case ImageSchema():
            return {"usual": [], "fits": [], "gallery": _gallery(evidence), "by_field": False}


def _columns(evidence: Evidence) -> list[tuple[str, str]]:
    """How the file was read, what a person should know of its columns, and what is left out."""
    inferred = evidence.inferred
    read = [("The file", ", ".join(evidence.table.said))] if evidence.table.said else []
    noted = [(", ".join(map(wording.shown, names)), note) for note, names in by_note(inferred.notes).items()]
    left_out = [(wording.shown(name), f"{reason}; left out") for name, reason in inferred.left_out.items()]
    return [*read, *noted, *left_out, *(("Likely a mistake", each) for each in inferred.warnings)]


def _layers(evidence: Evidence) -> str:
    """What the encoder is made of; the decoder mirrors it."""
    network = config.build(dict(evidence.manifest.training.config)).network
    kind = network.kind or modality.of(evidence.manifest.record).usual_network
    widths = network.hidden if kind == "dense" else network.channels
    if not widths:
        return f"{kind}, without a hidden layer"
    return f"{kind}, {' and '.join(map(str, widths))} {'hidden units' if kind == 'dense' else 'channels'}"


def _facts(evidence: Evidence) -> dict[str, str]:
    manifest, facts = evidence.manifest, evidence.manifest.training
    kinds = Counter(field.kind for field in manifest.record.fields)
    return {
        "Data": f"{wording.shown(facts.data)}, SHA-256 {facts.data_sha256[:12]}…",
        "Rows": ", ".join(f"{count:,} {part}" for part, count in facts.rows.items() if count),
        "Label": _label(evidence),
        "Fields": ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()),
        "Network": f"{_layers(evidence)}, {manifest.latent_size} latent dimensions; seed {facts.seed}",
        "Trained on": facts.device,
        "Score that decides": f"{manifest.anomaly_score}, {manifest.samples} draws",
        "False-alarm rate": f"{manifest.false_alarm_rate:g}, so above {wording.number(_threshold(evidence))}",
        "Validation ELBO": f"{wording.number(facts.metrics['validation_elbo'])} nats a record",
        "Packages": ", ".join(f"{package} {version}" for package, version in facts.packages.items()),
    }


def _label(evidence: Evidence) -> str:
    data = config.build(dict(evidence.manifest.training.config)).data
    if data.label is None:
        return "none: every row counts as normal"
    normal = "whatever it says, a row counts as normal" if data.normal is None else f"normal: {data.normal}"
    return f"{wording.shown(data.label)} ({wording.shown(normal)})"


def _threshold(evidence: Evidence) -> float:
    return evidence.manifest.calibration.thresholds[str(evidence.manifest.samples)]


def _curves(evidence: Evidence) -> list[Panel]:
    history = evidence.history
    trained = [(epoch.log_likelihood, epoch.kl) for epoch in history]
    held_out = [(epoch.validation_elbo + epoch.validation_kl, epoch.validation_kl) for epoch in history]
    terms = (
        ("reconstruction", "Reconstruction", "log p(x|z), in nats a record: higher is better.", 1, 0),
        ("kl", "KL", "KL(q(z|x) || p(z)), in nats a record: what the latent knows of a record.", 0, 1),
        (
            "elbo",
            "ELBO",
            _said_of_elbo(ObjectiveConfig.model_validate(evidence.manifest.training.config["objective"])),
            1,
            -1,
        ),
    )
    panels = []
    for key, title, caption, likelihood, kl in terms:
        lines = {
            name: [likelihood * each[0] + kl * each[1] for each in values]
            for name, values in (("training", trained), ("validation", held_out))
        }
        words = f"{title} by epoch, of training and validation records"
        panels.append(Panel(title, caption, pictures.curve(f"curve-{key}", words, "nats a record", lines, history)))
    return panels


def _said_of_elbo(objective: ObjectiveConfig) -> str:
    if objective == ObjectiveConfig(draws=objective.draws, kl_warm_up=objective.kl_warm_up):
        return "Reconstruction less KL: what is maximised once the KL has its full weight."
    if objective.kind == "autoencoder":
        return "Reconstruction alone, which is what is maximised: an autoencoder has no KL."
    if objective.kind == "elbo":
        return "Reconstruction less KL; what is maximised weighs the two otherwise."
    return "Reconstruction less KL; what is maximised is a tighter bound, of several draws a record."


def _checks(evidence: Evidence) -> dict[str, Check]:
    held_out, score = evidence.held_out, evidence.score
    checks = {_VALIDATION: check(evidence.calibrating, evidence.validation.scores[score])}
    if held_out.rows.size > 1 and not evidence.cross_fitted:
        in_file_order = held_out.scores[score][np.argsort(held_out.rows)]
        earlier, later = np.array_split(in_file_order, 2)
        checks[_LATER] = check(earlier, later)
    return checks


def _calibration(evidence: Evidence) -> list[Panel]:
    checks = _checks(evidence)
    captions = {
        _VALIDATION: "Validation rows ({m:,}) against the {n:,} scores of the calibration. Those of validation "
        "stopped the training and scaled the scores: bars that rise to the right would say that the model was fitted "
        "to them.",
        _LATER: "Held-out rows further down the file ({m:,}) against those before them ({n:,}). Nothing was fitted "
        "on either: bars that are not flat would say that the data change along the file.",
    }
    titles = {_VALIDATION: "p-values of validation rows", _LATER: "p-values of later rows"}
    panels = [
        Panel(
            titles[name],
            captions[name].format(m=each.records, n=each.references),
            pictures.p_values(f"p-values-{name.split()[0]}", f"Histogram of {titles[name]}", each),
        )
        for name, each in checks.items()
    ]
    words = "The false-alarm rate found by the rate asked for"
    caption = (
        "A model that keeps its promise stays near the diagonal; 95% of such models stay within the bands, which are "
        "wide where there are few records."
    )
    rate = evidence.manifest.false_alarm_rate
    panels.append(Panel("False-alarm rate", caption, pictures.false_alarms("false-alarms", words, checks, rate)))
    return panels


def _detection(evidence: Evidence) -> dict[str, dict[str, float]]:
    """AUROC and average precision by score, of labelled anomalies against the held-out rows; empty without."""
    if not evidence.anomalies.rows.size:
        return {}
    usual, strange = evidence.held_out.scores, evidence.anomalies.scores
    return {name: detection(usual[name], strange[name]) for name in usual}


def _scores(evidence: Evidence) -> list[Panel]:
    """The score that decides, then the others."""
    manifest = evidence.manifest
    found = _detection(evidence)
    panels = []
    for each in sorted(manifest.scores, key=lambda score: score.name != manifest.anomaly_score):
        usual, strange = evidence.held_out.scores[each.name], evidence.anomalies.scores[each.name]
        threshold = evidence.threshold(each.name)
        low, high = pictures.score_range(usual, strange, threshold)
        every = np.concatenate([usual, strange])
        beyond = int(((every < low) | (every > high)).sum())
        caption = f"{each.definition}."
        if each.name in found:
            auroc, precision = found[each.name]["auroc"], found[each.name]["average_precision"]
            above = float((strange > threshold).mean())
            caption += f" AUROC {auroc:.3f}, average precision {precision:.3f}; {above:.0%} of anomalies flagged."
        if beyond:
            caption += f" The outermost bins count what lies further out ({beyond:,})."
        words = f"Distribution of {each.name} of normal records and anomalies"
        picture = pictures.score(f"score-{each.name}", words, each.unit, usual, strange, threshold)
        panels.append(Panel(each.name, caption, picture))
    return panels


def _latent(evidence: Evidence, plane: latent.Plane) -> list[Panel]:
    odd = strangest.order(evidence.held_out.scores[evidence.score])[: strangest.RECORDS]
    kl = evidence.kl.mean(axis=0)
    where = (
        "The latent means on their two principal components, with the share of their variance."
        if evidence.manifest.latent_size > 2
        else "The latent means themselves."
    )
    if plane.normal.shape[1] > 1:
        where += f" Numbers: the {odd.size} strangest normal records, as listed below."
    return [
        Panel("Latent means", where, pictures.latent("latent-means", "Latent means of held-out records", plane, odd)),
        Panel(
            "KL by dimension",
            f"Mean over held-out normal records; {wording.number(float(kl.sum()))} nats in all. Dimensions near zero "
            "are not used.",
            pictures.kl_by_dimension("latent-kl", "KL of each latent dimension in nats", kl),
        ),
    ]


def _gallery(evidence: Evidence) -> list[Panel]:
    images, seed = evidence.held_out.tensors["image"], evidence.manifest.training.seed
    # Some at random, because a folder's stand in the order of their labels.
    chosen = np.random.default_rng(seed).permutation(len(images))[: imagery.SHOWN]
    return imagery.panels(encoder_decoder.of_network(evidence.vae), images[chosen], evidence.kl.mean(axis=0), seed)


def _fits(evidence: Evidence) -> list[Panel]:
    panels = []
    for index, fit in enumerate(field_fit.field_fits(evidence)):
        name = wording.shown(fit.field.name)
        if fit.explained is None:
            caption = "does not vary in these records."
        else:
            caption = f"{wording.percent(fit.explained)} explained by the other fields."
        picture = pictures.field_fit(f"field-{index}", "Observed against expected values of a field", fit)
        panels.append(Panel(name, f"{fit.field.kind}; {caption}", picture))
    return panels

"""`report.html`: the sections of the page."""

from collections import Counter
from typing import Final

import numpy as np
from markupsafe import Markup

from bundle.record.schema import ImageSchema, TableSchema
from reading.notes import by_note
from training import config, modality
from training.config import ObjectiveConfig
from training.evaluation.measures import detection
from training.image import encoder_decoder
from training.report import (
    field_fit,
    formulas,
    imagery,
    latent,
    meanings,
    normal,
    pictures,
    strangest,
    template,
    verdict,
    wording,
)
from training.report.detectors import Detectors
from training.report.evidence import Evidence
from training.report.false_alarms import Check, check
from training.report.panel import Panel

FILE_NAME: Final = "report.html"
_TEMPLATE = "page.html"
_PARTS = {"left_out": "left out as likely anomalies"}
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
        detection=_detection_curves(evidence),
        scores=_scores(evidence),
        finds_more=_finds_more(evidence),
        latent=_latent(evidence, plane),
        active=plane.active,
        **_of_records(evidence),
        fit_records=min(field_fit.RECORDS, evidence.held_out.rows.size),
        strangest=strangest.strangest(evidence),
        kl=strangest.KL,
        explained=wording.score(evidence.manifest.explained),
        decides=wording.score(evidence.manifest.anomaly_score),
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
    left_out = [(wording.shown(name), f"Left out: {reason}.") for name, reason in inferred.left_out.items()]
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
        "Rows": ", ".join(f"{count:,} {_PARTS.get(part, part)}" for part, count in facts.rows.items() if count),
        "Label": _label(evidence),
        "Fields": ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()),
        "Network": f"{_layers(evidence)}, {manifest.latent_size} latent dimensions; seed {facts.seed}",
        "Trained on": facts.device,
        "Score that decides": f"{wording.score(manifest.anomaly_score)}, {wording.count(manifest.samples, 'draw')}",
        "False-alarm rate": f"{wording.rate(manifest.false_alarm_rate)}: scores above "
        f"{wording.number(_threshold(evidence))} are flagged",
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
    objective = ObjectiveConfig.model_validate(evidence.manifest.training.config["objective"])
    likelihood_is = Markup("The log-likelihood {} of records. Higher is better.").format(formulas.LOG_LIKELIHOOD)
    kl_is = Markup("{}: how much the latent says about a record.").format(formulas.KL)
    terms = (
        ("reconstruction", "Log-likelihood", likelihood_is, 1, 0),
        ("kl", "KL", kl_is, 0, 1),
        ("elbo", "ELBO", _said_of_elbo(objective), 1, -1),
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


def _said_of_elbo(objective: ObjectiveConfig) -> Markup:
    if objective.kind == "autoencoder":
        return Markup("An autoencoder has no KL. Training maximises the log-likelihood alone.")
    bound = Markup("Log-likelihood less KL: a bound on {}. Higher is more likely. ").format(formulas.LOG_P_X)
    if objective == ObjectiveConfig(draws=objective.draws, kl_warm_up=objective.kl_warm_up):
        return bound + "Training maximises it once the KL has its full weight."
    if objective.kind == "elbo":
        return bound + "Training maximises the same two terms with other weights."
    return bound + "Training maximises a tighter bound, of several draws a record."


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
        _VALIDATION: "Validation rows ({m:,}) against the {n:,} scores of the calibration. Validation rows stopped the "
        "training and scaled the scores. Bars that rise to the right beyond chance are a bad sign: these rows look "
        "more normal to the model than new ones. Train on more rows then.",
        _LATER: "Held-out rows further down the file ({m:,}) against those before them ({n:,}). The model has seen "
        "neither. Bars beyond the range of chance are a bad sign: the data change along the file. Train on recent rows "
        "then.",
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
        "A model that keeps its promise stays near the diagonal. 95% of such models stay within the bands. The bands "
        "are wide where there are few records."
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


def _detection_curves(evidence: Evidence) -> list[Panel]:
    """How well the scores tell labelled anomalies, as curves; none without."""
    if not evidence.anomalies.rows.size:
        return []
    usual, strange = evidence.held_out.scores, evidence.anomalies.scores
    scores = {name: (usual[name], strange[name]) for name in usual}
    rate = evidence.manifest.false_alarm_rate
    measured = Detectors(scores, evidence.score, frozenset(scores), evidence.threshold(evidence.score), rate)
    found, rows = measured.operating[0], usual[evidence.score].size
    few = f"The dotted line is the false-alarm rate that was asked for, {wording.rate(rate)}. The dot is the model's "
    few += f"threshold. It flags {round(found * rows):,} of these {rows:,} normal rows, {wording.percent(found)}: it "
    few += "stands on the line only by chance. "
    most = "The score that decides and the best others are in colour, the rest in grey."
    right = "The share of anomalies among the alarms depends on how many anomalies there are. This file has "
    right += f"{evidence.anomalies.rows.size:,} labelled anomalies "
    right += f"and {wording.count(usual[evidence.score].size, 'held-out normal row')}."
    return [
        Panel("Anomalies found", few + most, pictures.roc("roc", "Anomalies found by false alarms", measured)),
        Panel("Alarms that are right", right, pictures.precision("precision", "Precision by recall", measured)),
    ]


def _finds_more(evidence: Evidence) -> str | None:
    """The score that flags most of the labelled anomalies, where that is more than the one that decides flags."""
    strange = evidence.anomalies.scores
    flagged = {name: int((strange[name] > evidence.threshold(name)).sum()) for name in strange}
    most = max(flagged, key=lambda name: flagged[name])
    return most if flagged[most] > flagged[evidence.score] else None


def _scores(evidence: Evidence) -> list[Panel]:
    """The score that decides, then the others."""
    manifest = evidence.manifest
    found, of_image = _detection(evidence), isinstance(manifest.record, ImageSchema)
    panels = []
    for each in sorted(manifest.scores, key=lambda score: score.name != manifest.anomaly_score):
        usual, strange = evidence.held_out.scores[each.name], evidence.anomalies.scores[each.name]
        threshold = evidence.threshold(each.name)
        low, high = pictures.score_range(usual, strange, threshold=threshold)
        every = np.concatenate([usual, strange])
        beyond = int(((every < low) | (every > high)).sum())
        title = wording.score(each.name)
        called = Markup("") if title == each.name else Markup(" It is called <code>{}</code>.").format(each.name)
        caption = Markup("{}{}").format(meanings.meaning(each.name, of_image=of_image), called)
        if each.name in found:
            auroc, precision = found[each.name]["auroc"], found[each.name]["average_precision"]
            above = float((strange > threshold).mean())
            caption += f" It flags {above:.0%} of the anomalies. AUROC {auroc:.3f}, average precision {precision:.3f}."
        if beyond:
            caption += f" The outermost bins hold {wording.count(beyond, 'record')} from further out."
        caption += Markup('<span class="formula">{}.</span>').format(formulas.definition(each.definition))
        words = f"Distribution of {title} of normal records and anomalies"
        groups = {"normal": usual, "anomalies": strange}
        picture = pictures.score(f"score-{each.name}", words, f"{title} ({each.unit})", groups, threshold)
        panels.append(Panel(title, caption, picture))
    return panels


def _latent(evidence: Evidence, plane: latent.Plane) -> list[Panel]:
    odd = strangest.order(evidence.held_out.scores[evidence.score])[: strangest.RECORDS]
    kl = evidence.kl.mean(axis=0)
    where = (
        "The latent means on their two principal components. Each axis says its share of the variance."
        if evidence.manifest.latent_size > 2
        else "The latent means themselves."
    )
    if plane.normal.shape[1] > 1:
        where += f" The numbers mark the {odd.size} strangest normal records, which the last section lists."
    return [
        Panel("Latent means", where, pictures.latent("latent-means", "Latent means of held-out records", plane, odd)),
        Panel(
            "KL by dimension",
            f"Mean over held-out normal records, {wording.number(float(kl.sum()))} nats in all. The model does not use "
            "dimensions near zero.",
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
            caption = "It does not vary in these records."
        else:
            caption = f"The other fields explain {wording.percent(fit.explained)}."
        picture = pictures.field_fit(f"field-{index}", "Observed against expected values of a field", fit)
        panels.append(Panel(name, f"{fit.field.kind.capitalize()}. {caption}", picture))
    return panels

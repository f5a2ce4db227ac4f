"""What stands in `report.html`, compared with what it was made from; and that it is one safe, still file."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bundle.contents.scores import IMAGE_SCORES, TABLE_SCORES
from bundle.folder import store
from tests.training.report.conftest import HOSTILE, TINY, gather
from training.evaluation.measures import detection
from training.pipeline import Trained
from training.report import meanings, page, strangest, verdict
from training.report.evidence import Evidence
from training.report.strangest import KL

ONE = {"network": {"hidden": (4,), "latent_size": 1}, "fit": {"epochs": 1}}
random = np.random.default_rng(0)
ODD: dict[str, tuple[pa.Table, dict[str, Any]]] = {
    "a handful of rows": (pa.table({"x": random.normal(size=20)}), ONE | {"scoring": {"false_alarm_rate": 0.5}}),
    "one number": (pa.table({"x": random.normal(size=300)}), ONE),
    "booleans": (pa.table({f"b{index}": random.random(300) < 0.3 for index in range(3)}), TINY),
    "one category": (pa.table({"c": random.choice(["a", "b", "c"], 300)}), ONE),
    "hardly anything varies": (pa.table({"x": [7.0] * 399 + [8.0], "y": [None, *[2.0] * 399]}), TINY),
    "another score": (
        pa.table({"x": random.normal(size=300), "y": random.normal(size=300)}),
        TINY | {"scoring": {"anomaly_score": "elbo", "samples": 4}},
    ),
}


class Reader(HTMLParser):
    """The page's elements, and its text without styles and pictures."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.within: list[str] = []
        self.feed(content.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.within.pop() == tag, "every element is closed where it should be"

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.within):
            self.words.append(data)


def assert_sound(content: bytes) -> Reader:
    """One file that runs nothing and asks for nothing, whose ids are its own and whose colours are the page's."""
    reader = Reader(content)
    assert reader.within == []
    assert not {"script", "img", "iframe", "object", "embed", "form"} & {tag for tag, _ in reader.elements}
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("href", "src", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target == "data:," or target[1:] in ids, target
        for reference in re.findall(r"url\(#([^)]+)\)", str(attributes)):
            assert reference in ids
        if tag == "svg":
            assert attributes["aria-labelledby"] in ids
        assert "#" not in str(attributes.get("style")), "a colour that is not the page's"
    assert b"default-src 'none'" in content
    assert not re.search(r"\b(nan|inf|None)\b", reader.text), re.search(r".{40}\b(nan|inf|None)\b", reader.text)
    assert content.count(b"<h2") == 7 + content.count(b'id="columns"')
    return reader


@pytest.mark.parametrize("case", ODD)
def test_odd_tables_have_a_report_too(case: str) -> None:
    evidence = gather(*ODD[case])
    reader = assert_sound(page.write(evidence, 1))
    assert "no labelled anomalies" in reader.text
    pictures = sum(tag == "svg" for tag, _ in reader.elements)
    checks = 3 if evidence.held_out.rows.size > 1 else 2
    assert pictures == 3 + checks + 7 + 2 + len(evidence.manifest.record.fields)


def test_markup_and_mathematics_in_the_data_stay_text(hostile: Evidence) -> None:
    content = page.write(hostile, 1)
    reader = assert_sound(content)
    assert HOSTILE in reader.text
    assert "$\\frac{1}{2}" in reader.text
    assert "日本語\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in reader.text
    assert b"x" * 60 not in content
    assert b"\x1f" not in content
    assert b"\x0b" not in content


def test_the_same_evidence_gives_the_same_bytes(mixed: Evidence) -> None:
    assert page.write(mixed, 1) == page.write(mixed, 1)


def test_it_opens_with_the_verdict_and_says_whose_rows_it_holds(mixed: Evidence) -> None:
    content = page.write(mixed, 4)
    text = assert_sound(content).text
    said = verdict.of(mixed, 4)
    places = [text.index(words) for words in (*said.origin, said.claim, *said.grounds, "Data table")]
    assert places == sorted(places)
    assert "This report contains rows of your data. Treat it as confidential." in text
    # Curves stand beside the scores where there is something to be found; a bound has its sign.
    assert content.count(b'id="roc-title"') == content.count(b'id="precision-title"') == 1
    assert re.search("\N{MINUS SIGN}ELBO How surprising the record is: [^.]+[.] It is called elbo [.]", text)
    assert "so the tables explain another one, \N{MINUS SIGN}ELBO: they say which fields are unusual" in text
    assert "KL(q(z|x) || p(z))" not in text, "formulas are mathematics"


def test_figures_are_those_of_the_records(mixed: Evidence) -> None:
    text = assert_sound(page.write(mixed, 1)).text
    for name, usual in mixed.held_out.scores.items():
        found = detection(usual, mixed.anomalies.scores[name])
        assert f"AUROC {found['auroc']:.3f}, average precision {found['average_precision']:.3f}" in text
    assert f"{mixed.anomalies.rows.size} labelled anomalies" in text
    assert f"Validation rows ({mixed.validation.rows.size}) against the {mixed.held_out.rows.size} scores" in text
    height = mixed.training_column(mixed.manifest.record.fields[0])
    low, median, high = np.nanquantile(height, (0.05, 0.5, 0.95))
    assert f"height numeric x {median:.4g} {low:.4g} to {high:.4g} {np.isnan(height).mean():.0%}" in text


def test_another_score_that_finds_more_is_named_with_the_way_to_take_it(mixed: Evidence) -> None:
    strange, limits = mixed.anomalies.scores, {name: mixed.threshold(name) for name in mixed.anomalies.scores}
    none = {name: np.full_like(values, limits[name] - 1) for name, values in strange.items()}
    typical = none | {"typicality": np.full_like(strange["typicality"], limits["typicality"] + 1)}
    for scores, named in ((none, False), (typical, True)):
        found = replace(mixed, anomalies=replace(mixed.anomalies, scores=scores))
        text = Reader(page.write(found, 1)).text
        assert ("--score typicality of surprisal score asks for it" in text) is named
        assert ('anomaly_score = "typicality" under [scoring]' in text) is named


def test_every_score_is_said_in_plain_words_before_its_formula() -> None:
    for of_image, scores in ((False, TABLE_SCORES), (True, IMAGE_SCORES)):
        said = [meanings.meaning(each.name, of_image=of_image) for each in scores]
        assert len(set(said)) == len(scores)
        assert not [words for words in said if "(" in words]


def test_the_strangest_records_are_the_strangest_and_their_terms_add_up(mixed: Evidence) -> None:
    odd = strangest.strangest(mixed)
    scores = mixed.held_out.scores[mixed.score]
    assert [each.row - 1 for each in odd.normal] == mixed.held_out.rows[np.argsort(-scores)[:5]].tolist()
    first = odd.normal[0]
    assert first.score == scores.max()
    assert first.p_value == pytest.approx(2 / (scores.size + 1))
    assert (first.flagged, first.label) == (True, "")
    raw = mixed.table.table.slice(first.row - 1, 1).to_pylist()[0]
    assert dict(first.values)["colour"] == raw["colour"]
    # All five terms of four fields and the KL are listed.
    assert {term.name for term in first.terms} == {"height", "visits", "member", "colour", KL}
    elbo = mixed.held_out.scores["elbo"][int(scores.argmax())]
    assert sum(term.surprisal for term in first.terms) == pytest.approx(float(elbo), rel=1e-4)
    assert sum(term.share for term in first.terms) == pytest.approx(1.0)
    place = np.argsort(-scores)[:1]
    said = mixed.explanations({kind: values[place] for kind, values in mixed.held_out.tensors.items()})
    order = [mixed.manifest.record.fields[position].name for position in said.order[0]]
    assert [term.name for term in first.terms] == [*order, KL]
    caught = mixed.anomalies.scores[mixed.score]
    assert {each.label for each in odd.anomalies} == {"bad"}
    assert odd.anomalies[0].score == caught.max()
    assert odd.missed[0].score == caught.min()
    assert not any(each.flagged for each in odd.missed)


def test_a_bundle_holds_its_report_and_vouches_for_it(trained: Trained) -> None:
    bundle = store.load(trained.folder.parents[1], trained.name, trained.version)
    content = bundle.files["report.html"]
    assert len(content) < 1_500_000
    text = assert_sound(content).text
    metrics = bundle.manifest.training.metrics
    assert (
        f"AUROC {metrics['combined_auroc']:.3f}, average precision {metrics['combined_average_precision']:.3f}" in text
    )
    assert f"{bundle.manifest.training.rows['calibration']:,} calibration" in text
    assert f"version {trained.version} written {bundle.manifest.created[:10]}" in text


def test_hundreds_of_fields_are_not_hundreds_of_pictures() -> None:
    columns = {f"column_{index}": random.normal(size=300) for index in range(400)}
    evidence = gather(pa.table(columns), {"network": {"hidden": (8,), "latent_size": 3}, "fit": {"epochs": 1}})
    content = page.write(evidence, 1)
    reader = assert_sound(content)
    assert len(content) < 1_500_000
    assert "the 12 of 400 fields" in reader.text
    assert "(the first 60 of 400 fields)" in reader.text
    assert "column_399 numeric" in reader.text


def test_the_network_is_described_in_its_own_words(trained: Trained, trained_images: Trained) -> None:
    for each, words in (
        (trained, "dense, 32 hidden units, 5 latent dimensions"),
        (trained_images, "residual, 8 channels, 3 latent dimensions"),
    ):
        latent = each.manifest.latent_size
        text = Reader((each.folder / page.FILE_NAME).read_bytes()).text
        assert words.replace("5 latent", f"{latent} latent") in text

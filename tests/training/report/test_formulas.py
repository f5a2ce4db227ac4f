"""Formulas are mathematics in the page, and say what the definitions say."""

from xml.etree import ElementTree

import pytest

from bundle.contents.scores import IMAGE_SCORES, TABLE_SCORES
from bundle.record.fields import NumericField
from training.report import formulas

DEFINITIONS = sorted({score.definition for score in (*TABLE_SCORES, *IMAGE_SCORES)})
BARE = ("sum_l", "x_hat", "1.4826", "log2", "|mu|")


@pytest.mark.parametrize("text", DEFINITIONS)
def test_every_definition_is_set_as_mathematics(text: str) -> None:
    found = formulas.definition(text)
    root = ElementTree.fromstring(f"<p>{found}</p>")
    for mathematics in root.iter("math"):
        # The plain text is what the definition says, so that a change there is one here.
        assert mathematics.attrib["alttext"].replace("ELBO", "elbo") in text
        mathematics.clear()
    outside = "".join(root.itertext())
    assert not any(each in outside for each in BARE)


def test_no_definition_is_left_that_no_score_has() -> None:
    assert sorted(formulas.DEFINITIONS) == DEFINITIONS


def test_a_definition_of_another_release_stays_text() -> None:
    assert formulas.definition("-log p(x|z) <b>") == "-log p(x|z) &lt;b&gt;"


def test_a_logarithm_has_its_offset() -> None:
    field = NumericField(name="a", missing_rate=0.1, mean=0.0, scale=1.0, transform="log", offset=0.5)
    assert "".join(ElementTree.fromstring(formulas.transformed(field)).itertext()) == "log(x+0.5)"

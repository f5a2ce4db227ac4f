"""The report as a browser shows it: without complaints or requests, and within a phone's width."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle.folder import store
from tests.conftest import simulate_images
from tests.training.report import chromium
from tests.training.report.conftest import HOSTILE
from training.pipeline import Trained
from training.report import album, exploration, page
from training.report.evidence import Evidence

pytestmark = pytest.mark.browser

# Texts of pictures that reach over the edge of their card.
CLIPPED = """[...document.querySelectorAll("figure svg text")].filter(text => {
    const [inner, outer] = [text.getBoundingClientRect(), text.closest("figure").getBoundingClientRect()];
    return inner.width && (inner.left < outer.left || inner.right > outer.right || inner.top < outer.top);
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def tab() -> Iterator[chromium.Page]:
    program = chromium.installed()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.running(program) as tab:
        yield tab


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_without_complaint_and_fits(
    tab: chromium.Page, trained: Trained, width: int, scheme: str
) -> None:
    tab.open(trained.folder / "report.html", width, scheme)
    assert tab.complaints == []
    assert tab.requests == [(trained.folder / "report.html").as_uri()]
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("document.documentElement.clientWidth")
    assert tab.evaluate("document.compatMode") == "CSS1Compat"
    assert tab.evaluate("document.querySelectorAll('figure svg').length") >= 20
    assert tab.evaluate(CLIPPED) == []


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_exploration_opens_without_complaint_and_fits(
    tab: chromium.Page, trained_images: Trained, tmp_path: Path, width: int, scheme: str
) -> None:
    np.savez(tmp_path / "usual.npz", X=simulate_images(30, seed=5))
    np.savez(tmp_path / "strange.npz", X=simulate_images(30, seed=6, strange=True))
    bundle = store.load(trained_images.folder.parents[1], trained_images.name, trained_images.version)
    found = exploration.explore(bundle, tmp_path / "usual.npz", tmp_path / "strange.npz", 30)
    for name, content in (("explored.html", album.write(found)), ("report.html", bundle.files["report.html"])):
        path = tmp_path / name
        path.write_bytes(content)
        tab.open(path, width, scheme)
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith("data:image/png")] == [path.as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert tab.evaluate("document.images.length") > 5
        assert tab.evaluate(CLIPPED) == []


def test_the_browser_would_say_so(tab: chromium.Page, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<!doctype html><script>oops()</script><img src="gone.png"><p style="width:2000px">wide')
    tab.open(path, 400, "light")
    assert any("oops" in str(complaint) for complaint in tab.complaints)
    assert len(tab.requests) == 2
    assert tab.evaluate("document.documentElement.scrollWidth") > 400


def test_pictures_take_the_colours_of_the_page(tab: chromium.Page, trained: Trained) -> None:
    found = {}
    for scheme in ("light", "dark"):
        tab.open(trained.folder / "report.html", 1280, scheme)
        page_colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        axis = tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--axis')").strip()
        assert ink == f"rgb({', '.join(str(int(axis[at : at + 2], 16)) for at in (1, 3, 5))})"
        found[scheme] = (page_colour, ink)
    assert found["light"][0] != found["dark"][0]
    assert found["light"][1] != found["dark"][1]


def test_markup_in_the_data_stays_text(tab: chromium.Page, hostile: Evidence, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(page.write(hostile, 1))
    tab.open(path, 400, "light")
    assert tab.complaints == []
    assert tab.requests == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert tab.evaluate("document.querySelectorAll('script, img, iframe, object, [onerror]').length") == 0
    assert HOSTILE in tab.evaluate("document.querySelector('#normal').innerText")
    assert HOSTILE in tab.evaluate("document.querySelector('.record .label').innerText")

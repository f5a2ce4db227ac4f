"""From a matplotlib figure to an SVG that stands in a page: its colours are the page's, and so is its font."""

import io
import re
from contextlib import AbstractContextManager
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from training.report.figures import COLOURS, INK, STYLE

WIDTH, HEIGHT = 4.2, 2.9
"""Inches, of every picture: at this size its text is as large as the page's small print."""
VARIABLES = {INK: "var(--axis)"} | {colour: f"var(--series-{index})" for index, colour in enumerate(COLOURS)}
"""The page's CSS variable for each colour that pictures are drawn in; it differs in light and in dark."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile("|".join(VARIABLES))
_DIGITS = re.compile(r"(\.\d\d)\d+")
_FONT = re.compile(r"font-family:[^;]*;?|font: ([\d.]+px)[^;]*")
_REFERENCE = re.compile(r"#([\w-]+)")
_NUMBERS = ("d", "x", "y", "width", "height", "transform", "points", "viewBox", "x1", "x2", "y1", "y2")


def style() -> AbstractContextManager[None]:
    """A context in which figures are drawn for the report."""
    # Our own words alone are drawn, and none of them is mathematics.
    return mpl.rc_context({**STYLE, "font.size": 9.5, "text.parse_math": False})


def inline(figure: Figure, key: str, title: str) -> Markup:
    """A figure as an `<svg>` element.

    Args:
        figure: Drawn within `style()`.
        key: Distinguishes its ids from those of other pictures in the page.
        title: What a screen reader says of it.
    """
    buffer = io.BytesIO()
    # Not `savefig`, which draws everything twice to find a size that is given here.
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    _rename(root, key)
    for element in root.iter():
        _restyle(element)
    for element in root.iter():
        _share_style(element)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-title")
    heading = ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{key}-title"})
    heading.text = title
    root.insert(0, heading)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _rename(root: ElementTree.Element, key: str) -> None:
    """Drop ids that nothing refers to, and keep the others apart from those of other pictures."""
    used = set()
    for element in root.iter():
        used |= {name for value in element.attrib.values() for name in _REFERENCE.findall(value)}
    for element in root.iter():
        if "id" in element.attrib and element.attrib["id"] not in used:
            del element.attrib["id"]
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, f"{key}-{value}")
            elif name == _XLINK:
                del element.attrib[name]
                element.set("href", f"#{key}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{key}-"))


def _restyle(element: ElementTree.Element) -> None:
    for name in _NUMBERS:
        if name in element.attrib:
            element.set(name, _DIGITS.sub(r"\1", element.attrib[name]))
    if "style" in element.attrib:
        coloured = _COLOUR.sub(lambda found: VARIABLES[found[0]], element.attrib["style"])
        plain = _FONT.sub(lambda found: f"font-size: {found[1]}" if found[1] else "", coloured)
        element.set("style", plain.strip("; "))


def _share_style(group: ElementTree.Element) -> None:
    """Hundreds of points of one kind need not say of what kind each."""
    points = [child for child in group if child.tag == f"{{{_SVG}}}use"]
    styles = {point.attrib.get("style") for point in points}
    if len(points) > 1 and len(points) == len(group) and len(styles) == 1 and "style" not in group.attrib:
        group.set("style", styles.pop() or "")
        for point in points:
            point.attrib.pop("style", None)

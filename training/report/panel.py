"""A picture with its words, as the pages show it."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Panel:
    """A picture with its words.

    Args:
        title: A few words.
        caption: What is to be seen.
        picture: The `<svg>`, the `<img>`, or a list of these.
    """

    title: str
    caption: str
    picture: Markup

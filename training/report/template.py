"""The pages' Jinja2 templates, in which every text is escaped."""

from pathlib import Path

import jinja2

from training.report import wording


def render(template: str, **values: object) -> bytes:
    """A page: one file that loads nothing else and runs nothing.

    Args:
        template: Name of a file beside this one.
        values: What it speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": wording.number, "nats": wording.nats, "percent": wording.percent}
    environment.filters["rate"] = wording.rate
    return environment.get_template(template).render(values).encode()

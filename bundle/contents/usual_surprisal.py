"""What is usual of the terms of an explanation, as the manifest keeps it."""

from pydantic import Field

from bundle.record.fields import Frozen


class UsualSurprisal(Frozen):
    """Medians over held-out normal records, in nats, with the bundle's own number of draws.

    Args:
        fields: Of each field's surprisal, in the schema's order.
        kl: Of KL(q(z|x) || p(z)).
        conditional: Of each field's surprisal given all others.
        deviations: Of each numeric field, in their order: within so many of the expected standard deviations lie
            `explanation.COVERAGE` of the values. The network's own are too small: it does not know what was filled in
            from what was given.
        pixels: Of an image, the nats of one pixel that are shown as black and as white: the median, and what few
            pixels exceed.
    """

    fields: tuple[float, ...] = Field(min_length=1)
    kl: float
    conditional: tuple[float, ...]
    deviations: tuple[float, ...]
    pixels: tuple[float, float] | None = None

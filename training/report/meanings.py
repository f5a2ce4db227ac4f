"""What each anomaly score measures, in a plain sentence for whoever does not read formulas."""

from typing import Final

from bundle.contents.scores import AnomalyScore

_OF_ANY: Final[dict[AnomalyScore, str]] = {
    "combined": "How strange the record is beside its nearest normal records, which counts twice, and to the network.",
    "neighbours": "How far the record lies from the nearest of some normal records.",
    "typicality": "How unusual it is, all in all, what the network does with the record.",
    "texture": "How unusual the image is from point to point, in fine detail and in coarse.",
    "complexity": "How surprising the image is to the network, beyond what a complicated image has to be.",
    "elbo": "How surprising the record is: how badly the network rebuilds it, and how unusual its latent place is.",
    "iwae": "The same surprise as \N{MINUS SIGN}ELBO, measured more closely: attempts that fit count more.",
    "reconstruction": "How badly the network rebuilds the record; its best attempt counts most.",
    "expected_log_likelihood": "How badly the network rebuilds the record, on average over its attempts.",
}
_OF_IMAGES: Final[dict[AnomalyScore, str]] = {"combined": "The mean of the scores complexity, typicality and texture."}


def meaning(score: AnomalyScore, *, of_image: bool) -> str:
    """What a score measures.

    Args:
        score: Its name.
        of_image: Whether records are images, of which some scores are made of other parts.
    """
    return _OF_IMAGES.get(score, _OF_ANY[score]) if of_image else _OF_ANY[score]

"""What is asked of records: how many draws, which score decides, how many normal ones may be flagged, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from bundle.contents.calibration import SMALLEST_RATE, least_rate, records_needed
from bundle.contents.manifest import Manifest
from service.errors import Fault, RequestInvalid, pointer

MEMBERS = ("samples", "score", "false_alarm_rate", "explain")


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Args:
        samples: Number of draws, L.
        score: Name of the score that becomes `anomaly_score`.
        false_alarm_rate: Records with a p-value of at most this are anomalies.
        explain: Whether it is also asked which fields make them strange.
    """

    samples: int
    score: str
    false_alarm_rate: float
    explain: bool = False

    @classmethod
    def usual(cls, manifest: Manifest) -> "Question":
        """The one that a bundle answers unless another is asked."""
        return cls(manifest.samples, manifest.anomaly_score, manifest.false_alarm_rate)

    def changed(
        self, given: Mapping[str, Any], manifest: Manifest, within: tuple[str, ...] = ()
    ) -> tuple["Question", list[Fault]]:
        """The question as a request words it.

        Args:
            given: Members of the request; those of `MEMBERS` that are left out stay as they are.
            manifest: Of the model that is asked.
            within: Where they stand in the body.

        Returns:
            The question, and what is wrong with it.
        """
        if given.keys().isdisjoint(MEMBERS):
            return self, []
        faults = []
        samples, score = given.get("samples", self.samples), given.get("score", self.score)
        rate = given.get("false_alarm_rate", self.false_alarm_rate)
        if type(samples) is not int or samples not in manifest.sample_counts:
            counts = ", ".join(map(str, manifest.sample_counts))
            faults.append(Fault(pointer(*within, "samples"), f"one of {counts} is expected"))
        names = [each.name for each in manifest.scores]
        if score not in names:
            faults.append(Fault(pointer(*within, "score"), f"one of {', '.join(names)} is expected"))
        if type(rate) not in (int, float) or not SMALLEST_RATE <= rate < 1:
            detail = f"a share of normal records is expected, from {SMALLEST_RATE:f} up and below 1"
            faults.append(Fault(pointer(*within, "false_alarm_rate"), detail))
        elif records_needed(rate) > manifest.calibration.records:
            detail = (
                f"so low a rate takes {records_needed(rate)} calibration records; this bundle has "
                f"{manifest.calibration.records}, so {least_rate(manifest.calibration.records)} is the least"
            )
            faults.append(Fault(pointer(*within, "false_alarm_rate"), detail))
        explain = given.get("explain", self.explain)
        if not isinstance(explain, bool):
            faults.append(Fault(pointer(*within, "explain"), "true or false is expected"))
        elif explain and manifest.usual_surprisal is None:
            detail = "this bundle holds no explainer; train the model again to have one"
            faults.append(Fault(pointer(*within, "explain"), detail))
        return (self if faults else Question(samples, score, float(rate), explain)), faults

    def worded(self, query: bytes, manifest: Manifest) -> "Question":
        """The question as a query string words it.

        Args:
            query: As it stands in the request's head.
            manifest: Of the model that is asked.

        Raises:
            RequestInvalid: An unknown parameter, or a value that the bundle cannot answer.
        """
        if not query:
            return self
        texts = {name: values[-1] for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items()}
        unknown = [Fault("", f"the query string takes {', '.join(MEMBERS)} alone")] if set(texts) - set(MEMBERS) else []
        given: dict[str, Any] = {name: text for name, text in texts.items() if name in MEMBERS}
        if (samples := given.get("samples")) is not None:
            given["samples"] = int(samples) if samples in map(str, manifest.sample_counts) else None
        if "false_alarm_rate" in given:
            given["false_alarm_rate"] = _number(given["false_alarm_rate"])
        if "explain" in given:
            given["explain"] = {"true": True, "false": False}.get(given["explain"])
        question, faults = self.changed(given, manifest)
        if unknown or faults:
            named = [Fault("", f"{fault.pointer.removeprefix('/')}: {fault.detail}") for fault in faults]
            raise RequestInvalid([*unknown, *named])
        return question


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None  # Python groups digits, nobody else does
    except ValueError:
        return None

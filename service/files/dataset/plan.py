"""What a run was asked for and of which files: kept in OUT, so that a rerun goes on with the same and nothing else."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from reading.errors import FileInvalid
from service.files.dataset.place import Entry, Place

FOLDER = "_surprisal"
"""Below OUT: what programs keep for themselves, which no reader of data sets takes for records."""
_DIGITS = 16
_RESULT = re.compile(r"\.\d{5,}-[0-9a-f]{16}\.parquet$")
"""What stands behind a file's name in that of its results; see `shard.Shard.target`."""
_NAMED = 5


class PlanDiffers(FileInvalid):
    """OUT holds the results of another question, another bundle or other files; says what differs and what to do."""


@dataclass(frozen=True)
class Plan:
    """What is asked, and of what.

    Args:
        model: Name, version and digest of the bundle.
        options: What decides the bytes of the results, by the name of its option.
        provider: Execution provider of ONNX Runtime.
        inputs: Size and time of change of each file, by its path below IN.
    """

    model: Mapping[str, str]
    options: Mapping[str, Any]
    provider: str
    inputs: Mapping[str, tuple[int, int]]

    @property
    def digest(self) -> str:
        """Of what is asked; the files do not count, because there may be more of them later."""
        said = json.dumps([dict(self.model), dict(self.options), self.provider], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]

    @property
    def path(self) -> str:
        """Where it stands, below OUT."""
        return f"{FOLDER}/plan-{self.digest}.json"

    def of(self, entries: tuple[Entry, ...]) -> "Plan":
        """The same question of some files."""
        return replace(self, inputs={each.path: (each.size, each.changed) for each in entries})


def settle(out: Place, plan: Plan) -> None:
    """Write the plan, or find the same one there: new files extend it.

    Two runs that differ and begin at once both end here, because each writes its plan before it looks for others.

    Files that have changed or are gone since are refused only where something of them is scored already.

    Raises:
        PlanDiffers: Another plan is there, or files that were scored have changed or are gone.
        OSError: OUT cannot be read or written.
    """
    for path in _plans(out):
        before = read(out, path)
        if path != plan.path:
            raise PlanDiffers(f"{out.shown}: {_difference(before, plan)}; name another OUT")
        _require_same_files(out, before, plan)
    out.publish(plan.path, json.dumps(asdict(plan), indent=1, sort_keys=True).encode())
    if others := [path for path in _plans(out) if path != plan.path]:
        raise PlanDiffers(f"{out.shown}: {_difference(read(out, others[0]), plan)}; name another OUT")


def _plans(out: Place) -> list[str]:
    kept = [f"{FOLDER}/{each.path}" for each in _below(out)]
    return [path for path in kept if path.startswith(f"{FOLDER}/plan-")]


def _below(out: Place) -> list[Entry]:
    start = len(FOLDER) + 1
    return [each._replace(path=each.path[start:]) for each in out.entries(FOLDER)]


def read(out: Place, path: str) -> Plan:
    """A plan that is kept.

    Args:
        out: OUT.
        path: Where it stands, below OUT.

    Raises:
        PlanDiffers: It is no plan.
        OSError: It cannot be read.
    """
    try:
        found = json.loads(out.read(path))
        inputs = {name: (int(size), int(changed)) for name, (size, changed) in found["inputs"].items()}
        return Plan(found["model"], found["options"], found["provider"], inputs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanDiffers(f"{out.named(path)}: is no plan of a run; name another OUT") from error


def _difference(before: Plan, plan: Plan) -> str:
    """What of another plan is not as it is asked now."""
    pairs = [(name, before.model.get(name), plan.model.get(name)) for name in ("name", "version", "digest")]
    names = sorted({*before.options, *plan.options})
    pairs += [(name, before.options.get(name), plan.options.get(name)) for name in names]
    pairs += [("provider", before.provider, plan.provider)]
    told = [f"{name} was {one!r} and is {other!r} now" for name, one, other in pairs if one != other]
    return f"holds the scores of another run: {'; '.join(told[:_NAMED])}"


def _require_same_files(out: Place, before: Plan, plan: Plan) -> None:
    scored = {_RESULT.sub("", each.path) for each in out.entries() if _RESULT.search(each.path)}
    gone = sorted(scored & (before.inputs.keys() - plan.inputs.keys()))
    both = scored & before.inputs.keys() & plan.inputs.keys()
    changed = sorted(path for path in both if before.inputs[path] != plan.inputs[path])
    told = [f"{path} is gone" for path in gone] + [f"{path} has changed" for path in changed]
    if told:
        more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
        raise PlanDiffers(
            f"{out.shown}: of the files that were scored into it {', '.join(told[:_NAMED])}{more}; name another "
            "OUT, or put the files back"
        )

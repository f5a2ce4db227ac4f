"""Opens a bundle: verified byte by byte, its graphs in sessions that score the golden records as at export."""

from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from bundle.contents import explanation, golden
from bundle.contents.golden import Golden
from bundle.errors import BundleError, BundleRefused, GoldenMismatch
from bundle.folder import contents, store
from bundle.folder.store import Bundle
from bundle.record.fields import Tensors
from bundle.record.schema import ImageSchema, TableSchema
from service.codecs.json import decode
from service.engine.device import DeviceUnavailable
from service.engine.graph import Graph
from service.engine.question import Question
from service.engine.run_guard import Watch
from service.errors import ServiceError
from service.models.explainer import decodes
from service.settings import Settings


def read(root: Path, name: str, version: int, settings: Settings) -> Bundle:
    """Verify a bundle byte by byte, and who signed it where the settings say who may; opens none of its graphs.

    Args:
        root: The models folder.
        name: The model's name.
        version: Its version.
        settings: Of the service.

    Raises:
        BundleError: The bundle is refused, with the file and the reason.
    """
    bundle = store.load(root, name, version)
    if settings.trusted_keys is not None:
        # Here, because workers that trust every version have no need of its eight megabytes.
        from service.models import signature

        signature.verify(root, bundle, signature.public_keys(settings.trusted_keys))
    return bundle


def open_scorer(bundle: Bundle, settings: Settings, watch: Watch | None = None) -> Graph:
    """A session on a bundle's graph that scores the golden records as at export; which also warms it up.

    Args:
        bundle: Verified.
        settings: Of the service.
        watch: How long the golden records may take; by default each run `load_seconds`. Afterwards there is no limit.

    Raises:
        BundleRefused: The graph cannot be loaded, or the golden records score differently.
        DeviceUnavailable: The device asked for cannot be had.
    """
    match bundle.manifest.record:
        case ImageSchema():
            # Runs of a thousand rows would fill the memory with images; smaller ones are as fast.
            cost = decodes(bundle.manifest)
        case TableSchema():
            cost = 1
    return _open_graph(bundle, settings, "scorer.onnx", cost, Golden.verify, watch)


def open_explainer(bundle: Bundle, settings: Settings, watch: Watch | None = None) -> Graph | None:
    """The same on the graph that explains; None where the bundle holds none.

    Raises:
        BundleRefused: The graph cannot be loaded, or the golden records are explained differently.
        DeviceUnavailable: The device asked for cannot be had.
    """
    if bundle.manifest.usual_surprisal is None:
        return None
    cost = decodes(bundle.manifest)
    return _open_graph(bundle, settings, explanation.FILE_NAME, cost, Golden.verify_explanations, watch)


def _open_graph(
    bundle: Bundle,
    settings: Settings,
    file: str,
    cost: int,
    verify: Callable[[Golden, Callable[[Sequence[object], int], Tensors]], None],
    watch: Watch | None,
) -> Graph:
    noise = contents.noise(bundle)
    replayed = contents.golden(bundle)

    def start(content: bytes) -> Graph:
        return Graph(
            content,
            noise,
            settings.device,
            threads=settings.threads,
            tf32=settings.tf32,
            gpu_memory_mb=settings.gpu_memory_mb,
            decodes=cost,
            watch=watch or Watch(settings.load_seconds, settings.load_seconds),
        )

    try:
        graph = contents.read(bundle, file, start)
    except (BundleRefused, DeviceUnavailable):
        raise
    except Exception as error:  # ONNX Runtime's errors have no base
        raise BundleRefused(file, f"cannot be read: {_one_line(error)}") from error

    def run(records: Sequence[object], samples: int) -> Tensors:
        body = orjson.dumps({"records": records, "samples": samples})
        usual = Question.usual(bundle.manifest)
        return graph.run(decode(body, bundle.manifest, len(records), usual).tensors, samples)

    try:
        verify(replayed, run)
    except ServiceError as error:
        raise GoldenMismatch(golden.FILE_NAME, f"does not fit the manifest's fields: {error}") from error
    except BundleError:
        raise
    except Exception as error:  # nor have those of a run
        raise BundleRefused(file, f"cannot score the golden records: {_one_line(error)}") from error
    graph.watch = None
    return graph


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

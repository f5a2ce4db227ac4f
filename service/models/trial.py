"""A new version is tried in a process of its own first: python -m service.models.trial MODELS NAME VERSION SECONDS.

What it does to that process, it does to no worker: memory and time are limited there, and a crash ends nothing else.
The process writes a JSON object a line: `step`, what it is about to do; then `digest`, that of the manifest whose files
all passed; or `refused`, or `memory`, the bytes that were not enough.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bundle.contents import calibration, explanation
from bundle.errors import BundleError
from bundle.folder import contents, store
from bundle.folder.store import Bundle
from service.models.address_space import ADDRESS_SPACE, allowance, out_of_memory
from service.models.opening import open_explainer, open_scorer
from service.settings import METRICS_FOLDER, Settings

_LONGEST_LINE = 2**16
_LONGEST_REASON = 2000
_FIRST_TO_GO = "1000"


class LimitExceeded(BundleError):
    """A version takes more time or memory to load than it may, or ends the process that tries it."""


def took_too_long(seconds: float, step: str) -> LimitExceeded:
    """The refusal of a version that is not loaded in time.

    Args:
        seconds: That it had.
        step: What it was at.
    """
    return LimitExceeded(f"took longer than {seconds:g} s to load, and was at {step}")


async def prove_in_time(root: Path, bundle: Bundle, seconds: float) -> None:
    """The same as `prove`, for no more seconds than these.

    Raises:
        BundleError: It could not be loaded, or not in time.
        OSError: No process could be started.
    """
    step = "its start"

    def begun(next_step: str) -> None:
        nonlocal step
        step = next_step

    try:
        async with asyncio.timeout(seconds):
            await prove(root, bundle, seconds, begun)
    except TimeoutError as error:
        raise took_too_long(seconds, step) from error


async def prove(root: Path, bundle: Bundle, seconds: float, begun: Callable[[str], None]) -> None:
    """Have a child load a version; return once it could.

    Whoever is cancelled while it waits has the child killed.

    Args:
        root: The models folder.
        bundle: The version, as it was read here.
        seconds: Of processor time that the child may take.
        begun: Told what the child is about to do.

    Raises:
        BundleError: It could not.
        OSError: No process could be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.models.trial",
        *(str(root.absolute()), bundle.name, str(bundle.version), str(seconds)),
        # Its end is how the child sees that this process is gone.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LONGEST_LINE,
        env={name: value for name, value in os.environ.items() if name != METRICS_FOLDER},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said: dict[str, Any] = {}
        async for line in process.stdout:
            said = orjson.loads(line)
            if "step" in said:
                begun(said["step"])
        code = await process.wait()
    except ValueError as error:
        raise LimitExceeded("the process that tried it said what cannot be read") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    _judge(said, code, bundle)


def _judge(said: dict[str, Any], code: int, bundle: Bundle) -> None:
    if said.get("digest") == bundle.manifest.digest:
        return
    if "digest" in said:
        raise BundleError("its files were changed while it was tried")
    if "refused" in said:
        raise BundleError(said["refused"])
    if "memory" in said:
        raise LimitExceeded(f"needs more than {said['memory'] // 2**20} MiB to load")
    step = said.get("step", "its start")
    if -code == signal.SIGXCPU:
        raise LimitExceeded(f"took too much processor time at {step}")
    if -code == signal.SIGKILL:
        raise LimitExceeded(f"was killed at {step}: it needs more memory than there is")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise LimitExceeded(f"ended the process that tried it, at {step}, with {how}")


def main() -> None:
    """Try a version."""
    root, name, version, seconds = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        # Where memory runs out, this process is to be killed rather than a worker.
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    _limit_processor(float(seconds))
    _say(step="reading its files")
    try:
        bundle = store.load(Path(root), name, int(version))
    except BundleError as error:
        _say(refused=str(error)[:_LONGEST_REASON])
        return
    more = allowance(bundle)
    try:
        with ADDRESS_SPACE.limited(more):
            _load(bundle)
    except (BundleError, MemoryError) as error:
        if out_of_memory(error):
            _say(memory=more)
        else:
            _say(refused=str(error)[:_LONGEST_REASON])
    else:
        _say(digest=bundle.manifest.digest)


def _load(bundle: Bundle) -> None:
    # Others score meanwhile; and what is limited is the graph, not the stacks of threads.
    settings = Settings(device="cpu", threads=1)
    _say(step=calibration.FILE_NAME)
    contents.calibration(bundle)
    _say(step="scorer.onnx")
    open_scorer(bundle, settings)
    _say(step=explanation.FILE_NAME)
    open_explainer(bundle, settings)


def _say(**what: object) -> None:
    os.write(1, orjson.dumps(what) + b"\n")


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _limit_processor(seconds: float) -> None:
    try:
        import resource
    except ImportError:  # no Unix, and no such limit
        return
    most = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()

"""Work on a thread that nobody waits for at the end: one that never comes back does not keep the process alive."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")
_PREFIX = "daemon-"


async def run(function: Callable[..., _Result], *arguments: object, name: str) -> _Result:
    """Call a function that may block, maybe for ever, on a thread of its own.

    Whoever is cancelled while it waits leaves the thread behind; what that gives is dropped.

    Args:
        function: What to call.
        arguments: Of the call.
        name: Of the thread, for whoever looks at a list of them.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def tell(say: Callable[[], None]) -> None:
        def unless_gone() -> None:
            if not outcome.done():
                say()

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(unless_gone)

    def work() -> None:
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            failure = error
            tell(lambda: outcome.set_exception(failure))
        else:
            tell(lambda: outcome.set_result(result))

    threading.Thread(target=work, name=_PREFIX + name, daemon=True).start()
    return await outcome


def left_behind() -> bool:
    """Whether such a thread still runs."""
    return any(thread.name.startswith(_PREFIX) for thread in threading.enumerate())

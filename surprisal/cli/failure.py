"""How a command ends when it cannot do what it was asked: one paragraph on standard error, no traceback."""

import sys
from typing import NoReturn

WORK_FAILED = 1
CALL_WRONG = 2
STOPPED = 130
"""By Ctrl-C: 128 and the number of the signal, as shells have it."""


class Failed(SystemExit):
    """The end of a process that has said why.

    Args:
        message: What it said.
        code: Its exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(code)
        self.message = message


def fail(message: object, code: int) -> NoReturn:
    """End the process.

    Args:
        message: What is wrong, where, and what to do.
        code: WORK_FAILED, CALL_WRONG or STOPPED.
    """
    print(f"surprisal: {message}", file=sys.stderr)
    raise Failed(str(message), code)


def needs_training(error: ImportError) -> NoReturn:
    """End the process, because what training needs is not installed."""
    fail(f"this needs {error.name}, which is not installed: pip install 'surprisal-vae[training]'", WORK_FAILED)

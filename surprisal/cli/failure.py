"""How a command ends when it cannot do what it was asked: one paragraph on standard error, no traceback."""

import sys
from typing import NoReturn

WORK_FAILED = 1
CALL_WRONG = 2
STOPPED = 130
"""By Ctrl-C: 128 and the number of the signal, as shells have it."""


def fail(message: object, code: int) -> NoReturn:
    """End the process.

    Args:
        message: What is wrong, where, and what to do.
        code: WORK_FAILED, CALL_WRONG or STOPPED.
    """
    print(f"surprisal: {message}", file=sys.stderr)
    raise SystemExit(code)


def needs_training(error: ImportError) -> NoReturn:
    """End the process, because what training needs is not installed."""
    fail(f"this needs {error.name}, which is not installed: pip install 'surprisal-vae[training]'", WORK_FAILED)

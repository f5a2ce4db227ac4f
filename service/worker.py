"""A worker of `service.supervisor`: python -m service.worker SOCKET READY LIFELINE COUNTS OPERATORS WORKER.

All but the last, its place among the others, are file descriptors; -1 is none.
"""

import os
import socket
import sys

from service import logs, server
from service.connections import Counts
from service.settings import Settings


def main() -> None:
    """Serve on an inherited socket until a signal, or the supervisor's end, ends it."""
    listening, ready, lifeline, counts, operators, worker = map(int, sys.argv[1:])
    settings = Settings()
    logs.configure(settings.log_level)

    def say_ready() -> None:
        os.write(ready, b"!")
        os.close(ready)

    asked = None if operators < 0 else socket.socket(fileno=operators)
    share = server.Share(socket.socket(fileno=listening), lifeline, Counts(counts), worker, asked, say_ready)
    server.serve(settings, share)


if __name__ == "__main__":
    main()

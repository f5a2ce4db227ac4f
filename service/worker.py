"""A worker of `service.supervisor`: python -m service.worker SOCKET READY LIFELINE (file descriptors)."""

import os
import socket
import sys

from service import logs, server
from service.settings import Settings


def main() -> None:
    """Serve on an inherited socket until a signal, or the supervisor's end, ends it."""
    listening, ready, lifeline = map(int, sys.argv[1:])
    settings = Settings()
    logs.configure(settings.log_level)

    def say_ready() -> None:
        os.write(ready, b"!")
        os.close(ready)

    server.serve(settings, socket.socket(fileno=listening), say_ready, lifeline)


if __name__ == "__main__":
    main()

"""A worker of the supervisor: python -m service.process.worker INHERITANCE, JSON of `service.process.inheritance`."""

from service.process import lean  # noqa: F401, I001 - before all that imports pyarrow

import json
import os
import socket
import sys

from service.front.shared_keys import SharedKeys
from service.models.quarantine import Quarantine
from service.process import server
from service.process.inheritance import Inheritance
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.worker_table import WorkerTable


def main() -> None:
    """Serve on inherited sockets until a signal, or the supervisor's end, ends it."""
    inherited = Inheritance(**json.loads(sys.argv[1]))
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, first=inherited.worker == 0)

    def say_ready() -> None:
        os.write(inherited.ready, b"!")
        os.close(inherited.ready)

    share = server.Share(
        sockets=[socket.socket(fileno=each) for each in inherited.sockets],
        operators=None if inherited.operators is None else socket.socket(fileno=inherited.operators),
        lifeline=inherited.lifeline,
        table=WorkerTable(inherited.table),
        worker=inherited.worker,
        keys=SharedKeys(inherited.keys),
        quarantine=Quarantine(inherited.quarantine),
        started=say_ready,
    )
    server.serve(settings, share)


if __name__ == "__main__":
    main()

"""What a worker has from its supervisor."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Inheritance:
    """File descriptors, and a place.

    Args:
        sockets: The sockets that all workers accept from.
        operators: The socket of the port for operators, or None.
        lifeline: Its end means SIGTERM.
        table: Of `service.telemetry.worker_table`.
        keys: Of `service.front.shared_keys`.
        quarantine: Of `service.models.quarantine`.
        ready: Where a byte says that connections are accepted.
        worker: This one's place among the workers.
    """

    sockets: list[int]
    operators: int | None
    lifeline: int
    table: int
    keys: int
    quarantine: int
    ready: int = -1
    worker: int = 0

    @property
    def files(self) -> tuple[int, ...]:
        """All of the file descriptors."""
        asked = [] if self.operators is None else [self.operators]
        return (*self.sockets, *asked, self.lifeline, self.table, self.keys, self.quarantine, self.ready)

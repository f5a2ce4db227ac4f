"""Nobody who believes itself connected is reset when a service ends."""

import socket
import sys

import pytest

from service.process.newcomers import hold_back


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops who asks for a connection")
def test_who_waits_is_accepted_and_who_comes_is_not_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address) as waiting:
            hold_back(listening)
            with socket.socket() as newcomer:
                newcomer.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    newcomer.connect(address)
            accepted, _ = listening.accept()
            with accepted:
                waiting.sendall(b"asked")
                assert accepted.recv(10) == b"asked"
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(address)

"""The end of a listening socket without a connection lost: nobody new begins one while those that wait are accepted."""

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
"""Of Linux; Python has no name for it."""
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A program of one instruction: of no packet keep a byte (BPF_RET | BPF_K, 0)."""


def hold_back(listening: socket.socket) -> None:
    """Have the system drop who asks for a new connection, without an answer.

    Who connects between the last accept and the close would believe itself connected, and be reset. Held back, it
    asks again a second later, by then in vain or at another service. Elsewhere than on Linux nothing is done. All who
    share the socket are held back from, so it is of use only where all of them end.

    Args:
        listening: A TCP socket that listens; connections that wait in it stay there.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HL", 1, ctypes.addressof(code))
    # Where the system takes no filter, the window of some microseconds stays.
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

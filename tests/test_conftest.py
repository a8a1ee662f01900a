from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_a_connection_to_another_machine_is_refused(connect):
    with socket.socket() as sock, pytest.raises(PermissionError, match="no network"):
        getattr(sock, connect)(("192.0.2.1", 80))  # an address reserved for documentation (RFC 5737)


def test_a_connection_on_this_machine_is_allowed():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())

"""Ports of the local stack."""

import socket
from contextlib import contextmanager

from airflow_zen.localstack.stack import free_port, reserve_ports


@contextmanager
def reserved_port():
    """Reserve a port without a listener, so that it is free for a caller that prefers it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_used_port():
    """A port on which a process listens is not returned; another one is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert free_port(taken) != taken


def test_preferred_port():
    """A preferred port that is free is returned, so that URLs stay the same."""
    with reserved_port() as port:
        assert free_port(port) == port


def test_reserved_port():
    """A port that one stack has reserved, without a listener yet, is not reserved by another."""
    with reserved_port() as wanted:
        with reserve_ports() as reserve, reserve_ports() as reserve_for_another:
            assert reserve(wanted) == wanted
            assert reserve_for_another(wanted) != wanted
        with reserve_ports() as reserve_later:
            assert reserve_later(wanted) == wanted

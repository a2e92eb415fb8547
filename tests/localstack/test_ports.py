"""Promises of `airflow_zen.localstack.ports`."""

import socket
from contextlib import contextmanager

from airflow_zen.localstack.ports import PortReservation, free_port


@contextmanager
def reserved_port():
    """Keep a port from being given to others; nobody listens on it, so it is free to whoever asks for this one."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_taken_port():
    """A port that somebody listens on is not given; another one is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert free_port(taken) != taken


def test_free_port_is_kept():
    """A wanted port that is free is given, so that addresses stay the same."""
    with reserved_port() as port:
        assert free_port(port) == port


def test_two_that_start_at_once_get_different_ports():
    """A port that one stack has chosen, and nobody listens on yet, is not chosen by another."""
    with reserved_port() as wanted:
        with PortReservation() as one, PortReservation() as two:
            assert one.reserve(wanted) == wanted
            assert two.reserve(wanted) != wanted
        with PortReservation() as later:
            assert later.reserve(wanted) == wanted

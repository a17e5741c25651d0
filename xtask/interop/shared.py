"""What the clients in Python share."""

import socket

_reserved = []


def free_port():
    """A port at which nobody listens, for as long as this process lives: nobody is given it by
    chance, and a program that is told of it can listen there."""
    reserved = socket.socket()
    # Linux gives the port of a socket that is bound and does not listen to nobody who asks for any
    # port, and to every server that names it, since they all set SO_REUSEADDR.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    return reserved.getsockname()[1]

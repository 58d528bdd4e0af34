"""Notes in the file `WATCHED_TRAFFIC` whatever a process of Python's, or one that it starts, tries to reach.

Python imports it by itself where its folder is in PYTHONPATH. uvloop asks the kernel without a word to audit hooks.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
"""Where in an event's arguments the other end is."""
_METHODS = (
    "create_connection",
    "create_datagram_endpoint",
    "getaddrinfo",
    "getnameinfo",
    "sock_connect",
    "sock_sendto",
)


def note(event: str, what: Any) -> None:
    with open(os.environ["WATCHED_TRAFFIC"], "a") as file:
        file.write(json.dumps([os.getpid(), event, repr(what)]) + "\n")


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and arguments[_EVENTS[event]] is not None:  # None: where it is connected to
        note(event, arguments[_EVENTS[event]])


def watched(name: str, method: Any) -> Any:
    @functools.wraps(method)
    def noted(self: Any, *arguments: Any, **named: Any) -> Any:
        note(f"uvloop.{name}", (arguments, named))
        return method(self, *arguments, **named)

    return noted


if "WATCHED_TRAFFIC" in os.environ:
    note("watched", sys.orig_argv)
    sys.addaudithook(audit)
    try:
        import uvloop
    except ImportError:
        pass
    else:
        for name in _METHODS:
            setattr(uvloop.Loop, name, watched(name, getattr(uvloop.Loop, name)))

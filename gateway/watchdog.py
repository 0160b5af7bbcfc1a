"""Telling systemd that we are up and alive: READY, WATCHDOG and STOPPING over the notify socket, if there is one."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send one message ("READY=1"); does nothing when not started by systemd. Never raises: who supervises us is not
    worth dying for."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.sendall(message.encode())
    except OSError:
        return

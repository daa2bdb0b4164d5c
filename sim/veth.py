"""A pair of virtual Ethernet interfaces: a cable between two raw sockets of this machine."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

from host.closing import Closing

_numbers = itertools.count()


class NoVeth(RuntimeError):
    """There can be no pair here; one line that says why."""


class VethPair(Closing):
    """Two interfaces, ``host`` and ``board``, up and without any protocol of the kernel's; gone with :meth:`close`. Raises :class:`NoVeth`."""

    def __init__(self) -> None:
        name = f"tg{os.getpid() % 1_000_000}n{next(_numbers)}"
        self.host, self.board = f"{name}a", f"{name}b"
        if shutil.which("ip") is None:
            raise NoVeth("no `ip` command for a veth pair: apt-get install iproute2")
        self._ip("link", "add", self.host, "type", "veth", "peer", "name", self.board)
        try:
            for end in (self.host, self.board):
                # IPv6 would send of itself.
                quiet = Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6")
                if quiet.exists():
                    quiet.write_text("1")
                self._ip("link", "set", end, "up")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove both."""
        self._ip("link", "del", self.host)

    def set_down(self, interface: str) -> None:
        """Take an interface down."""
        self._ip("link", "set", interface, "down")

    def _ip(self, *arguments: str) -> None:
        result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if result.returncode:
            raise NoVeth(f"ip {' '.join(arguments)}: {result.stderr.strip()}")

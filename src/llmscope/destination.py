"""Where this program may connect to: not to link-local addresses, at which clouds keep the credentials of a machine.

The check is made on the address that is connected to, after names were looked up: neither another spelling of the
address nor a name server that answers differently the second time gets around it.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

LINK_LOCAL = tuple(ipaddress.ip_network(text) for text in ("169.254.0.0/16", "fe80::/10"))
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle
    )
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


class ForbiddenAddress(OSError):
    """An address that nothing may be asked at unless the settings allow it."""

    def __init__(self, address: str) -> None:
        self.sentence = (
            f"{address} is a link-local or metadata address; allow_link_local would let it be asked"
        )
        super().__init__(errno.EACCES, self.sentence)


def is_forbidden(address: str) -> bool:
    """Whether the IP address is link-local or serves metadata, in IPv6 clothes too.

    >>> [is_forbidden(text) for text in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe")]
    [True, True, True]
    >>> [is_forbidden(text) for text in ("fe80::1%eth0", "127.0.0.1", "192.168.1.2", "fd00::1")]
    [True, False, False, False]
    """
    return any(
        ip in METADATA or any(ip.version == net.version and ip in net for net in LINK_LOCAL)
        for ip in _meant(ipaddress.ip_address(address.partition("%")[0]))
    )


def _meant(ip: IP) -> list[IP]:
    """The address, and the IPv4 address that it stands for."""
    meant: list[IP] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in NAT64 or ip in V4_COMPATIBLE):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            meant.append(inner)
    return meant


def checked_socket(info: AddressInfo) -> socket.socket:
    """A socket for that address. Raises ForbiddenAddress. To be the `socket_factory` of an aiohttp connector."""
    family, kind, protocol, _name, address = info
    if is_forbidden(str(address[0])):
        raise ForbiddenAddress(str(address[0]))
    return socket.socket(family, kind, protocol)


def socket_factory(allow_link_local: bool) -> Callable[[AddressInfo], socket.socket] | None:
    """What to give an aiohttp connector."""
    return None if allow_link_local else checked_socket


async def refuse_forbidden(host: str, port: int) -> None:
    """Look the name up and raise ForbiddenAddress if any of its addresses is forbidden; OSError if there is none.

    For answering early, when somebody enters an address. It does not replace the check when connecting.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for info in found:
        if is_forbidden(str(info[4][0])):
            raise ForbiddenAddress(str(info[4][0]))

"""How often a password may be tried: by one address, and by all of them together."""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PER_ADDRESS = 5  # tries at once; then one every 12 s
TOGETHER = 50  # tries at once of everybody; then about one a second
PER_MINUTE = 5.0
TOGETHER_PER_MINUTE = 50.0
MOST_ADDRESSES = 1_000  # that are remembered; whoever has more, meets the limit of all of them together


class TooManyAttempts(Exception):
    """Not tried: too many were, lately."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many attempts to log in; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Bucket:
    """Tries that are left, filled again as time passes."""

    left: float
    at_s: float

    def fill(self, now_s: float, most: float, per_minute: float) -> None:
        self.left = min(most, self.left + (now_s - self.at_s) * per_minute / 60.0)
        self.at_s = now_s


class Attempts:
    """Counts tries; its memory does not grow with the number of addresses.

    >>> attempts = Attempts(lambda: 0.0)
    >>> for _ in range(PER_ADDRESS):
    ...     attempts.begin("192.0.2.1")
    >>> attempts.begin("192.0.2.1")
    Traceback (most recent call last):
    llmscope.access.attempts.TooManyAttempts: too many attempts to log in; try again in 12 s
    >>> attempts.begin("192.0.2.2")
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._all = Bucket(TOGETHER, monotonic_s())
        self._by_network: OrderedDict[str, Bucket] = OrderedDict()  # the one that tried last is last

    def begin(self, address: str) -> None:
        """Count a try from that address, before it is made. Raises TooManyAttempts."""
        now_s = self._monotonic_s()
        network = network_of(address)
        mine = self._by_network.get(network) or Bucket(PER_ADDRESS, now_s)
        mine.fill(now_s, PER_ADDRESS, PER_MINUTE)
        self._all.fill(now_s, TOGETHER, TOGETHER_PER_MINUTE)
        for bucket, per_minute in ((mine, PER_MINUTE), (self._all, TOGETHER_PER_MINUTE)):
            if bucket.left < 1.0:
                raise TooManyAttempts(math.ceil((1.0 - bucket.left) * 60.0 / per_minute))
        mine.left -= 1.0
        self._all.left -= 1.0
        self._by_network[network] = mine
        self._by_network.move_to_end(network)
        while len(self._by_network) > MOST_ADDRESSES:
            self._by_network.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the tries of an address that knows the password."""
        self._by_network.pop(network_of(address), None)


def network_of(address: str) -> str:
    """The address, of IPv6 its /64: who has one address there has all of them.

    >>> network_of("192.0.2.1"), network_of("2001:db8::1") == network_of("2001:db8::ffff")
    ('192.0.2.1', True)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if ip.version == 6:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)

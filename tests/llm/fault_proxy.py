"""A TCP proxy that makes a network bad on demand: slow, cut, reset, silent."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass
class Faults:
    """What is wrong just now; change it while the proxy runs.

    `first_byte_ms` and `piece_ms` delay the first and every later piece that comes back; after
    `close_after_bytes` or `reset_after_bytes` of an answer the connection ends; `is_silent` never answers;
    `is_refusing` ends connections as they come.
    """

    first_byte_ms: float = 0.0
    piece_ms: float = 0.0
    close_after_bytes: int | None = None
    reset_after_bytes: int | None = None
    is_silent: bool = False
    is_refusing: bool = False


class FaultProxy:
    """Passes connections on to `port` of the loopback, with `faults`."""

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self.faults = Faults()
        self.port = 0
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.is_refusing:
            _reset(writer)
            return
        if self.faults.is_silent:
            while await reader.read(65536):
                pass
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        asking = asyncio.create_task(_copy(reader, up_writer))
        try:
            await self._answer(up_reader, writer)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            up_writer.close()
            with contextlib.suppress(OSError):
                await up_writer.wait_closed()

    async def _answer(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await up_reader.read(65536):
            faults = self.faults
            await asyncio.sleep((faults.piece_ms if passed else faults.first_byte_ms) / 1000.0)
            for limit, is_reset in ((faults.close_after_bytes, False), (faults.reset_after_bytes, True)):
                if limit is not None and passed + len(data) >= limit:
                    writer.write(data[: limit - passed])
                    await writer.drain()
                    if is_reset:
                        _reset(writer)
                    return
            writer.write(data)
            await writer.drain()
            passed += len(data)

    async def stop(self) -> None:
        """Wait for connections that are about to end, and end the others."""
        if self._open:
            _, waiting = await asyncio.wait(self._open, timeout=0.1)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # close at once with RST, dropping what is unsent
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def faulty(port: int) -> AsyncIterator[FaultProxy]:
    """A proxy before `port`, on a port of its own."""
    proxy = FaultProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()

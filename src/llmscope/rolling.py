"""Keeps the rollups up to the observations: every minute, and an old database in small steps at first."""

import asyncio
import logging
import time

from llmscope.store import Store

log = logging.getLogger(__name__)

EVERY_S = 60.0
LAST_STEPS = 5  # at a clean stop; what is left is rolled after the next start


class Roller:
    """Rolls what is stored, in a thread, one step at a time. Lives on one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._step: asyncio.Future[int] | None = None

    async def run(self) -> None:
        """Roll until cancelled; between steps it rests as long as a step took, so that others come first."""
        while True:
            begun = time.monotonic()
            if await self._roll():
                await asyncio.sleep(time.monotonic() - begun)
            else:
                await asyncio.sleep(EVERY_S)

    async def finish(self) -> None:
        """Roll what is stored by now, as far as it takes no long time; `run` must have ended."""
        if self._step is not None:  # one that was under way when `run` was cancelled
            await asyncio.wait([self._step])
        for _ in range(LAST_STEPS):
            if not await self._roll():
                return

    async def _roll(self) -> int:
        """One step; 0 when nothing was left, or it failed."""
        self._step = asyncio.ensure_future(asyncio.to_thread(self._store.rollups.roll))
        try:
            return await asyncio.shield(self._step)
        except Exception as error:
            log.error("rolling from row %s failed: %s", self._store.rollups.rolled_id, error)
            return 0

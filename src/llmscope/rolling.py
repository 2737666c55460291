"""Keeps the database in order: rolls, packs and gives up what is due, in small steps, every minute."""

import asyncio
import logging
import time
from collections.abc import Callable

from llmscope.store import Store
from llmscope.store.rollups import ROWS_PER_STEP

log = logging.getLogger(__name__)

EVERY_S = 60.0
LAST_STEPS = 5  # at a clean stop; what is left is rolled after the next start


class Roller:
    """Rolls what is stored, then packs and gives up, in a thread, one step at a time. Lives on one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._step: asyncio.Future[int] | None = None

    async def run(self) -> None:
        """Roll until cancelled; between steps it rests as long as a step took, so that others come first."""
        while True:
            begun = time.monotonic()
            rolled = await self._roll()
            if await self._keep() or rolled >= ROWS_PER_STEP:
                await asyncio.sleep(time.monotonic() - begun)
            else:  # what arrives meanwhile is rolled together: a slot is written once a minute, not for each row
                await asyncio.sleep(EVERY_S)

    async def finish(self) -> None:
        """Roll what is stored by now, as far as it takes no long time; `run` must have ended."""
        if self._step is not None:  # one that was under way when `run` was cancelled
            await asyncio.wait([self._step])
        for _ in range(LAST_STEPS):
            if not await self._roll():
                return

    async def _roll(self) -> int:
        """One step; how many rows, 0 when nothing was left, or it failed."""
        rollups = self._store.rollups
        return await self._do(rollups.roll, lambda: f"rolling from row {rollups.rolled_id}")

    async def _keep(self) -> int:
        """Pack or give up some; 0 when nothing was due, or it failed."""
        return await self._do(self._store.keeper.step, lambda: "packing and giving up old data")

    async def _do(self, step: Callable[[], int], what: Callable[[], str]) -> int:
        self._step = asyncio.ensure_future(asyncio.to_thread(step))
        try:
            return await asyncio.shield(self._step)
        except Exception as error:
            log.error("%s failed: %s", what(), error)
            return 0

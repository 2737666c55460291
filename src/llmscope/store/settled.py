"""Writing from a thread that waits until it is done."""

import concurrent.futures
import sqlite3
from collections.abc import Callable

Write = Callable[[Callable[[sqlite3.Connection], None], Callable[[Exception | None], None]], None]
"""Hands a function of the connection to the writer, which runs it in a transaction and tells what came of it."""


def write_now(write: Write, run: Callable[[sqlite3.Connection], None]) -> None:
    """Have `run` written, and wait. Raises what the writer could not do; never on the writer's own thread."""
    written: concurrent.futures.Future[None] = concurrent.futures.Future()

    def tell(error: Exception | None) -> None:
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)

    write(run, tell)
    written.result()

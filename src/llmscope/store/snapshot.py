"""The windows of all series in one file beside the database, so that a start need not read a day of rows one by one.

Only a copy: written at a clean stop, used when it fits the database, and otherwise left aside. What came after it is
read from the database.
"""

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmscope.store.window import MEASURED, Window

log = logging.getLogger(__name__)

FORMAT = 1


class Held(NamedTuple):
    """What a window holds, oldest first: ids and times of shape (n,), measured columns (n, len(MEASURED))."""

    ids: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    measured: npt.NDArray[np.float32]


class Snapshot(NamedTuple):
    """The windows by series, complete up to the row `last_id`, which was observed at `last_us`."""

    last_id: int
    last_us: int
    held: dict[int, Held]


def path_of(database: Path) -> Path:
    return database.with_name(database.name + "-windows.npz")


def save(path: Path, windows: Mapping[int, Window]) -> None:
    """Write the windows; a file that cannot be written is only a slower start."""
    columns: dict[str, npt.NDArray[np.generic]] = {}
    last = (0, 0)
    for series_id, window in windows.items():
        if len(window):
            columns[f"{series_id}.ids"] = window.ids
            columns[f"{series_id}.times"] = window.times_us
            columns[f"{series_id}.measured"] = window.measured
            last = max(last, (int(window.ids[-1]), int(window.times_us[-1])))
    if not columns:
        return
    columns["about"] = np.array([FORMAT, len(MEASURED), *last])
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)
        os.replace(new, path)
    except OSError as error:
        log.warning("cannot write %s (%s); the next start reads the windows from the database", path, error)
        new.unlink(missing_ok=True)


def load(path: Path) -> Snapshot | None:
    """What the file holds; None when there is none or it cannot be used."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            version, width, last_id, last_us = found["about"].tolist()
            if (version, width) != (FORMAT, len(MEASURED)):
                return None
            series_ids = [int(name.removesuffix(".ids")) for name in found.files if name.endswith(".ids")]
            held = {
                i: Held(found[f"{i}.ids"], found[f"{i}.times"], found[f"{i}.measured"]) for i in series_ids
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be used (%s); the windows are read from the database", path, error)
        return None
    return Snapshot(last_id, last_us, held)

"""CPU, memory and GPUs of the machine, or of the container that this process is confined to.

Sampled by a thread on its own clock: asking a busy GPU can take tens of milliseconds, which must not delay a
probe. What a machine does not tell is None, each field by itself.
"""

import contextlib
import importlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import psutil

log = logging.getLogger(__name__)

FIRST_CPU_AFTER_S = 0.2  # a CPU percentage needs a stretch of time: the first reading, at once, would say 0
NO_LIMIT_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63
CONTAINER_FILES = (".dockerenv", "run/.containerenv")
CONTAINER_WORDS = ("docker", "kubepods", "containerd", "libpod", "crio", "lxc")


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU, as `GET /api/system` shows it."""

    index: int
    name: str | None = None
    percent: float | None = None
    memory_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class HostLoad:
    """The load of one moment; percentages 0 to 100, of the container's limits where it has any."""

    cpu_percent: float | None = None
    memory_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_memory_percent: float | None = None
    gpus: tuple[GpuLoad, ...] = ()
    in_container: bool = False

    def document(self) -> dict[str, Any]:
        """For JSON: the fields of `GET /api/system` without time and host."""
        return asdict(self) | {"gpus": [asdict(gpu) for gpu in self.gpus]}


class GpuReader(Protocol):
    """A maker's GPUs."""

    def read(self) -> list[GpuLoad]: ...
    def close(self) -> None: ...


class HostSampler:
    """Reads the load every `interval_s` in a thread; `sample` answers at once with the newest.

    `root` stands for `/` (tests put files of a container under it); `gpus` are the readers to ask, by default
    NVIDIA's library and AMD's files. Use it as a context manager.
    """

    def __init__(
        self,
        interval_s: float = 1.0,
        root: Path = Path("/"),
        gpus: Sequence[GpuReader] | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._cgroup = find_cgroup(root)
        self._in_container = is_container(root)
        self._gpus = gpus if gpus is not None else (NvidiaGpus(), AmdGpus(root))
        self._cpu = CpuMeter(self._cgroup if self._in_container else None)
        self._load = HostLoad(in_container=self._in_container)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read once, which begins the first stretch of CPU time, and go on in the thread."""
        self._refresh()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for reader in self._gpus:
            reader.close()

    def __enter__(self) -> "HostSampler":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sample(self) -> HostLoad:
        """The newest reading; its CPU is None for the first moments."""
        return self._load

    def _run(self) -> None:
        wait_s = FIRST_CPU_AFTER_S
        while not self._stop.wait(wait_s):
            self._refresh()
            wait_s = self._interval_s

    def _refresh(self) -> None:
        try:
            self._load = self.read()
        except Exception:
            log.exception("reading the load of this machine failed")
            self._load = HostLoad(in_container=self._in_container)

    def read(self) -> HostLoad:
        """Read everything now; CPU is that of the stretch since the reading before."""
        used, total = self._memory()
        gpus = tuple(gpu for reader in self._gpus for gpu in reader.read())
        gpu_memory = [
            (gpu.memory_used_bytes, gpu.memory_total_bytes)
            for gpu in gpus
            if gpu.memory_used_bytes is not None and gpu.memory_total_bytes
        ]
        return HostLoad(
            cpu_percent=self._cpu.percent(),
            memory_percent=percent_of(used, total),
            memory_used_bytes=used,
            memory_total_bytes=total,
            gpu_percent=mean(gpu.percent for gpu in gpus if gpu.percent is not None),
            gpu_memory_percent=percent_of(sum(u for u, _ in gpu_memory), sum(t for _, t in gpu_memory)),
            gpus=gpus,
            in_container=self._in_container,
        )

    def _memory(self) -> tuple[int, int]:
        machine = psutil.virtual_memory()
        used, total = int(machine.total - machine.available), int(machine.total)
        if self._in_container and self._cgroup is not None:
            limit, current = self._cgroup.memory_limit_bytes(), self._cgroup.memory_used_bytes()
            if limit is not None and limit < total and current is not None:
                return current, limit
        return used, total


def percent_of(part: float | None, whole: float | None) -> float | None:
    """
    >>> percent_of(1, 3), percent_of(5, 4), percent_of(1, 0)
    (33.3, 100.0, None)
    """
    if part is None or not whole:
        return None
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 1)


def mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return round(math.fsum(known) / len(known), 1) if known else None


class CpuMeter:
    """CPU percentage since the reading before: of the cgroup's quota where it has one, else the machine's."""

    def __init__(
        self, cgroup: "CgroupV1 | CgroupV2 | None", clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._cgroup = cgroup
        self._clock_ns = clock_ns
        self._before: tuple[int, int] | None = None
        self._times: tuple[float, float] | None = None

    def percent(self) -> float | None:
        """None for the first reading, which has no stretch to speak of."""
        cpus = self._cgroup.cpu_limit() if self._cgroup is not None else None
        used_ns = self._cgroup.cpu_used_ns() if self._cgroup is not None else None
        if cpus is None or used_ns is None:
            self._before = None
            return self._machine_percent()
        before, self._before = self._before, (used_ns, self._clock_ns())
        if before is None:
            return None
        return percent_of(used_ns - before[0], (self._before[1] - before[1]) * cpus)

    def _machine_percent(self) -> float | None:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # user and nice already contain the time of guests
        all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        before, self._times = self._times, (all_s - idle, all_s)
        if before is None:
            return None
        return percent_of(self._times[0] - before[0], self._times[1] - before[1])


# -- containers


def is_container(root: Path) -> bool:
    """Whether this process runs in a container, by the marks that the usual runtimes leave."""
    if any((root / name).exists() for name in CONTAINER_FILES):
        return True
    if root == Path("/") and ("KUBERNETES_SERVICE_HOST" in os.environ or "container" in os.environ):
        return True
    groups = _text(root / "proc/self/cgroup") or ""
    return any(word in groups for word in CONTAINER_WORDS)


def find_cgroup(root: Path) -> "CgroupV1 | CgroupV2 | None":
    """This process's cgroup; its own directory, or the mount's root, which is what a container sees of it."""
    mount = root / "sys/fs/cgroup"
    paths: dict[str, str] = {}
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= {name: path.strip("/") for name in controllers.split(",")}
    if (mount / "cgroup.controllers").exists():
        return CgroupV2(_nearest(mount, paths.get("", "")), mount)
    places = {
        name: _nearest(mount / name, paths.get(name, ""))
        for name in ("memory", "cpu", "cpuacct")
        if (mount / name).exists()
    }
    return CgroupV1(places) if places else None


def _nearest(mount: Path, path: str) -> Path:
    """`mount/path`, or the mount itself where the path is one of the host's that is not visible here."""
    return mount / path if path and ".." not in path.split("/") and (mount / path).is_dir() else mount


@dataclass(frozen=True)
class CgroupV2:
    """The unified hierarchy. The tightest limit between the group and the mount holds."""

    place: Path
    mount: Path

    def memory_limit_bytes(self) -> int | None:
        limits = [_number(place / "memory.max") for place in self._upwards()]
        return min((limit for limit in limits if limit is not None), default=None)

    def memory_used_bytes(self) -> int | None:
        """Without the file cache that the kernel can drop at once."""
        current = _number(self.place / "memory.current")
        return None if current is None else max(0, current - (_stat(self.place, "inactive_file") or 0))

    def cpu_limit(self) -> float | None:
        """In CPUs, as 1.5."""
        limits: list[float] = []
        for place in self._upwards():
            quota, _, period = (_text(place / "cpu.max") or "").partition(" ")
            if quota.isdigit() and period.isdigit() and int(period) > 0:
                limits.append(int(quota) / int(period))
        return min(limits, default=None)

    def cpu_used_ns(self) -> int | None:
        used_us = _stat(self.place, "usage_usec", "cpu.stat")
        return None if used_us is None else used_us * 1000

    def _upwards(self) -> list[Path]:
        inside = [p for p in (self.place, *self.place.parents) if p == self.mount or self.mount in p.parents]
        return inside


@dataclass(frozen=True)
class CgroupV1:
    """A directory for each controller."""

    places: dict[str, Path]

    def memory_limit_bytes(self) -> int | None:
        own = self._read("memory", "memory.limit_in_bytes")
        above = _stat(self.places["memory"], "hierarchical_memory_limit") if "memory" in self.places else None
        limits = [limit for limit in (own, above) if limit is not None and limit < NO_LIMIT_BYTES]
        return min(limits, default=None)

    def memory_used_bytes(self) -> int | None:
        """Without the file cache that the kernel can drop at once."""
        current = self._read("memory", "memory.usage_in_bytes")
        if current is None:
            return None
        return max(0, current - (_stat(self.places["memory"], "total_inactive_file") or 0))

    def cpu_limit(self) -> float | None:
        """In CPUs, as 1.5; a quota of -1 is none."""
        quota, period = self._read("cpu", "cpu.cfs_quota_us"), self._read("cpu", "cpu.cfs_period_us")
        return quota / period if quota is not None and quota > 0 and period else None

    def cpu_used_ns(self) -> int | None:
        return self._read("cpuacct", "cpuacct.usage")

    def _read(self, controller: str, name: str) -> int | None:
        place = self.places.get(controller)
        return None if place is None else _number(place / name)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    """A file of one whole number; None when it is not there, or says "max"."""
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _stat(place: Path, key: str, name: str = "memory.stat") -> int | None:
    for line in (_text(place / name) or "").splitlines():
        if line.startswith(f"{key} "):
            return int(line.split()[1])
    return None


# -- GPUs


class NvidiaGpus:
    """NVIDIA's GPUs through its management library; none when the library or the driver is not there.

    Each number can fail alone: MIG has no utilisation, some boards no memory or power.
    """

    def __init__(self, library: Any = None) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            # imported here: a broken installation must not stop the import of this module
            nvml = library if library is not None else importlib.import_module("pynvml")
            nvml.nvmlInit()
        except Exception as error:  # NVMLError, and what a broken installation raises
            log.debug("no NVIDIA GPU: %s", error)
            return
        self._nvml = nvml
        for index in range(self._ask(nvml.nvmlDeviceGetCount) or 0):
            self._handles.append(self._ask(nvml.nvmlDeviceGetHandleByIndex, index))

    def read(self) -> list[GpuLoad]:
        return [self._gpu(index, handle) for index, handle in enumerate(self._handles)]

    def close(self) -> None:
        if self._nvml is not None:
            self._ask(self._nvml.nvmlShutdown)
        self._nvml, self._handles = None, []

    def _gpu(self, index: int, handle: Any) -> GpuLoad:
        nvml = self._nvml
        if handle is None:
            return GpuLoad(index)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        name = self._ask(nvml.nvmlDeviceGetName, handle)
        used, total = (None, None) if memory is None else (int(memory.used), int(memory.total))
        return GpuLoad(
            index=index,
            name=name.decode(errors="replace") if isinstance(name, bytes) else name,
            percent=None if rates is None else round(float(rates.gpu), 1),
            memory_percent=percent_of(used, total),
            memory_used_bytes=used,
            memory_total_bytes=total,
            temperature_c=None if temperature is None else float(temperature),
            power_w=None if power_mw is None else round(power_mw / 1000.0, 1),
        )

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # NVMLError of many kinds; names that are not UTF-8
            log.debug("%s: %s", getattr(function, "__name__", function), error)
            return None


class AmdGpus:
    """AMD's GPUs through the files of the kernel's driver; needs no library of theirs."""

    def __init__(self, root: Path = Path("/")) -> None:
        cards = sorted((root / "sys/class/drm").glob("card*/device"), key=_card_number)
        self._places = [place for place in cards if (place / "gpu_busy_percent").exists()]

    def read(self) -> list[GpuLoad]:
        return [self._gpu(index, place) for index, place in enumerate(self._places)]

    def close(self) -> None:
        """Nothing is held open."""

    def _gpu(self, index: int, place: Path) -> GpuLoad:
        used, total = _number(place / "mem_info_vram_used"), _number(place / "mem_info_vram_total")
        sensors = next(iter(place.glob("hwmon/hwmon*")), place)
        temperature_mc = _number(sensors / "temp1_input")
        power_uw = _number(sensors / "power1_average")
        return GpuLoad(
            index=index,
            name=_text(place / "product_name") or "AMD GPU",
            percent=percent_of(_number(place / "gpu_busy_percent"), 100),
            memory_percent=percent_of(used, total),
            memory_used_bytes=used,
            memory_total_bytes=total,
            temperature_c=None if temperature_mc is None else temperature_mc / 1000.0,
            power_w=None if power_uw is None else round(power_uw / 1e6, 1),
        )


def _card_number(place: Path) -> int:
    with contextlib.suppress(ValueError):
        return int(place.parent.name.removeprefix("card"))
    return 1 << 30

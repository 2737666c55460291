"""The load of the machine, of a container's limits, and of GPUs that tell only part of what they do."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import psutil
import pytest

from llmscope.host import AmdGpus, CpuMeter, GpuLoad, HostLoad, HostSampler, NvidiaGpus, find_cgroup

MIB = 1 << 20


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def eventually(check: Callable[[], Any], within_s: float = 5.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_the_sampler_reads_the_machine_and_says_nothing_before_it_knows(tmp_path: Path) -> None:
    with HostSampler(interval_s=0.05, root=tmp_path, gpus=()) as host:
        first = host.sample()
        load = eventually(lambda: host.sample().cpu_percent is not None and host.sample())

    assert first.cpu_percent is None  # not "0 %", which would be a claim
    assert first.memory_percent is not None
    assert 0.0 <= load.cpu_percent <= 100.0
    assert load.memory_total_bytes == psutil.virtual_memory().total
    assert 0 < load.memory_used_bytes < load.memory_total_bytes
    assert load.memory_percent == round(100 * load.memory_used_bytes / load.memory_total_bytes, 1)
    assert (load.gpu_percent, load.gpu_memory_percent, load.gpus) == (None, None, ())


def test_the_document_is_json_of_the_system_page() -> None:
    load = HostLoad(cpu_percent=12.5, gpus=(GpuLoad(0, "A", 50.0),))

    document = orjson.loads(orjson.dumps(load.document()))

    assert document["cpu_percent"] == 12.5
    assert document["gpu_percent"] is None
    assert document["in_container"] is False
    assert document["gpus"] == [
        {
            "index": 0,
            "name": "A",
            "percent": 50.0,
            "memory_percent": None,
            "memory_used_bytes": None,
            "memory_total_bytes": None,
            "temperature_c": None,
            "power_w": None,
        }
    ]


V2 = {
    ".dockerenv": "",
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory",
    "sys/fs/cgroup/memory.max": str(512 * MIB),
    "sys/fs/cgroup/memory.current": str(300 * MIB),
    "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {44 * MIB}",
    "sys/fs/cgroup/cpu.max": "150000 100000",
    "sys/fs/cgroup/cpu.stat": "usage_usec 1000000\nuser_usec 1",
}
V1 = {
    ".dockerenv": "",
    "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(512 * MIB),
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(300 * MIB),
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {44 * MIB}",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "1000000000",
}


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_in_a_container_memory_is_that_of_its_limit(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path, files)

    load = HostSampler(root=tmp_path, gpus=()).read()

    assert load.in_container
    assert (load.memory_used_bytes, load.memory_total_bytes) == (256 * MIB, 512 * MIB)  # without file cache
    assert load.memory_percent == 50.0


@pytest.mark.parametrize(
    ("files", "usage", "text"),
    [
        (V1, "sys/fs/cgroup/cpuacct/cpuacct.usage", "4000000000"),
        (V2, "sys/fs/cgroup/cpu.stat", "usage_usec 4000000"),
    ],
    ids=["v1", "v2"],
)
def test_in_a_container_cpu_is_that_of_its_quota(
    tmp_path: Path, files: dict[str, str], usage: str, text: str
) -> None:
    put(tmp_path, files)
    now_ns = 0
    meter = CpuMeter(find_cgroup(tmp_path), lambda: now_ns)

    first = meter.percent()
    put(tmp_path, {usage: text})
    now_ns = 4_000_000_000
    second = meter.percent()

    assert first is None
    assert second == 50.0  # 3 s of CPU in 4 s, of 1.5 CPUs


@pytest.mark.parametrize(
    "no_limit",
    [
        V2 | {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"},
        V1
        | {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        },
        {".dockerenv": ""},
        {name: text for name, text in V2.items() if name != ".dockerenv"},  # a service, not a container
    ],
    ids=["v2", "v1", "no cgroup", "not a container"],
)
def test_without_limits_the_machine_is_what_counts(tmp_path: Path, no_limit: dict[str, str]) -> None:
    put(tmp_path, no_limit)

    load = HostSampler(root=tmp_path, gpus=()).read()

    assert load.memory_total_bytes == psutil.virtual_memory().total


def test_the_tightest_limit_above_holds(tmp_path: Path) -> None:
    nested = {
        "proc/self/cgroup": "0::/kubepods/pod1/c1",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory",
        "sys/fs/cgroup/kubepods/pod1/memory.max": str(256 * MIB),
        "sys/fs/cgroup/kubepods/pod1/c1/memory.max": "max",
        "sys/fs/cgroup/kubepods/pod1/c1/memory.current": str(64 * MIB),
        "sys/fs/cgroup/kubepods/pod1/cpu.max": "50000 100000",
        "sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "200000 100000",
    }
    put(tmp_path, nested)
    group = find_cgroup(tmp_path)

    assert group is not None
    assert group.memory_limit_bytes() == 256 * MIB
    assert group.cpu_limit() == 0.5
    assert HostSampler(root=tmp_path, gpus=()).read().memory_percent == 25.0


# -- GPUs


class Nvml:
    """NVIDIA's library with two GPUs, in which the named functions fail."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *failing: str) -> None:
        self._failing = failing
        self.is_shut = False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self._failing:
            return self._fail
        return object.__getattribute__(self, name)

    def _fail(self, *_: Any) -> Any:
        raise Nvml.NVMLError("not supported")

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None:
        self.is_shut = True

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return "NVIDIA A" if handle else b"NVIDIA B"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=(30, 95)[handle], memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=(10, 20)[handle] * MIB, total=(20, 80)[handle] * MIB)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 250_400


def read(tmp_path: Path, *failing: str) -> HostLoad:
    return HostSampler(root=tmp_path, gpus=[NvidiaGpus(Nvml(*failing))]).read()


def test_gpus_are_read_one_by_one_and_in_total(tmp_path: Path) -> None:
    load = read(tmp_path)

    assert load.gpus[0] == GpuLoad(0, "NVIDIA B", 30.0, 50.0, 10 * MIB, 20 * MIB, 61.0, 250.4)
    assert load.gpus[1].percent == 95.0
    assert load.gpu_percent == 62.5  # the mean
    assert load.gpu_memory_percent == 30.0  # 30 of 100 MiB, not the mean of 50 % and 25 %


@pytest.mark.parametrize(
    ("failing", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "percent"),
        ("nvmlDeviceGetMemoryInfo", "memory_percent"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetName", "name"),
    ],
)
def test_each_number_of_a_gpu_can_be_missing_alone(tmp_path: Path, failing: str, field: str) -> None:
    gpu = read(tmp_path, failing).gpus[0]

    missing = {name for name in GpuLoad.__slots__ if getattr(gpu, name) is None}
    expected = {"memory_used_bytes", "memory_total_bytes"} if field == "memory_percent" else set()
    assert missing == expected | {field}


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount"])
def test_without_a_driver_there_are_no_gpus(tmp_path: Path, failing: str) -> None:
    load = read(tmp_path, failing)

    assert load.gpus == ()
    assert (load.gpu_percent, load.gpu_memory_percent) == (None, None)


def test_the_library_is_closed_with_the_sampler(tmp_path: Path) -> None:
    library = Nvml()
    with HostSampler(interval_s=0.01, root=tmp_path, gpus=[NvidiaGpus(library)]):
        pass

    assert library.is_shut


def test_amd_gpus_are_read_from_the_kernels_files(tmp_path: Path) -> None:
    put(
        tmp_path / "sys/class/drm",
        {
            "card0/device/vendor": "0x8086",  # integrated graphics without these files
            "card10/device/gpu_busy_percent": "11",
            "card1/device/gpu_busy_percent": "87",
            "card1/device/mem_info_vram_used": str(4 * MIB),
            "card1/device/mem_info_vram_total": str(16 * MIB),
            "card1/device/product_name": "Instinct",
            "card1/device/hwmon/hwmon3/temp1_input": "54000",
            "card1/device/hwmon/hwmon3/power1_average": "180500000",
        },
    )

    first, second = AmdGpus(tmp_path).read()

    assert first == GpuLoad(0, "Instinct", 87.0, 25.0, 4 * MIB, 16 * MIB, 54.0, 180.5)
    assert second == GpuLoad(1, "AMD GPU", 11.0)


def test_a_reader_that_breaks_does_not_end_the_sampling(tmp_path: Path) -> None:
    class Broken:
        reads = 0

        def read(self) -> list[GpuLoad]:
            Broken.reads += 1
            raise OSError("the GPU has fallen off the bus")

        def close(self) -> None: ...

    with HostSampler(interval_s=0.01, root=tmp_path, gpus=[Broken()]) as host:
        eventually(lambda: Broken.reads > 1)

        assert host.sample().cpu_percent is None

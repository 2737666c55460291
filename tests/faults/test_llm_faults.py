"""Everything that a language model's server can do wrong, at once: each is named, and the schedule is kept."""

from pathlib import Path

from tests.faults.llm_faults import INTERVAL_MS, watch


async def test_every_fault_is_named_the_schedule_is_kept_and_memory_is_flat(tmp_path: Path) -> None:
    seen = await watch(tmp_path, 5.0)

    assert seen.wrong() == {}
    assert "the probe itself broke" not in seen.log
    assert len(seen.seen["none"].kinds) == 1
    late = {name: fault.jitter_ms for name, fault in seen.seen.items() if fault.jitter_ms > INTERVAL_MS / 5}
    assert late == {}
    half = len(seen.memory_mb) // 2
    assert max(seen.memory_mb[half:]) - max(seen.memory_mb[:half]) < 30.0

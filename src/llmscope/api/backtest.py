"""`/api/backtest`: jobs that judge what is stored by another configuration, each a process of its own.

A job reads the database and nothing else, at the lowest priority, so that it never holds up ingest.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, HTTPException, Request
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from llmscope.api.parts import parts_of
from llmscope.api.shapes import BacktestListOut, BacktestOut
from llmscope.observation import METRICS
from llmscope.spc.chart import Plan

router = APIRouter(tags=["backtest"])

MOST_RUNNING = 2
MOST_KEPT = 20  # finished jobs whose results are remembered
LINE_BYTES = 16 * 1024 * 1024


class NewBacktest(BaseModel):
    """Another configuration to judge a series by. What it leaves out is as this server judges."""

    series_id: int
    metric: str = "latency"
    rules: Annotated[str | None, Field(max_length=100)] = None
    budget: Annotated[str | None, Field(max_length=40)] = None
    min_change: Annotated[str | None, Field(max_length=40)] = None
    learn: Annotated[str | None, Field(max_length=40)] = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    phases_at: Annotated[list[AwareDatetime], Field(max_length=50)] = []

    def filled(self, plan: Plan) -> "NewBacktest":
        """The same, what it left out taken from that plan."""
        per_day = plan.budget.alarms_per_day
        return self.model_copy(
            update={
                "rules": self.rules or plan.point_rules,
                "budget": self.budget or ("none" if per_day is None else f"{per_day:.20f}/day"),
                "min_change": self.min_change or f"{plan.min_change:.20f}",
                "learn": self.learn or str(plan.learn_n or f"{plan.learn_us / 1e6:.6f}s"),
            }
        )


@dataclass(slots=True)
class Job:
    """A backtest, running or done."""

    id: int
    asked: dict[str, Any]
    state: str = "running"
    done: int = 0
    total: int | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    process: asyncio.subprocess.Process | None = None
    task: "asyncio.Task[None] | None" = None

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "asked": self.asked,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "result": self.result,
            "error": self.error,
        }


class Jobs:
    """The backtests of this server."""

    def __init__(self) -> None:
        self.by_id: dict[int, Job] = {}
        self._ids = itertools.count(1)

    def start(self, new: NewBacktest, database: str) -> Job:
        job = Job(next(self._ids), new.model_dump(mode="json"))
        self.by_id[job.id] = job
        for old in [j.id for j in self.by_id.values() if j.state != "running"][:-MOST_KEPT]:
            del self.by_id[old]
        job.task = asyncio.create_task(_run(job, new, database))
        return job

    async def close(self) -> None:
        """Kill what runs, and wait for it."""
        tasks = [job.task for job in self.by_id.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def running(self) -> int:
        return sum(1 for job in self.by_id.values() if job.state == "running")


def _command(new: NewBacktest, database: str) -> list[str]:
    command = [
        sys.executable, "-m", "llmscope", "backtest", "--format", "lines", "--db", database,
        "--series", str(new.series_id), "--metric", new.metric,
    ]  # fmt: skip
    for flag, text in (
        ("--rules", new.rules),
        ("--budget", new.budget),
        ("--min-change", new.min_change),
        ("--learn", new.learn),
    ):
        if text is not None:
            command += [flag, text]
    for flag, moment in (("--since", new.since), ("--until", new.until)):
        if moment is not None:
            command += [flag, moment.isoformat()]
    for moment in new.phases_at:
        command += ["--phase-at", moment.isoformat()]
    return command


async def _run(job: Job, new: NewBacktest, database: str) -> None:
    """Start the process and follow what it says, until it ends."""
    job.process = process = await asyncio.create_subprocess_exec(
        *_command(new, database),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        preexec_fn=lambda: os.nice(15),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async for line in process.stdout:
            said = orjson.loads(line)
            if "result" in said:
                job.result = said["result"]
            else:
                job.done, job.total = said["done"], said["total"]
        error = (await process.stderr.read()).decode(errors="replace").strip()
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()
        raise
    if job.state == "cancelled":
        return
    if code == 0 and job.result is not None:
        job.state = "done"
    else:
        job.state, job.error = "failed", error.removeprefix("llmscope: ") or f"it ended with status {code}"


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


@router.post("/api/backtest", response_model=BacktestOut, status_code=202)
async def start_backtest(request: Request, new: NewBacktest) -> Response:
    """Begin a backtest; ask for its progress and result by the id. 429 while two others run."""
    parts = parts_of(request)
    if new.series_id not in parts.store.series:
        raise HTTPException(404, f"there is no series {new.series_id}; GET /api/series lists them")
    if new.metric not in METRICS:
        raise HTTPException(422, f"metric: '{new.metric}' is not one of {', '.join(METRICS)}")
    jobs = _jobs(request)
    if jobs.running() >= MOST_RUNNING:
        raise HTTPException(429, f"{MOST_RUNNING} backtests are running; wait for one, or DELETE it")
    await parts.ingest.settle()
    job = jobs.start(new.filled(parts.engine.plan), str(parts.store.path.resolve()))
    return _answer(job.document(), 202)


@router.get("/api/backtest", response_model=BacktestListOut)
async def list_backtests(request: Request) -> Response:
    """The backtests since the server started, the newest last."""
    return _answer({"backtests": [job.document() for job in _jobs(request).by_id.values()]})


@router.get("/api/backtest/{job_id}", response_model=BacktestOut)
async def get_backtest(request: Request, job_id: int) -> Response:
    """How far a backtest is, and what it found."""
    return _answer(_job(request, job_id).document())


@router.delete("/api/backtest/{job_id}", response_model=BacktestOut)
async def cancel_backtest(request: Request, job_id: int) -> Response:
    """Stop a backtest, or forget a finished one."""
    jobs, job = _jobs(request), _job(request, job_id)
    if job.state == "running":
        job.state = "cancelled"
        if job.process is not None:
            with contextlib.suppress(ProcessLookupError):
                job.process.terminate()
    else:
        del jobs.by_id[job.id]
    return _answer(job.document())


def _job(request: Request, job_id: int) -> Job:
    job = _jobs(request).by_id.get(job_id)
    if job is None:
        raise HTTPException(404, f"there is no backtest {job_id}")
    return job


def _answer(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")

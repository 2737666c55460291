"""What scripts/test-compose proves of compose.yaml and the images; prints a table, ends with 1 at the first lie."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page, sync_playwright
from tests.e2e.conftest import CHROMIUM, FLAGS
from tests.processes import free_port, wait_for

ROOT = Path(__file__).parent.parent
PROJECT = f"llmscope-test-{os.getpid()}"
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
TAG = "test"
LASTING = ("llmscope_api", "llmscope_web", "llmscope_simulator", "llmscope_monitor_demo", "llmscope_monitor")
ENVIRONMENT = os.environ | {
    "LLMSCOPE_WEB_PORT": str(PORT),
    "LLMSCOPE_TAG": TAG,
    "MONITOR_INTERVAL": "1",
}
COMPOSE = ("docker", "compose", "--env-file", os.devnull, "-p", PROJECT, "--profile", "demo")
AWAY_S = 12.0  # how long the API stays away while the monitor goes on
LONGEST_GAP_S = 8.0  # between two observations: the demo has cold starts of some seconds


def run(*words: str) -> str:
    """What the command printed; what it complained of when it failed."""
    done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def timed(what: str, do: Callable[[], Any]) -> None:
    began = time.monotonic()
    do()
    note(what, f"{time.monotonic() - began:.1f} s")


def note(what: str, said: str) -> None:
    print(f"{what:<60} {said}", flush=True)


def get(path: str, url: str = URL) -> Any:
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        return json.loads(answer.read())


def count(url: str = URL) -> int:
    """Observations that the API tells of."""
    return sum(series["count"] for series in get("/api/series", url)["series"])


def container(service: str) -> dict[str, Any]:
    name = run(*COMPOSE, "ps", "-a", "-q", service)
    found: dict[str, Any] = json.loads(run("docker", "inspect", name))[0]
    return found


def is_healthy(service: str) -> bool:
    state = container(service)["State"]
    return bool(state["Running"] and state["Health"]["Status"] == "healthy")


# -- the checks


def check_the_file() -> None:
    for env_file in (os.devnull, ".env.example"):
        for profile in ("", "demo", "gpu"):
            run("docker", "compose", "--env-file", env_file, "--profile", profile, "config", "-q")
    gpu = run("docker", "compose", "--env-file", os.devnull, "--profile", "gpu", "config")
    assert "driver: nvidia" in gpu
    note("compose.yaml, without .env and with .env.example", "valid; profiles demo and gpu too")


def check_what_is_published() -> None:
    published: dict[str, Any] = {}
    for service in LASTING:
        ports = container(service)["NetworkSettings"]["Ports"] or {}
        published |= {inside: outside for inside, outside in ports.items() if outside}
    assert published == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(PORT)}]}, published
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with socket.socket() as client:
            assert client.connect_ex((own, PORT)) != 0, f"reached at {own}"
    note("published", f"127.0.0.1:{PORT} of llmscope_web alone")


def check_what_is_closed() -> None:
    users = set()
    for service in LASTING:
        found = container(service)
        host = found["HostConfig"]
        user = run("docker", "exec", found["Id"], "id", "-u")
        assert user != "0", f"{service} runs as root"
        users.add(user)
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        wrote = subprocess.run(["docker", "exec", found["Id"], "touch", "/usr/x"], capture_output=True)
        assert wrote.returncode != 0, service
    note("users, root filesystem, capabilities", f"{', '.join(sorted(users))}; read-only; none")


def check_headers() -> None:
    with urllib.request.urlopen(URL + "/", timeout=10) as answer:
        page = answer.read().decode()
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    script = page.partition('src="./assets/')[2].partition('"')[0]
    asked = urllib.request.Request(f"{URL}/assets/{script}", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/docs", "/healthz", "/readyz"):
        urllib.request.urlopen(URL + path, timeout=10).close()
    note("headers of page and assets", "no-cache and immutable, gzip, CSP, nosniff")


def check_the_stream() -> None:
    """The first event within seconds, and observations one by one as they are made."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    connection.request("GET", "/api/stream")
    stream = connection.getresponse()
    first_s = 0.0
    arrived: list[float] = []
    while len(arrived) < 6:
        line = stream.readline()
        assert line, "the stream ended"
        if line.startswith(b"event:"):
            first_s = first_s or time.monotonic() - began
        if line == b"event: observation\n":
            arrived.append(time.monotonic())
    connection.close()
    apart = [b - a for a, b in itertools.pairwise(arrived)]
    assert first_s < 2.0, first_s
    assert min(apart) > 0.2, f"came together: {apart}"
    note(
        "server-sent events through nginx: first, then apart",
        f"{first_s:.2f} s, {min(apart):.1f}-{max(apart):.1f} s",
    )


def shown(page: Page) -> int:
    """Points of the chart on the page."""
    return int(page.evaluate("window.__llmscope?.count ?? 0"))


def wait_for_a_new_point(page: Page, within_s: float = 60.0) -> None:
    before = shown(page)
    deadline = time.monotonic() + within_s
    while shown(page) <= before:
        assert time.monotonic() < deadline, "no new point on the page"
        page.wait_for_timeout(50)


def crash(service: str) -> None:
    """Kill the container's program as if it had crashed; after `docker kill` Docker would leave it alone."""
    pid = container(service)["State"]["Pid"]
    program = f"import os; os.kill({pid}, 9)"
    killer = ("--rm", "--pid=host", "--user=0", "--cap-drop=ALL", "--cap-add=KILL", "--entrypoint=python")
    run("docker", "run", *killer, f"llmscope:{TAG}", "-c", program)


def check_crashes(page: Page) -> None:
    for service in LASTING:
        restarts = container(service)["RestartCount"]
        began = time.monotonic()
        crash(service)
        wait_for(lambda s=service, n=restarts: container(s)["RestartCount"] > n and is_healthy(s), 90.0)
        back_s = time.monotonic() - began
        wait_for_a_new_point(page)
        note(
            f"{service} killed: healthy, new point on the page",
            f"{back_s:.1f} s, {time.monotonic() - began:.1f} s",
        )


def check_what_the_monitor_keeps(page: Page) -> None:
    """What it measured while the API was away comes afterwards: no hole, and nothing twice."""
    away_ms = 1000.0 * time.time()
    run(*COMPOSE, "stop", "llmscope_api")
    time.sleep(AWAY_S)
    run(*COMPOSE, "start", "llmscope_api")
    wait_for(lambda: is_healthy("llmscope_api"), 60.0)
    back_ms = 1000.0 * time.time()
    began = time.monotonic()

    def longest_gap_s() -> float:
        times = get("/api/stats/spc?hours=1&fields=times_ms")["times_ms"]
        assert len(times) == len(set(times))
        meanwhile = sorted([away_ms, *(at for at in times if away_ms < at < back_ms), back_ms])
        return float(max(b - a for a, b in itertools.pairwise(meanwhile))) / 1000.0

    wait_for(lambda: longest_gap_s() < LONGEST_GAP_S, 60.0)
    took_s, away_s = time.monotonic() - began, (back_ms - away_ms) / 1000.0
    note(
        f"API away for {away_s:.0f} s: delivered after, longest gap",
        f"{took_s:.1f} s, {longest_gap_s():.1f} s",
    )
    wait_for_a_new_point(page)


def check_a_new_address(page: Page) -> None:
    """A container made anew may have another address; nginx must find it."""
    run(*COMPOSE, "up", "-d", "--no-build", "--force-recreate", "--no-deps", "llmscope_api")
    began = time.monotonic()
    wait_for(lambda: is_healthy("llmscope_api"), 60.0)
    wait_for_a_new_point(page)
    note("API container made anew: new point on the page", f"{time.monotonic() - began:.1f} s")


def check_one_container() -> None:
    """Everything in one process, as the README starts it."""
    port, name = free_port(), f"{PROJECT}-one"
    url = f"http://127.0.0.1:{port}"
    closed = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    environment = ("-e", "LLMSCOPE_PUBLISHED_ON=127.0.0.1")
    began = time.monotonic()
    run(
        *("docker", "run", "-d", "--name", name, *closed, *environment, "-v", f"{PROJECT}_one:/data"),
        *("-p", f"127.0.0.1:{port}:8081", f"llmscope:{TAG}", "up", "--demo", "--interval", "500ms"),
    )
    wait_for(lambda: count(url) >= 3, 60.0)
    note("docker run: third point", f"{time.monotonic() - began:.1f} s")
    before = count(url)
    began = time.monotonic()
    run("docker", "stop", "-t", "20", name)
    stopped_s = time.monotonic() - began
    code = run("docker", "inspect", "-f", "{{.State.ExitCode}}", name)
    assert (code, stopped_s < 5.0) == ("0", True), (code, stopped_s)
    run("docker", "start", name)
    wait_for(lambda: count(url) >= before, 60.0)
    note("docker stop: exit code 0; docker start: data kept", f"{stopped_s:.1f} s; {before} of {before} rows")


def check_an_orderly_end() -> None:
    began = time.monotonic()
    run(*COMPOSE, "stop")
    note("docker compose stop", f"{time.monotonic() - began:.1f} s")
    for service in LASTING:
        state = container(service)["State"]
        assert state["ExitCode"] == 0, f"{service}: exit code {state['ExitCode']}"


def check_seen_from_the_network() -> None:
    """Published beyond this machine it wants a password; with one, the page asks for it and the monitor delivers."""
    ENVIRONMENT["LLMSCOPE_BIND"] = "0.0.0.0"
    run(*COMPOSE, "up", "-d", "--no-build", "--force-recreate", "--no-deps", "llmscope_api")
    wait_for(lambda: "LLMSCOPE_PASSWORD" in run(*COMPOSE, "logs", "--no-log-prefix", "llmscope_api"), 30.0)
    note("published on 0.0.0.0 without a password", "refuses to start, and says so")
    password = "only for this test"
    ENVIRONMENT.update(LLMSCOPE_PASSWORD=password, LLMSCOPE_INGEST_TOKEN="a-token-for-this-test-alone")
    run(*COMPOSE, "up", "-d", "--no-build", "--wait")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        count()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    login = json.dumps({"password": password}).encode()
    headers = {"Content-Type": "application/json", "Origin": URL}
    browser.open(urllib.request.Request(URL + "/api/login", login, headers), timeout=10).close()

    def counted() -> int:
        with browser.open(URL + "/api/series", timeout=10) as answer:
            return sum(series["count"] for series in json.load(answer)["series"])

    before = counted()
    wait_for(lambda: counted() > before, 30.0)
    note("with one: a stranger, after the login", "401, live points by the monitor's token")
    for name in ("LLMSCOPE_BIND", "LLMSCOPE_PASSWORD", "LLMSCOPE_INGEST_TOKEN"):
        del ENVIRONMENT[name]


def note_images() -> None:
    for image in ("llmscope", "llmscope_web"):
        size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", f"{image}:{TAG}"))
        note(f"image {image}", f"{size / 1e6:.0f} MB")


def check() -> None:
    check_the_file()
    timed("docker compose build", lambda: run(*COMPOSE, "build"))
    note_images()
    timed("docker compose up, all healthy", lambda: run(*COMPOSE, "up", "-d", "--no-build", "--wait"))
    wait_for(lambda: count() >= 2, 60.0)
    check_what_is_published()
    check_what_is_closed()
    check_headers()
    check_the_stream()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        began = time.monotonic()
        page.goto(URL)
        wait_for_a_new_point(page)
        note("page through nginx in Chromium: first chart", f"{time.monotonic() - began:.1f} s")
        timed("a live point on it", lambda: wait_for_a_new_point(page))
        assert said == [], said
        check_crashes(page)
        check_what_the_monitor_keeps(page)
        check_a_new_address(page)
        browser.close()
    check_an_orderly_end()
    check_seen_from_the_network()
    check_one_container()


def tear_down() -> None:
    subprocess.run([*COMPOSE, "down", "-v", "-t", "5"], cwd=ROOT, env=ENVIRONMENT, capture_output=True)
    subprocess.run(["docker", "rm", "-f", "-v", f"{PROJECT}-one"], capture_output=True)
    subprocess.run(["docker", "volume", "rm", "-f", f"{PROJECT}_one"], capture_output=True)
    left = run("docker", "ps", "-a", "-q", "--filter", f"name={PROJECT}")
    left += run("docker", "volume", "ls", "-q", "--filter", f"name={PROJECT}")
    print(f"torn down; left behind: {left or 'nothing'}")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check()
    except (AssertionError, OSError, Error) as error:
        print(f"test-compose: {error}", file=sys.stderr)
        logs = subprocess.run(
            [*COMPOSE, "logs", "--tail", "30"], cwd=ROOT, env=ENVIRONMENT, capture_output=True
        )
        print(logs.stdout.decode(), file=sys.stderr)
        return 1
    finally:
        tear_down()
    print("test-compose: all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())

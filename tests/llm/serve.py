"""A program: serve MODEL.gguf on PORT with llama.cpp, until told to stop or its parent is gone."""

import signal
import sys
import threading

import xllamacpp


def main(model: str, port: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 4096
    params.n_parallel = 2
    params.warmup = False
    params.cpuparams.n_threads = 2
    params.endpoint_slots = True
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    server = xllamacpp.Server(params)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()  # ends when the parent does, however it does
        stop.set()

    threading.Thread(target=wait_for_parent, daemon=True).start()
    stop.wait()
    del server


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What all tests share: hypothesis profiles, and a real LLM server."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from tests.llm.server import LlamaServer
from tests.llm.tiny_model import write_model

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=120, deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights that answers every prompt to the length it was asked for."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def llama_server(tiny_model: Path) -> Iterator[LlamaServer]:
    """A llama.cpp server with that model, started; stop, kill and start it as the test wants."""
    server = LlamaServer(tiny_model)
    server.start()
    try:
        yield server
    finally:
        server.kill()

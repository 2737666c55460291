"""A faithful Ollama server with incidents on a script, for the demo and the tests. Knows nothing of LLMscope."""

from llmscope.simulator.model import MODELS, Model
from llmscope.simulator.scenarios import SCENARIOS, Effect, Incident, Scenario
from llmscope.simulator.server import Simulator, serve

__all__ = ["MODELS", "SCENARIOS", "Effect", "Incident", "Model", "Scenario", "Simulator", "serve"]

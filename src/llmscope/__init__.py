"""LLMscope: statistical process control for language-model services."""

from importlib.metadata import version

__version__ = version("llmscope")

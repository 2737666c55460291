"""LLMscope: statistical process control for language-model services."""

import os
from importlib.metadata import version

# The systems solved here have a few hundred unknowns: on a busy machine the threads of BLAS wait for each other
# longer than one of them takes. Before numpy is imported; what the user set stays.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = version("llmscope")

"""`python -m llmscope` is `llmscope`."""

from llmscope.cli import main

main()

"""Data in files: what is stored as CSV, JSON lines and Parquet, and files, also the prototype's, as observations."""

from llmscope.exchange.export import EXPORTS, CannotExport, Selection, export
from llmscope.exchange.intake import CannotImport, Intake, Survey, Taken

__all__ = ["EXPORTS", "CannotExport", "CannotImport", "Intake", "Selection", "Survey", "Taken", "export"]

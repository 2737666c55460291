"""What is remembered: observations, what was found in them, and the recent past in memory."""

from llmscope.store.incidents import Annotation, Exclusion, Incident, Phase, StoredAlarm
from llmscope.store.schema import SCHEMA_VERSION, SchemaTooNew
from llmscope.store.sqlite import BaselineRow, Series, SeriesKey, Store, open_store
from llmscope.store.tokens import TokenTable, TooManyTokens, end_session, ended_sessions, opened_tokens
from llmscope.store.violations import Violation, ViolationQuery

__all__ = [
    "SCHEMA_VERSION",
    "Annotation",
    "BaselineRow",
    "Exclusion",
    "Incident",
    "Phase",
    "SchemaTooNew",
    "Series",
    "SeriesKey",
    "Store",
    "StoredAlarm",
    "TokenTable",
    "TooManyTokens",
    "Violation",
    "ViolationQuery",
    "end_session",
    "ended_sessions",
    "open_store",
    "opened_tokens",
]

"""What is remembered: observations, what was found in them, and the recent past in memory."""

from llmscope.store.faults import FaultKind, StorageFault, fault_of
from llmscope.store.incidents import Annotation, Exclusion, Incident, Phase, StoredAlarm
from llmscope.store.keeping import Keep
from llmscope.store.lock import DatabaseInUse, DatabaseLock
from llmscope.store.schema import SCHEMA_VERSION, SchemaTooNew
from llmscope.store.sqlite import BaselineRow, Series, SeriesKey, Store, open_store
from llmscope.store.tokens import TokenTable, TooManyTokens, end_session, ended_sessions, opened_tokens
from llmscope.store.usage import Usage, usage
from llmscope.store.violations import Violation, ViolationQuery

__all__ = [
    "SCHEMA_VERSION",
    "Annotation",
    "BaselineRow",
    "DatabaseInUse",
    "DatabaseLock",
    "Exclusion",
    "FaultKind",
    "Incident",
    "Keep",
    "Phase",
    "SchemaTooNew",
    "Series",
    "SeriesKey",
    "StorageFault",
    "Store",
    "StoredAlarm",
    "TokenTable",
    "TooManyTokens",
    "Usage",
    "Violation",
    "ViolationQuery",
    "end_session",
    "ended_sessions",
    "fault_of",
    "open_store",
    "opened_tokens",
    "usage",
]

"""What is remembered: observations, what was found in them, and the recent past in memory."""

from llmscope.store.incidents import Annotation, Exclusion, Incident, Phase, StoredAlarm
from llmscope.store.keeping import Keep
from llmscope.store.schema import SCHEMA_VERSION, SchemaTooNew
from llmscope.store.sqlite import BaselineRow, Series, SeriesKey, Store, open_store
from llmscope.store.usage import Usage, usage
from llmscope.store.violations import Violation, ViolationQuery

__all__ = [
    "SCHEMA_VERSION",
    "Annotation",
    "BaselineRow",
    "Exclusion",
    "Incident",
    "Keep",
    "Phase",
    "SchemaTooNew",
    "Series",
    "SeriesKey",
    "Store",
    "StoredAlarm",
    "Usage",
    "Violation",
    "ViolationQuery",
    "open_store",
    "usage",
]

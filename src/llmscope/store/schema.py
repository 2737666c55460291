"""The tables, as numbered migrations. A migration is never edited after a release; a new one is appended.

Observations are rows in order of arrival, integers throughout: microseconds, and tenths of a percent; after two
days, thousands of them become one pack. There is no index on them: windows are served from memory, and a moment is
found by its row id through `arrival`. An index clustered by series would make every commit touch one page per
series (measured: 366,000 rows/s with 10 series, 31,000 with 1,000; append order stays at 736,000).
"""

import sqlite3

INITIAL = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    server TEXT NOT NULL,
    source TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    -- what is known as of row `counted_id`, kept by the periodic checkpoint
    counted_id INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    first_us INTEGER,
    last_us INTEGER,
    -- violations and baselines of this series are saved as of row `judged_id`
    judged_id INTEGER NOT NULL DEFAULT 0,
    UNIQUE (provider, model, server, source)
) STRICT;

CREATE TABLE prompt (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    text TEXT
) STRICT;

CREATE TABLE observation (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    latency_us INTEGER,
    ttft_us INTEGER,
    connect_us INTEGER,
    gap_mean_us INTEGER,
    gap_max_us INTEGER,
    total_us INTEGER,
    load_us INTEGER,
    prompt_eval_us INTEGER,
    eval_us INTEGER,
    prompt_eval_count INTEGER,
    eval_count INTEGER,
    cpu_permille INTEGER,
    memory_permille INTEGER,
    gpu_permille INTEGER,
    gpu_memory_permille INTEGER,
    prompt_id INTEGER,
    host INTEGER
) STRICT;

-- why an observation failed, in words; only failures have a row
CREATE TABLE failure (
    observation_id INTEGER PRIMARY KEY,
    message TEXT NOT NULL
) STRICT;

-- the first row that arrived in each minute: finds a moment without an index on every row
CREATE TABLE arrival (
    minute INTEGER PRIMARY KEY,
    first_id INTEGER NOT NULL
) STRICT;

-- how far each sender's numbered observations are stored: makes redelivery harmless
CREATE TABLE sender (
    id TEXT PRIMARY KEY,
    last_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE baseline (
    series_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    version INTEGER NOT NULL,
    fitted_id INTEGER NOT NULL,
    fitted_us INTEGER NOT NULL,
    state TEXT NOT NULL,
    scale TEXT NOT NULL,
    centre REAL NOT NULL,
    sigma REAL NOT NULL,
    n INTEGER NOT NULL,
    interval_us INTEGER NOT NULL,
    PRIMARY KEY (series_id, metric, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE violation (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    rule TEXT NOT NULL,
    side TEXT NOT NULL,
    pattern_start_id INTEGER NOT NULL,
    pattern_start_us INTEGER NOT NULL,
    first_signal_id INTEGER NOT NULL,
    first_signal_us INTEGER NOT NULL,
    last_signal_id INTEGER NOT NULL,
    last_signal_us INTEGER NOT NULL,
    open INTEGER NOT NULL,
    count INTEGER NOT NULL,
    peak_z REAL NOT NULL,
    peak_value REAL NOT NULL,
    peak_id INTEGER NOT NULL,
    value REAL NOT NULL,
    centre REAL NOT NULL,
    sigma REAL NOT NULL,
    ucl REAL NOT NULL,
    lcl REAL NOT NULL,
    n INTEGER NOT NULL,
    mean REAL,
    std REAL,
    provisional INTEGER NOT NULL,
    acknowledged_us INTEGER,
    acknowledged_by TEXT,
    note TEXT,
    UNIQUE (series_id, metric, rule, side, first_signal_id)
) STRICT;
CREATE INDEX violation_by_time ON violation (first_signal_us);

-- the original's column names, for people with an SQL shell
CREATE VIEW telemetry AS
SELECT o.id, s.provider, s.model, s.server, s.source,
    o.latency_us / 1000.0 AS latency_ms,
    strftime('%Y-%m-%dT%H:%M:%S', o.time_us / 1000000, 'unixepoch')
        || printf('.%06dZ', o.time_us % 1000000) AS timestamp,
    o.total_us / 1000.0 AS total_duration_ms,
    o.load_us / 1000.0 AS load_duration_ms,
    o.prompt_eval_us / 1000.0 AS prompt_eval_duration_ms,
    o.eval_us / 1000.0 AS eval_duration_ms,
    o.prompt_eval_count, o.eval_count,
    o.cpu_permille / 10.0 AS cpu_percent,
    o.memory_permille / 10.0 AS memory_percent,
    o.gpu_permille / 10.0 AS gpu_percent,
    o.gpu_memory_permille / 10.0 AS gpu_memory_percent,
    p.hash AS prompt_hash, p.text AS prompt_text,
    o.ttft_us / 1000.0 AS ttft_ms,
    o.outcome = 0 AS ok,
    CASE o.outcome WHEN 0 THEN NULL WHEN 1 THEN 'refused' WHEN 2 THEN 'timeout' WHEN 3 THEN 'http_404'
        WHEN 4 THEN 'busy' WHEN 5 THEN 'truncated' WHEN 6 THEN 'server_error'
        ELSE 'bad_response' END AS error_kind,
    f.message AS error
FROM observation o
JOIN series s ON s.id = o.series_id
LEFT JOIN prompt p ON p.id = o.prompt_id
LEFT JOIN failure f ON f.observation_id = o.id;
"""

_VIOLATION_COLUMNS = (
    "id, series_id, metric, rule, side, pattern_start_id, pattern_start_us, first_signal_id, first_signal_us, "
    "last_signal_id, last_signal_us, open, count, peak_z, peak_value, peak_id, value, centre, sigma, ucl, lcl, "
    "n, mean, std, provisional, acknowledged_us, acknowledged_by, note"
)

PHASES = f"""
-- a violation belongs to a chart and a phase; one of a judgement that was made again is superseded, not deleted
CREATE TABLE violation_2 (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    rule TEXT NOT NULL,
    side TEXT NOT NULL,
    pattern_start_id INTEGER NOT NULL,
    pattern_start_us INTEGER NOT NULL,
    first_signal_id INTEGER NOT NULL,
    first_signal_us INTEGER NOT NULL,
    last_signal_id INTEGER NOT NULL,
    last_signal_us INTEGER NOT NULL,
    open INTEGER NOT NULL,
    count INTEGER NOT NULL,
    peak_z REAL NOT NULL,
    peak_value REAL NOT NULL,
    peak_id INTEGER NOT NULL,
    value REAL NOT NULL,
    centre REAL NOT NULL,
    sigma REAL NOT NULL,
    ucl REAL NOT NULL,
    lcl REAL NOT NULL,
    n INTEGER NOT NULL,
    mean REAL,
    std REAL,
    provisional INTEGER NOT NULL,
    acknowledged_us INTEGER,
    acknowledged_by TEXT,
    note TEXT,
    chart TEXT NOT NULL DEFAULT 'points',
    phase INTEGER NOT NULL DEFAULT 1,
    superseded INTEGER NOT NULL DEFAULT 0,
    UNIQUE (series_id, metric, chart, rule, side, first_signal_id, phase)
) STRICT;
INSERT INTO violation_2 ({_VIOLATION_COLUMNS}) SELECT {_VIOLATION_COLUMNS} FROM violation;
DROP TABLE violation;
ALTER TABLE violation_2 RENAME TO violation;
CREATE INDEX violation_by_time ON violation (first_signal_us);
UPDATE violation SET open = 0;

-- versions of limits, with everything that was learnt
ALTER TABLE baseline ADD COLUMN phase INTEGER NOT NULL DEFAULT 1;
ALTER TABLE baseline ADD COLUMN document TEXT;
UPDATE baseline SET state = 'locked' WHERE state = 'frozen';

CREATE TABLE phase (
    series_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    number INTEGER NOT NULL,
    start_id INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    cause TEXT NOT NULL,
    who TEXT,
    note TEXT,
    made_us INTEGER NOT NULL,
    PRIMARY KEY (series_id, metric, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE exclusion (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    who TEXT,
    made_us INTEGER NOT NULL,
    withdrawn_us INTEGER
) STRICT;

CREATE TABLE annotation (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    text TEXT NOT NULL,
    who TEXT,
    made_us INTEGER NOT NULL
) STRICT;

CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    opened_id INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    closed_us INTEGER,
    state TEXT NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0,
    acknowledged_us INTEGER,
    acknowledged_by TEXT,
    note TEXT
) STRICT;
CREATE INDEX incident_by_time ON incident (opened_us);

CREATE TABLE alarm (
    id INTEGER PRIMARY KEY,
    incident_id INTEGER,
    series_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    phase INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0,
    detector TEXT NOT NULL,
    direction TEXT NOT NULL,
    state TEXT NOT NULL,
    change_id INTEGER NOT NULL,
    change_us INTEGER NOT NULL,
    opened_id INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    closed_id INTEGER,
    closed_us INTEGER,
    before REAL NOT NULL,
    after REAL NOT NULL,
    size_percent REAL NOT NULL,
    size_low REAL NOT NULL,
    size_high REAL NOT NULL,
    sigmas REAL NOT NULL,
    evidence REAL NOT NULL,
    buckets INTEGER NOT NULL,
    provisional INTEGER NOT NULL,
    proposed_us INTEGER
) STRICT;
CREATE INDEX alarm_by_time ON alarm (opened_us);
CREATE INDEX alarm_by_incident ON alarm (incident_id);

-- what the charts of a series remember, as of row `row_id`: a restart goes on from there
CREATE TABLE chart_state (
    series_id INTEGER PRIMARY KEY,
    row_id INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
"""

ROLLUPS = """
-- what was seen of a series in a minute or an hour: id is ((2 * series_id + level) << 40) + slot, the level 0 for
-- minutes and 1 for hours, the slot so many of them since 1970; the document is MessagePack, a summary of each metric
CREATE TABLE rollup (
    id INTEGER PRIMARY KEY,
    seen INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;

-- the row up to which observations are in the rollups
CREATE TABLE rolled (row_id INTEGER NOT NULL) STRICT;
INSERT INTO rolled (row_id) VALUES (0);

CREATE INDEX violation_by_series ON violation (series_id, metric, last_signal_us);
"""

LOG_PAGES = """
-- a page anywhere in a long log, and how many there are of each rule, without reading the rows between
-- (50,000 of 100,000 rows, page of 1,000 at the end: 8 ms instead of 38, the counts 5 instead of 26)
CREATE INDEX violation_by_chart ON violation
    (chart, metric, superseded, first_signal_us, id, rule, series_id, last_signal_us, open, acknowledged_us);
CREATE INDEX violation_by_rule ON violation
    (chart, metric, superseded, rule, series_id, first_signal_us, last_signal_us, open, acknowledged_us);
"""

CAUSES = """
-- the part of the worst request that explains what it took longer than usual, where one does
ALTER TABLE violation ADD COLUMN cause_part TEXT;
ALTER TABLE violation ADD COLUMN cause_us INTEGER;
ALTER TABLE violation ADD COLUMN cause_usual_us INTEGER;
"""

SMALLER_ROLLUPS = """
-- the summaries of a rollup have another form now (store/summary.py): everything is rolled again from the observations
DELETE FROM rollup;
UPDATE rolled SET row_id = 0;
"""

PACKS = """
-- rows of `observation` that are days old, many in one (store/packs.py): those of the ids [first_id, last_id]
-- that were observed from from_us to to_us. When raw data is given up, the rows that are kept are packed anew.
CREATE TABLE pack (
    first_id INTEGER PRIMARY KEY,
    last_id INTEGER NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;

-- the row up to which observations were given up but for what is in `kept`, and the rolled minutes before which
CREATE TABLE given_up (row_id INTEGER NOT NULL, minutes_us INTEGER NOT NULL) STRICT;
INSERT INTO given_up (row_id, minutes_us) VALUES (0, 0);

-- observations that are never given up: [first_id, last_id] of a series, around the row `anchor_id` of a finding
CREATE TABLE kept (
    anchor_id INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    PRIMARY KEY (anchor_id, series_id)
) STRICT, WITHOUT ROWID;

-- the furthest out of all marks of a span, found without reading those that are not shown
DROP INDEX violation_by_series;
CREATE INDEX violation_by_series ON violation
    (series_id, metric, last_signal_us, superseded, first_signal_us, peak_z);

-- marks that somebody has acknowledged, few among many
CREATE INDEX violation_acknowledged ON violation (first_signal_id) WHERE acknowledged_us IS NOT NULL;

-- the last row of a series among those up to `counted_id`, which is the same for all from now on
ALTER TABLE series ADD COLUMN last_id INTEGER NOT NULL DEFAULT 0;
UPDATE series SET last_id = counted_id;
"""

ACCESS = """
-- who may use the API: of a token only its SHA-256
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    made_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER
) STRICT;

-- sessions of browsers that were ended before their time, kept until it is over
CREATE TABLE ended_session (
    id BLOB PRIMARY KEY,
    expires_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- a sender that has been silent longest makes room for a new one
ALTER TABLE sender ADD COLUMN last_us INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: tuple[str, ...] = (
    INITIAL,
    PHASES,
    ROLLUPS,
    LOG_PAGES,
    CAUSES,
    SMALLER_ROLLUPS,
    PACKS,
    ACCESS,
)
SCHEMA_VERSION = len(MIGRATIONS)


class SchemaTooNew(Exception):
    """The database was written by a newer LLMscope."""


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the database to SCHEMA_VERSION, each step in a transaction; return the version found.

    Raises SchemaTooNew when the database is ahead of this program.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema version {found}, this LLMscope knows {SCHEMA_VERSION}: "
            "install a newer LLMscope, or name another file with --db"
        )
    for version, script in enumerate(MIGRATIONS[found:], start=found + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {version};\nCOMMIT;")
    return int(found)

// What the database holds, takes and will take.

import { useEffect, useState } from "react";
import { getStorage } from "../api/client";
import type { StorageOut } from "../api/schema";
import { ABSENT, formatBytes, formatCount, formatTime, formatUtc } from "../format";
import { Dialog } from "./Dialog";

export function Storage(props: { onClose: () => void }): React.JSX.Element {
  const [storage, setStorage] = useState<StorageOut | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    getStorage().then(setStorage, (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)));
  }, []);
  return (
    <Dialog id="storage-title" title="Data on disk" className="storage" onClose={props.onClose}>
      <div className="dialog-body" tabIndex={0} role="region" aria-label="Data on disk">
        {problem !== null && (
          <p className="note" role="alert">
            This cannot be told now: {problem}
          </p>
        )}
        {problem === null && storage === null && <p className="note">Asking…</p>}
        {storage && <Facts storage={storage} />}
      </div>
    </Dialog>
  );
}

function Facts(props: { storage: StorageOut }): React.JSX.Element {
  const { storage } = props;
  const month = storage.forecast.find(({ days }) => days === 30);
  const year = storage.forecast.find(({ days }) => days === 365);
  const grows = month ? month.bytes - storage.file_bytes : 0;
  return (
    <>
      <dl className="kv">
        <dt>The database takes</dt>
        <dd>{formatBytes(storage.file_bytes)}</dd>
        {storage.unused_bytes > 0.05 * storage.file_bytes && (
          <>
            <dt>of that, free for what comes</dt>
            <dd>{formatBytes(storage.unused_bytes)}</dd>
          </>
        )}
        <dt>Free on its disk</dt>
        <dd>{formatBytes(storage.disk_free_bytes)}</dd>
        <dt>Observations</dt>
        <dd>{formatCount(storage.observations)}</dd>
        <dt>All of them since</dt>
        <dd title={storage.raw_from ? formatUtc(storage.raw_from) : undefined}>{formatTime(storage.raw_from)}</dd>
        <dt>Marks</dt>
        <dd>{formatCount(storage.violations)}</dd>
        <dt>A day brings</dt>
        <dd>{storage.observations_per_day === null ? ABSENT : `${formatCount(storage.observations_per_day)} observations`}</dd>
        <dt>In a month</dt>
        <dd>{month ? formatBytes(month.bytes) : ABSENT}</dd>
        <dt>In a year</dt>
        <dd>{year ? formatBytes(year.bytes) : ABSENT}</dd>
      </dl>
      {grows > storage.disk_free_bytes && (
        <p className="note warn" role="alert">
          The disk will be full within a month. Free some room, or keep less with --keep-raw and --keep-minutes.
        </p>
      )}
      <p className="explain">
        Single observations are kept {kept(storage.keep_raw_days)}, summaries by minute {kept(storage.keep_minutes_days)}. Summaries by
        hour, incidents and marks stay for good, and so do the 100 observations before and after each incident and each mark that
        somebody has acknowledged.{" "}
        {month ? "The forecast takes it that observations go on arriving as in the last week." : "Too little has arrived for a forecast."}
      </p>
    </>
  );
}

const kept = (days: number | null): string => (days === null ? "for good" : days === 365 ? "a year" : `${+days.toFixed(1)} days`);

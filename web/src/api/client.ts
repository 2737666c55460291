// The API as functions. Every one rejects with a sentence that can be shown.

import type {
  AboutOut,
  AcknowledgedOut,
  AnnotationOut,
  BacktestOut,
  ContextOut,
  ExclusionOut,
  HistoryOut,
  IncidentOut,
  NumbersOut,
  OverviewOut,
  PhaseListOut,
  PhaseOut,
  Problem,
  SeriesListOut,
  StorageOut,
  SessionOut,
  ViolationOut,
  ViolationPageOut,
  WindowOut,
} from "./schema";

export interface SeriesName {
  provider: string;
  model: string;
  server: string;
  source: string;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** The address of an API path under wherever the page was loaded from. */
export function apiUrl(path: string, query: Query = {}): string {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url.toString();
}

/** Told when the server no longer knows this browser. */
export const forgotten = { tell: (): void => {} };

/** Every change carries it: no form of another site can send a header. */
const PAGE = { "X-LLMscope-Page": "1" };

async function ask<T>(path: string, query: Query = {}, options: RequestInit = {}): Promise<T> {
  const headers = options.method ? { ...options.headers, ...PAGE } : options.headers;
  const answer = await fetch(apiUrl(path, query), { cache: "no-store", ...options, headers });
  if (!answer.ok) {
    if (answer.status === 401 && path !== LOGIN) forgotten.tell();
    let detail = `${answer.status} ${answer.statusText}`;
    try {
      detail = ((await answer.json()) as Problem).detail;
    } catch {
      // not a problem document: the status must do
    }
    throw new Error(detail);
  }
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

const LOGIN = "api/login";
export const getSession = (): Promise<SessionOut> => ask("api/session");
export const logIn = (password: string): Promise<void> => ask(LOGIN, {}, json("POST", { password }));
export const logOut = (): Promise<void> => ask("api/logout", {}, { method: "POST" });

export const CHART_FIELDS = "ids,times_ms,values,oks,eval_counts";

export const getAbout = (): Promise<AboutOut> => ask("api/about");
export const getStorage = (): Promise<StorageOut> => ask("api/storage");
export const getSeries = (): Promise<SeriesListOut> => ask("api/series");

export function getWindow(
  series: SeriesName,
  metric: string,
  hours: number,
  since?: string,
  fields = CHART_FIELDS,
): Promise<WindowOut> {
  return ask("api/stats/spc", { ...names(series), metric, hours, since, fields });
}

export function getNumbers(series: SeriesName, metric: string, hours: number): Promise<NumbersOut> {
  return ask("api/stats/numbers", { ...names(series), metric, hours });
}

/** Any span of a series; at most about `width` stretches of time when there are too many points. */
export function getHistory(series: SeriesName, metric: string, from: number, to: number, width: number): Promise<HistoryOut> {
  const moments = { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
  return ask("api/history", { ...names(series), metric, ...moments, width });
}

export const getOverview = (metric: string, hours: number): Promise<OverviewOut> => ask("api/overview", { metric, hours });

export function getViolations(query: Query): Promise<ViolationPageOut> {
  return ask("api/violations", query);
}

export function getContext(id: number, points = 10): Promise<ContextOut> {
  return ask(`api/violations/${id}/context`, { points });
}

export function acknowledge(id: number, who: string, note: string): Promise<ViolationOut> {
  return ask(`api/violations/${id}/acknowledge`, {}, json("POST", { who, note: note || null }));
}

export function acknowledgeMany(ids: readonly number[], who: string, note: string): Promise<AcknowledgedOut> {
  return ask("api/violations/acknowledge", {}, json("POST", { ids, who, note: note || null }));
}

export function unacknowledge(id: number): Promise<ViolationOut> {
  return ask(`api/violations/${id}/acknowledge`, {}, { method: "DELETE" });
}

export function acknowledgeIncident(id: number, who: string, note: string): Promise<IncidentOut> {
  return ask(`api/incidents/${id}/acknowledgement`, {}, json("PUT", { who: who || null, note: note || null }));
}

/** Take the new level of an open incident as normal: a phase begins where it changed. */
export function acceptIncident(id: number, who: string): Promise<PhaseOut[]> {
  return ask(`api/incidents/${id}/accept`, {}, json("POST", { who: who || null }));
}

/** Begin a phase at a moment, now when it is null: limits are learnt anew from there on. */
export function beginPhase(
  seriesId: number,
  phase: { at: string | null; metric: string | null; cause: string; who: string; note: string },
): Promise<PhaseListOut> {
  const { at, metric, cause, who, note } = phase;
  return ask(`api/series/${seriesId}/phases`, {}, json("POST", { at, metric, cause, who: who || null, note: note || null }));
}

/** Leave observations out of learning and judging. */
export function exclude(seriesId: number, from: string, to: string, reason: string, who: string): Promise<ExclusionOut> {
  return ask(`api/series/${seriesId}/exclusions`, {}, json("POST", { from, to, reason, who: who || null }));
}

export function withdrawExclusion(seriesId: number, id: number): Promise<ExclusionOut> {
  return ask(`api/series/${seriesId}/exclusions/${id}`, {}, { method: "DELETE" });
}

export function annotate(seriesId: number, time: string, text: string, who: string): Promise<AnnotationOut> {
  return ask(`api/series/${seriesId}/annotations`, {}, json("POST", { time, text, who: who || null }));
}

/** Judge what is stored by another configuration; `getBacktest` tells how far it is. */
export const startBacktest = (asked: Record<string, unknown>): Promise<BacktestOut> => ask("api/backtest", {}, json("POST", asked));
export const getBacktest = (id: number): Promise<BacktestOut> => ask(`api/backtest/${id}`);
export const cancelBacktest = (id: number): Promise<BacktestOut> => ask(`api/backtest/${id}`, {}, { method: "DELETE" });

const json = (method: string, body: unknown): RequestInit => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/** A series as query parameters; an empty server is one too. */
export function names(series: SeriesName): Query {
  const { provider, model, server, source } = series;
  return server ? { provider, model, server, source } : { provider, model, source };
}

export function sameSeries(a: SeriesName, b: SeriesName): boolean {
  return a.provider === b.provider && a.model === b.model && a.server === b.server && a.source === b.source;
}

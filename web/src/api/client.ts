// The API as functions. Every one rejects with a sentence that can be shown.

import type { AboutOut, ContextOut, IncidentOut, PhaseOut, Problem, SeriesListOut, ViolationOut, ViolationPageOut, WindowOut } from "./schema";

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

async function ask<T>(path: string, query: Query = {}, options: RequestInit = {}): Promise<T> {
  const answer = await fetch(apiUrl(path, query), { cache: "no-store", ...options });
  if (!answer.ok) {
    let detail = `${answer.status} ${answer.statusText}`;
    try {
      detail = ((await answer.json()) as Problem).detail;
    } catch {
      // not a problem document: the status must do
    }
    throw new Error(detail);
  }
  return (await answer.json()) as T;
}

export const CHART_FIELDS = "ids,times_ms,values,oks,eval_counts";

export const getAbout = (): Promise<AboutOut> => ask("api/about");
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

export function getViolations(query: Query): Promise<ViolationPageOut> {
  return ask("api/violations", query);
}

export const getViolation = (id: number): Promise<ViolationOut> => ask(`api/violations/${id}`);

export function getContext(id: number, points = 10): Promise<ContextOut> {
  return ask(`api/violations/${id}/context`, { points });
}

export function acknowledge(id: number, who: string, note: string): Promise<ViolationOut> {
  return ask(
    `api/violations/${id}/acknowledge`,
    {},
    {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ who, note: note || null }),
    },
  );
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

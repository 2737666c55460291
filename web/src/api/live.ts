// The live stream with our own reconnection: while it is away we poll, and nothing is missed or doubled.

import { apiUrl, type Query } from "./client";
import type { AboutOut, IncidentOut, LimitsEventOut, LiveObservationOut, StatusEventOut, SystemOut, ViolationOut } from "./schema";

const WAITS_S = [1, 2, 4, 8, 15];
export const POLL_EVERY_MS = 2000;
const SILENT_AFTER_MS = 40_000; // the server says something every 15 s

export interface LiveHandlers {
  observation(event: LiveObservationOut): void;
  violation(event: ViolationOut): void;
  incident(event: IncidentOut): void;
  limits(event: LimitsEventOut): void;
  system(event: SystemOut): void;
  status(event: StatusEventOut): void;
  about(event: AboutOut): void;
  reset(): void;
  connected(): void;
  /** The stream is away; it is tried again at `retryAt` (ms since 1970). */
  disconnected(retryAt: number): void;
  /** Called every 2 s while the stream is away. */
  poll(): void;
}

/** Listens until `close`. `cursor` is where to go on after a break. */
export class Live {
  private source: EventSource | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private polling: ReturnType<typeof setInterval> | undefined;
  private watchdog: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  constructor(
    private readonly query: Query,
    public cursor: string,
    private readonly handlers: LiveHandlers,
  ) {
    this.open();
  }

  close(): void {
    this.closed = true;
    this.source?.close();
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    clearInterval(this.polling);
  }

  /** Try again now. */
  retry(): void {
    clearTimeout(this.timer);
    this.open();
  }

  private open(): void {
    if (this.closed) return;
    this.source?.close();
    const source = new EventSource(apiUrl("api/stream", { ...this.query, last_event_id: this.cursor }));
    this.source = source;
    const on = <K extends "violation" | "incident" | "limits" | "system" | "status" | "about">(kind: K): void => {
      source.addEventListener(kind, (event) => {
        this.heard();
        this.handlers[kind](JSON.parse((event as MessageEvent<string>).data));
      });
    };
    for (const kind of ["violation", "incident", "limits", "system", "status", "about"] as const) on(kind);
    source.addEventListener("observation", (event) => {
      this.heard();
      const message = event as MessageEvent<string>;
      this.handlers.observation(JSON.parse(message.data) as LiveObservationOut);
      this.cursor = message.lastEventId || this.cursor;
    });
    source.addEventListener("reset", (event) => {
      this.cursor = (event as MessageEvent<string>).lastEventId || this.cursor;
      this.handlers.reset();
    });
    source.onopen = () => {
      this.tries = 0;
      clearInterval(this.polling);
      this.polling = undefined;
      this.heard();
      this.handlers.connected();
    };
    source.onerror = () => this.lost();
  }

  private heard(): void {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.lost(), SILENT_AFTER_MS);
  }

  private lost(): void {
    this.source?.close();
    this.source = null;
    clearTimeout(this.watchdog);
    clearTimeout(this.timer);
    if (this.closed) return;
    const wait = 1000 * (WAITS_S[Math.min(this.tries++, WAITS_S.length - 1)] ?? 15);
    this.timer = setTimeout(() => this.open(), wait);
    this.polling ??= setInterval(() => this.handlers.poll(), POLL_EVERY_MS);
    this.handlers.disconnected(Date.now() + wait);
  }
}

// Where the data comes from: the window of a series, then what happens, over the stream and by polling while that is away.

import { useEffect, useRef } from "react";
import { flushSync } from "react-dom";
import { getAbout, getHistory, getNumbers, getSeries, getWindow, names, sameSeries, type SeriesName } from "./api/client";
import { Live } from "./api/live";
import type { LiveObservationOut, SeriesOut, SystemOut, ViolationOut } from "./api/schema";
import { valueOf } from "./chart/lines";
import { formatClock, formatNumber } from "./format";
import type { Points } from "./points";
import { metricText } from "./rules";
import { isLive, judgedMetric, mostRecent, type Action, type Range, type Span, type State, type View } from "./state";

const LOOK_FOR_SERIES_MS = 5_000;
const LOOK_AGAIN_MS = 60_000; // once there is something to watch
const NUMBERS_EVERY_MS = 15_000;
const HISTORY_EVERY_MS = 60_000;
const TELL_EVERY_MS = 200; // points go to the chart at once, to the tiles so often at most
const READINGS_WAIT_MS = 1_200; // they come with the next point, or after so long
const SPEAK_EVERY_MS = 30_000;
const STRETCHES = 480;
const ZOOM_SETTLES_MS = 120;

export type Dispatch = React.ActionDispatch<[Action]>;

/** Knows which series there are, and chooses one when none is; several of them are shown in the overview first. */
export function useSeries(state: State, dispatch: Dispatch): void {
  const known = useRef(state);
  known.current = state;
  const { connection } = state;
  const hasSeries = (state.series?.length ?? 0) > 0;
  useEffect(() => {
    let stopped = false;
    const look = async (): Promise<void> => {
      try {
        const [about, { series }] = await Promise.all([getAbout(), getSeries()]);
        if (stopped) return;
        dispatch({ type: "about", about });
        dispatch({ type: "series", series });
        choose(known.current.view, series, dispatch);
      } catch {
        // the live connection says that the API is away, and counts down
      }
    };
    void look();
    const timer = setInterval(() => void look(), hasSeries ? LOOK_AGAIN_MS : LOOK_FOR_SERIES_MS);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [dispatch, hasSeries, connection.kind]);
}

function choose(view: View, series: readonly SeriesOut[], dispatch: Dispatch): void {
  const chosen = view.series;
  const best = mostRecent(series);
  if (!best) return;
  const isGone = chosen === null || !series.some((s) => sameSeries(s, chosen));
  const realAppeared = chosen?.source === "simulator" && best.source !== "simulator" && best.status.state !== "stale";
  if (!isGone && !realAppeared) return;
  const { provider, model, server, source } = best;
  const several = series.some((one) => one.id !== best.id);
  if (chosen === null && several && view.open === null) dispatch({ type: "view", view: { screen: "overview" } });
  dispatch({ type: "choose", series: { provider, model, server, source } });
}

/** What hears of violations beside the state: the log. */
export interface Hears {
  violation(violation: ViolationOut): void;
  changed(): void; // more than can be told: to be asked for again
}

/** Loads what the view shows and follows it. */
export function useFollow(
  view: View,
  points: Points,
  held: React.RefObject<Live | null>,
  dispatch: Dispatch,
  speak: (text: string) => void,
  hears: Hears,
): React.RefObject<Follower | null> {
  const { series, range, zoom } = view;
  const metric = judgedMetric(view.metric);
  const shown = view.screen === "series";
  const follower = useRef<Follower | null>(null);
  const zoomed = useRef(zoom);
  zoomed.current = zoom;
  useEffect(() => {
    if (!series || !shown) return undefined;
    const one = new Follower(series, metric, range, () => zoomed.current, points, dispatch, speak, hears, held);
    follower.current = one;
    one.start();
    return () => one.stop();
  }, [series, metric, range, shown, points, held, dispatch, speak, hears]);
  useEffect(() => {
    if (isLive(range)) return undefined; // its points are here
    const timer = setTimeout(() => void follower.current?.reload(), ZOOM_SETTLES_MS);
    return () => clearTimeout(timer);
  }, [range, zoom]);
  return follower;
}

function spanOf(range: Range): Span {
  if (!("hours" in range)) return { from: range.from / 1000, to: range.to / 1000 };
  const to = Date.now() / 1000;
  return { from: to - range.hours * 3600, to };
}

/** Follows one series over one range until it is stopped. */
export class Follower {
  private stopped = false;
  private cursor = "";
  private loaded: View["zoom"] = null; // the part of a long range that was asked for last
  private live: Live | null = null;
  private readonly timers: ReturnType<typeof setInterval>[] = [];
  private untold: LiveObservationOut[] = [];
  private readings: SystemOut[] = [];
  private tellingAt = 0;
  private telling: ReturnType<typeof setTimeout> | undefined;
  private phase: number | null = null;
  private wasAway = false;
  private toldAt = 0;
  private spokeAt = 0;

  constructor(
    private readonly series: SeriesName,
    private readonly metric: string,
    private readonly range: Range,
    private readonly zoom: () => View["zoom"],
    private readonly points: Points,
    private readonly dispatch: Dispatch,
    private readonly speak: (text: string) => void,
    private readonly hears: Hears,
    private readonly held: React.RefObject<Live | null>,
  ) {}

  start(): void {
    void this.begin();
    const { range } = this;
    if (isLive(range)) {
      this.timers.push(setInterval(() => void this.numbers(range.hours), NUMBERS_EVERY_MS));
    } else if ("hours" in range) {
      this.timers.push(setInterval(() => void this.load(), HISTORY_EVERY_MS));
    }
  }

  stop(): void {
    this.stopped = true;
    for (const timer of this.timers) clearInterval(timer);
    clearTimeout(this.telling);
    this.live?.close();
    this.held.current = null;
  }

  private async begin(): Promise<void> {
    while (!(await this.load())) {
      if (this.stopped) return;
      this.dispatch({ type: "connection", connection: { kind: "retrying", at: Date.now() + 2000 } });
      await new Promise((resolve) => setTimeout(resolve, 2000));
      if (this.stopped) return;
    }
    if (!this.stopped) this.listen();
  }

  /** Load everything again: after a decision that judges anew. */
  async again(): Promise<void> {
    this.hears.changed();
    await this.load();
  }

  /** Load another part of a long range. */
  async reload(): Promise<void> {
    if (this.zoom() !== this.loaded) await this.load();
  }

  private async load(): Promise<boolean> {
    const { series, metric, range } = this;
    try {
      if (isLive(range)) {
        const window = await getWindow(series, metric, range.hours);
        if (this.stopped) return true;
        this.points.load(window);
        this.cursor = window.cursor;
        this.dispatch({ type: "window", window });
      } else {
        const whole = spanOf(range);
        const asked = this.zoom();
        const [from, to] = asked ?? [whole.from * 1000, whole.to * 1000];
        this.loaded = asked;
        const history = await getHistory(series, metric, from, to, STRETCHES);
        if (this.stopped || asked !== this.loaded) return true;
        this.points.load(history.points ?? {});
        this.dispatch({ type: "history", history, whole });
      }
      return true;
    } catch (error) {
      if (!this.stopped) this.dispatch({ type: "failed", error: (error as Error).message });
      return false;
    }
  }

  private async numbers(hours: number): Promise<void> {
    try {
      const numbers = await getNumbers(this.series, this.metric, hours);
      if (!this.stopped) this.dispatch({ type: "numbers", numbers });
    } catch {
      // the stream says when the API is away
    }
  }

  private async poll(): Promise<void> {
    if (!isLive(this.range)) return;
    try {
      const window = await getWindow(this.series, this.metric, this.range.hours, this.cursor);
      if (this.stopped) return;
      this.points.append(window);
      this.cursor = window.cursor;
      if (this.live) this.live.cursor = window.cursor;
      this.dispatch({ type: "delta", window });
    } catch {
      // still away: the countdown goes on
    }
  }

  private listen(): void {
    const { dispatch } = this;
    this.live = new Live({ ...names(this.series), metric: this.metric }, this.cursor, {
      observation: (observation) => this.observed(observation),
      violation: (violation) => {
        if (isLive(this.range)) dispatch({ type: "violation", violation });
        this.hears.violation(violation);
        this.announce(violation);
      },
      incident: (incident) => dispatch({ type: "incident", incident }),
      limits: (limits) => {
        dispatch({ type: "limits", limits });
        const phase = limits.spc.limits.at(-1)?.phase ?? null;
        if (this.phase !== null && phase !== this.phase) this.hears.changed(); // marks judged again are others
        this.phase = phase;
      },
      system: (system) => {
        this.readings.push(system);
        this.soon(READINGS_WAIT_MS);
      },
      status: (event) => dispatch({ type: "status", status: event.status }),
      about: (about) => dispatch({ type: "about", about }),
      reset: () => {
        void this.again();
      },
      connected: () => {
        dispatch({ type: "connection", connection: { kind: "live" } });
        if (this.wasAway) this.hears.changed();
        this.wasAway = false;
      },
      disconnected: (at) => {
        this.wasAway = true;
        dispatch({ type: "connection", connection: { kind: "retrying", at } });
      },
      poll: () => void this.poll(),
    });
    this.held.current = this.live;
  }

  private observed(observation: LiveObservationOut): void {
    if (isLive(this.range)) {
      if (!this.points.add(observation, valueOf(this.metric, observation))) return;
      this.points.dropBefore(Date.now() / 1000 - this.range.hours * 3600);
    }
    this.untold.push(observation);
    this.soon(Math.max(0, this.toldAt + TELL_EVERY_MS - Date.now()));
  }

  /** Tell what has gathered in the frame in which the chart draws it: one layout and one painting for both. */
  private soon(wait: number): void {
    if (this.telling !== undefined && this.tellingAt <= Date.now() + wait) return;
    clearTimeout(this.telling);
    this.tellingAt = Date.now() + wait;
    this.telling = setTimeout(() => (document.hidden ? this.tell() : requestAnimationFrame(() => this.tell())), wait);
  }

  private tell(): void {
    this.telling = undefined;
    this.toldAt = Date.now();
    if (this.stopped) return;
    const [observations, readings] = [this.untold, this.readings];
    this.untold = [];
    this.readings = [];
    flushSync(() => {
      for (const system of readings) this.dispatch({ type: "system", system });
      if (observations.length) this.dispatch({ type: "observations", observations });
    });
  }

  private announce(violation: ViolationOut): void {
    if (violation.severity !== "critical" || violation.count > 1 || Date.now() - this.spokeAt < SPEAK_EVERY_MS) return;
    this.spokeAt = Date.now();
    const { unit } = metricText(violation.metric);
    this.speak(`Critical: ${violation.rule} at ${formatClock(violation.first_signal)}, ${formatNumber(violation.value, 2)} ${unit}`);
  }
}

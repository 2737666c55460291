import { expect, test } from "vitest";
import type { Query } from "./api/client";
import type { ViolationOut } from "./api/schema";
import { LogRows, PAGE, logQuery, parametersOf, passes, type LogPage } from "./log";
import { viewOf } from "./state";

const NOON = Date.parse("2026-03-01T12:00:00Z");
const SERIES = { provider: "ollama", model: "m", server: "s", source: "probe" };

/** The violation of an id, one every second; the higher the id the newer. */
const violation = (id: number, changes: Partial<ViolationOut> = {}): ViolationOut =>
  ({
    id,
    ...SERIES,
    metric: "latency",
    chart: "points",
    rule: id % 4 === 0 ? "R1" : "R2",
    severity: id % 4 === 0 ? "critical" : "warning",
    first_signal: new Date(NOON + id * 1000).toISOString(),
    last_signal: new Date(NOON + id * 1000).toISOString(),
    open: false,
    count: 1,
    superseded: false,
    acknowledged_at: null,
    acknowledged_by: null,
    note: null,
    ...changes,
  }) as ViolationOut;

const view = viewOf("?provider=ollama&model=m&server=s&from=2026-03-01T00:00:00Z&to=2026-03-02T23:00:00Z");
const query = (changes: Partial<typeof view> = {}): NonNullable<ReturnType<typeof logQuery>> => {
  const found = logQuery({ ...view, ...changes });
  if (!found) throw new Error("no series");
  return found;
};

/** A server whose answers wait until they are let go, one at a time. */
class Server {
  asked: { query: Query; answer: () => Promise<void>; fail: (reason: string) => Promise<void> }[] = [];
  constructor(public held: ViolationOut[]) {}

  fetch = (asked: Query): Promise<LogPage> =>
    new Promise((resolve, reject) => {
      const settle = async (doing: () => void): Promise<void> => {
        this.asked = this.asked.filter((one) => one.query !== asked);
        doing();
        await new Promise((done) => setTimeout(done));
      };
      const answer = (): Promise<void> =>
        settle(() => {
          const rules = asked.rule ? String(asked.rule).split(",") : null;
          const admitted = this.held.filter((v) => !rules || rules.includes(v.rule));
          const counts: Record<string, number> = {};
          for (const v of this.held) counts[v.rule] = (counts[v.rule] ?? 0) + 1;
          const offset = Number(asked.offset);
          resolve({ violations: admitted.slice(offset, offset + Number(asked.limit)), total: admitted.length, counts });
        });
      this.asked.push({ query: asked, answer, fail: (reason) => settle(() => reject(new Error(reason))) });
    });

  /** Answer until nothing more is asked. */
  async settle(): Promise<void> {
    for (let i = 0; i < 50 && this.asked.length; i++) await this.asked[0]?.answer();
  }
}

const newestFirst = (count: number): ViolationOut[] => Array.from({ length: count }, (_, i) => violation(count - i));

async function opened(count: number, changes: Partial<typeof view> = {}): Promise<{ log: LogRows; server: Server }> {
  const server = new Server(newestFirst(count));
  const log = new LogRows(server.fetch);
  log.ask(query(changes));
  await server.settle();
  return { log, server };
}

test("only what is looked at is loaded, a page at a time", async () => {
  const { log, server } = await opened(50_000);
  expect(log.total).toBe(50_000);
  expect(log.row(0)?.id).toBe(50_000);
  expect(log.row(30_000)).toBeNull();

  log.need(30_000, 30_020);
  expect(server.asked.map((one) => one.query.offset)).toEqual([29_800, 30_000]);
  await server.settle();
  expect(log.row(30_010)?.id).toBe(19_990);
  expect(log.indexOf(19_990)).toBe(30_010);
  expect(log.loaded.size).toBe(3 * PAGE);
});

test("the end of a list that grew shorter is where a short page ends", async () => {
  const { log, server } = await opened(450);
  server.held = server.held.slice(0, 410);
  log.need(400, 450);
  await server.settle();

  expect(log.total).toBe(410);
  expect(server.asked).toEqual([]);
});

test("a live violation comes in at the top while the view is deep in the list, and every row keeps its neighbours", async () => {
  const { log, server } = await opened(1000);
  log.need(500, 520);
  await server.settle();
  const deep = log.row(510)?.id ?? 0;
  server.held = [violation(1001), ...server.held];
  log.apply(violation(1001));

  expect(log.total).toBe(1001);
  expect(log.row(0)?.id).toBe(1001);
  expect(log.indexOf(deep)).toBe(511);
  log.need(700, 720);
  await server.settle();
  expect(log.row(700)?.id).toBe(301);
  expect(log.indexOf(deep)).toBe(511);
});

test("a violation that goes on is replaced where it stands, and counted once", async () => {
  const { log } = await opened(10);
  log.apply(violation(11, { open: true }));
  log.apply(violation(11, { open: true, count: 2 }));
  log.apply(violation(7, { acknowledged_by: "ann", acknowledged_at: "2026-03-01T13:00:00Z" }));

  expect(log.total).toBe(11);
  expect(log.row(0)?.count).toBe(2);
  expect(log.row(4)?.acknowledged_by).toBe("ann");
  expect(log.counts).toEqual({ R1: 2, R2: 9 });
});

test("what began before the rows that are loaded is not taken for new", async () => {
  const { log } = await opened(1000);
  log.apply(violation(3, { open: true, count: 40 }));

  expect(log.total).toBe(1000);
});

test("counts are those of every rule, the total is of those pressed", async () => {
  const { log } = await opened(400, { rules: ["R1"] });
  expect(log.total).toBe(100);
  expect(log.counts).toEqual({ R1: 100, R2: 300 });

  log.apply(violation(401));
  log.apply(violation(401));
  log.apply(violation(401, { count: 2 }));
  log.apply(violation(404));
  expect(log.counts).toEqual({ R1: 101, R2: 301 });
  expect(log.total).toBe(101);
});

test("what is superseded leaves the list", async () => {
  const { log } = await opened(10);
  log.apply(violation(8, { superseded: true }));

  expect(log.total).toBe(9);
  expect(log.idsBetween(0, 8)).toEqual([10, 9, 7, 6, 5, 4, 3, 2, 1]);
  expect(log.counts).toEqual({ R1: 1, R2: 8 });
});

test("an answer to the query before is passed over", async () => {
  const server = new Server(newestFirst(400));
  const log = new LogRows(server.fetch);
  log.ask(query({ rules: ["R1"] }));
  const [late] = server.asked;
  log.ask(query({ rules: ["R2"] }));
  await server.asked[1]?.answer();
  await late?.answer();

  expect(log.total).toBe(300);
  expect(log.row(0)?.rule).toBe("R2");
});

test("rows stay in sight while other filters are asked for, and go when the series changes", async () => {
  const { log, server } = await opened(40);
  log.ask(query({ severity: "critical" }));
  expect([log.loading, log.total]).toEqual([true, 40]);

  log.ask(query({ metric: "ttft" }));
  expect([log.loading, log.total, log.row(0)]).toEqual([true, null, null]);
  await server.settle();
  expect(log.loading).toBe(false);
});

test("a page on its way while a row comes in is asked for again", async () => {
  const { log, server } = await opened(1000);
  log.need(200, 220);
  const before = server.asked.length;
  log.apply(violation(1001));
  server.held = [violation(1001), ...server.held];
  await server.asked[0]?.answer();

  expect(server.asked.length).toBe(before);
  await server.settle();
  expect(log.row(200)?.id).toBe(801);
});

test("when a page says otherwise than the rows before, the page is believed and the rest read again", async () => {
  const { log, server } = await opened(1000);
  server.held = [violation(1001), ...server.held]; // never heard of
  log.need(190, 210);
  await server.settle();

  expect(log.idsBetween(190, 210)).toEqual(Array.from({ length: 21 }, (_, i) => 811 - i));
  expect(log.total).toBe(1001);
});

test("a server that does not keep to the offsets is given up, with a sentence", async () => {
  const server = new Server(newestFirst(600));
  const log = new LogRows((asked) => server.fetch({ ...asked, offset: 0 }));
  log.ask(query());
  await server.settle();
  log.need(100, 300);
  await server.settle();

  expect(server.asked).toEqual([]);
  expect(log.error).toContain("does not hold still");
});

test("what was heard while the first page was on its way is not lost and not doubled", async () => {
  const server = new Server(newestFirst(20));
  const log = new LogRows(server.fetch);
  log.ask(query());
  log.apply(violation(20, { count: 3 }));
  log.apply(violation(21));
  await server.settle();

  expect(log.total).toBe(21);
  expect(log.idsBetween(0, 2)).toEqual([21, 20, 19]);
  expect(log.row(1)?.count).toBe(3);
});

test("an error is a sentence, and trying again goes on", async () => {
  const server = new Server(newestFirst(20));
  const log = new LogRows(server.fetch);
  log.ask(query());
  await server.asked[0]?.fail("the database is locked");
  expect(log.error).toBe("the database is locked");
  expect(server.asked).toEqual([]);

  log.retry();
  await server.settle();
  expect([log.error, log.total]).toEqual([null, 20]);
});

test("a neighbour that is not here is loaded, and told once it is", async () => {
  const { log, server } = await opened(1000);
  expect(log.neighbour(1000, -1)).toBeNull();
  expect(log.neighbour(1000, 1)).toBe(999);
  expect(log.neighbour(801, 1)).toBeNull();

  await server.settle();
  expect(log.neighbour(801, 1)).toBe(800);
  expect(log.neighbour(123_456, 1)).toBeNull();
});

test("only so many rows are held, those around the view", async () => {
  const { log, server } = await opened(50_000);
  for (let at = 0; at < 30_000; at += PAGE) {
    log.need(at, at + 20);
    await server.settle();
  }

  expect(log.loaded.size).toBeLessThanOrEqual(10_000 + PAGE);
  expect(log.row(29_800)?.id).toBe(20_200);
});

test("a query is asked as the API takes it", () => {
  const asked = query({ standing: "unseen", search: " load ", rules: ["R1", "R3"], models: "all", severity: "critical" });
  expect(parametersOf(asked)).toMatchObject({
    rule: "R1,R3",
    acknowledged: false,
    open: null,
    severity: "critical",
    search: "load",
    from: "2026-03-01T00:00:00.000Z",
  });
  expect(parametersOf(asked)).not.toHaveProperty("model");
  expect(parametersOf(query({ range: { hours: 6 } }))).toMatchObject({ hours: 6, model: "m", severity: null, open: null });
});

test("a live violation passes by the same filters", () => {
  const one = violation(4, { open: true, note: "backup job" });
  const now = NOON + 10_000;
  expect(passes(query(), one, now)).toBe(true);
  expect(passes(query({ standing: "open" }), one, now)).toBe(true);
  expect(passes(query({ standing: "ended" }), one, now)).toBe(false);
  expect(passes(query({ standing: "unseen" }), one, now)).toBe(true);
  expect(passes(query({ search: "BACKUP" }), one, now)).toBe(true);
  expect(passes(query({ search: "other" }), one, now)).toBe(false);
  expect(passes(query({ metric: "ttft" }), one, now)).toBe(false);
  expect(passes(query(), { ...one, model: "n" }, now)).toBe(false);
  expect(passes(query({ models: "all" }), { ...one, model: "n" }, now)).toBe(true);
  expect(passes(query({ range: { hours: 1 } }), one, now + 4_000_000)).toBe(false);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffMs } from "../../src/live/backoff.ts";
import {
  BUFFER_LIMIT,
  type Command,
  CROWDED_OUT_LIMIT,
  type Input,
  initial,
  type LiveState,
  SILENCE_LIMIT_MS,
  step,
} from "../../src/live/machine.ts";
import type { LiveEvent } from "../../src/live/protocol.ts";
import { statusOf } from "../../src/live/status.ts";

type Snapshot = string;

/** Feeds inputs one after the other and remembers what was commanded since last asked. */
class Recording {
  state: LiveState = initial("1");
  now = 0;
  #commands: Command<Snapshot>[] = [];

  give(...inputs: Input<Snapshot>[]): this {
    for (const input of inputs) {
      const [state, commands] = step(this.state, input, { now: this.now, random: 0 });
      this.state = state;
      this.#commands.push(...commands);
    }
    return this;
  }

  take<Do extends Command<Snapshot>["do"]>(what: Do): Extract<Command<Snapshot>, { do: Do }>[] {
    const taken = this.#commands.filter((command) => command.do === what);
    this.#commands = [];
    return taken as Extract<Command<Snapshot>, { do: Do }>[];
  }

  get at(): string {
    return this.state.phase.at;
  }
}

const event = (offset: number): LiveEvent => ({ offset, ts: 0, type: "other" });
const subscribed = (epoch: number, offset: number, recovered = false): Input<Snapshot> => ({
  type: "frame",
  frame: { op: "subscribed", guild_id: "1", epoch, offset, recovered },
});
const events = (epoch: number, ...offsets: number[]): Input<Snapshot> => ({
  type: "frame",
  frame: { op: "events", guild_id: "1", epoch, events: offsets.map(event) },
});
const loaded = (load: number): Input<Snapshot> => ({ type: "loaded", load, snapshot: `state ${load}` });
const offsets = (applied: { events: LiveEvent[] }[]) =>
  applied.flatMap((one) => one.events.map((e) => e.offset));

function live(): Recording {
  const machine = new Recording().give({ type: "start" }, { type: "opened" }, subscribed(7, 120), loaded(1));
  machine.take("reset");
  return machine;
}

test("asks for state only once it has its place in the stream", () => {
  const machine = new Recording().give({ type: "start" }, { type: "opened" });
  assert.deepEqual(machine.take("load"), []);
  machine.give(subscribed(7, 120));
  assert.deepEqual(machine.take("load"), [{ do: "load", load: 1 }]);
  assert.equal(statusOf(machine.state).kind, "connecting");
});

test("keeps what arrives while the state is read, and applies it after", () => {
  const machine = new Recording().give({ type: "start" }, { type: "opened" }, subscribed(7, 120));
  machine.give(events(7, 121, 122));
  assert.deepEqual(machine.take("apply"), []);
  machine.give(loaded(1));
  assert.deepEqual(offsets(machine.take("apply")), [121, 122]);
  assert.equal(statusOf(machine.state).kind, "live");
});

test("passes over events it has seen", () => {
  const machine = live().give(events(7, 121), events(7, 121), events(7, 120, 121, 122));
  assert.deepEqual(offsets(machine.take("apply")), [121, 122]);
});

for (const [name, frame] of [
  ["a hole before the frame", events(7, 123)],
  ["a hole inside the frame", events(7, 121, 123)],
  ["a new epoch", events(8, 1)],
] as const) {
  test(`${name} makes it read the state again`, () => {
    const machine = live().give(frame);
    assert.deepEqual(machine.take("load"), [{ do: "load", load: 2 }]);
    assert.equal(machine.at, "syncing");
    machine.give(loaded(1));
    assert.equal(machine.at, "syncing", "the answer of the load from before must not count");
    machine.give(loaded(2));
    assert.equal(machine.at, "live");
  });
}

test("a stream that keeps breaking does not become a flood of requests", () => {
  const machine = live().give(events(7, 130), loaded(2));
  machine.take("load");
  machine.give(events(7, 140));
  assert.deepEqual(machine.take("load"), []);
  machine.give({ type: "timer", timer: "reload" });
  assert.equal(machine.take("load").length, 1);
});

test("resumes where it was, and needs no state when the server remembers", () => {
  const machine = live().give(events(7, 121), { type: "closed", code: 1006 });
  machine.take("apply");
  machine.give({ type: "timer", timer: "reconnect" }, { type: "opened" });
  assert.deepEqual(machine.take("send")[0]?.frame, { op: "subscribe", guild_id: "1", epoch: 7, offset: 121 });
  machine.give(subscribed(7, 123, true), events(7, 122, 123));
  assert.equal(machine.at, "live");
  assert.deepEqual(offsets(machine.take("apply")), [122, 123]);
});

test("an answer that names the resumed place instead of the head works as well", () => {
  const machine = live().give({ type: "closed", code: 1006 }, { type: "timer", timer: "reconnect" });
  machine.give({ type: "opened" }, subscribed(7, 120, true), events(7, 121));
  assert.deepEqual(offsets(machine.take("apply")), [121]);
});

test("a promised replay that does not come is not waited for for ever", () => {
  const machine = live().give({ type: "closed", code: 1006 }, { type: "timer", timer: "reconnect" });
  machine.give({ type: "opened" }, subscribed(7, 125, true));
  machine.take("load");
  machine.give({ type: "timer", timer: "replay" });
  assert.equal(machine.take("load").length, 1);
});

test("reads the state again when the server does not remember, or says so of another epoch", () => {
  for (const answer of [subscribed(7, 500, false), subscribed(8, 3, true), subscribed(7, 60, true)]) {
    const machine = live().give({ type: "closed", code: 1006 }, { type: "timer", timer: "reconnect" });
    machine.give({ type: "opened" }, answer);
    assert.equal(machine.take("load").length, 1);
  }
});

test("a connection that ends before the state was read leaves nothing to resume", () => {
  const machine = new Recording().give(
    { type: "start" },
    { type: "opened" },
    subscribed(7, 120),
    events(7, 121),
  );
  machine.give({ type: "closed", code: 1006 }, { type: "timer", timer: "reconnect" }, { type: "opened" });
  assert.deepEqual(machine.take("send").at(-1)?.frame, { op: "subscribe", guild_id: "1" });
});

test("without a stream it still shows what there is, and does not call it live", () => {
  const machine = new Recording().give({ type: "start" }, { type: "closed", code: 1006 });
  assert.deepEqual(machine.take("load"), [{ do: "load", load: 1 }]);
  machine.give(loaded(1));
  assert.equal(machine.take("reset").length, 1);
  assert.equal(statusOf(machine.state).kind, "reconnecting");
});

test("closing codes say what to do", () => {
  const after = (code: number) => live().give({ type: "closed", code });
  assert.deepEqual(after(4001).state.phase, { at: "ended", why: "session_over" });
  assert.deepEqual(after(4003).state.phase, { at: "ended", why: "not_allowed" });
  assert.equal(after(4008).at, "waiting");
  assert.notEqual(after(4008).state.position, null);
  assert.equal(after(4010).state.position, null, "what the server did not take is not said again");
  assert.equal(after(1012).take("set_timer").at(-1)?.after, 500);
  assert.equal(after(1006).take("set_timer").at(-1)?.after, 500);
  assert.equal(after(4011).take("set_timer").at(-1)?.after, 500);
  for (const code of [1013, 4029]) {
    assert.notEqual(after(code).state.position, null);
    assert.equal(after(code).take("set_timer").at(-1)?.after, 8000, "what is counted comes back slowly");
  }
});

test("one window too many ends at once; one that was live waits for its place, for a while", () => {
  const fresh = new Recording().give({ type: "start" }, { type: "opened" }, { type: "closed", code: 4009 });
  assert.deepEqual(fresh.state.phase, { at: "ended", why: "too_many_sockets" });
  const machine = live();
  const refused = () =>
    machine.give({ type: "timer", timer: "reconnect" }, { type: "opened" }, { type: "closed", code: 4009 });
  machine.give({ type: "closed", code: 4009 });
  assert.equal(machine.at, "waiting");
  assert.notEqual(machine.state.position, null);
  for (let again = 1; again < CROWDED_OUT_LIMIT; again++) assert.equal(refused().at, "waiting");
  assert.deepEqual(refused().state.phase, { at: "ended", why: "too_many_sockets" });
  machine.give({ type: "retry" }, { type: "opened" }, subscribed(7, 120), { type: "closed", code: 4009 });
  assert.equal(machine.at, "waiting", "once it had its place again, it may wait again");
});

test("nothing but a person revives what has ended", () => {
  const machine = live().give({ type: "closed", code: 4001 });
  machine.take("connect");
  machine.give({ type: "online" }, { type: "visible" }, { type: "timer", timer: "reconnect" });
  assert.deepEqual(machine.take("connect"), []);
  machine.give({ type: "retry" });
  assert.equal(machine.take("connect").length, 1);
});

test("the server's refusal of the subscription ends it", () => {
  const machine = new Recording().give({ type: "start" }, { type: "opened" });
  machine.give({ type: "frame", frame: { op: "error", code: "not_allowed", message: "" } });
  assert.deepEqual(machine.state.phase, { at: "ended", why: "not_allowed" });
});

test("a server that cannot subscribe us now is asked again soon, on a new socket", () => {
  const machine = new Recording().give({ type: "start" }, { type: "opened" });
  const frame = { op: "error", code: "unavailable", message: "" } as const;
  machine.give({ type: "frame", frame });
  assert.equal(machine.at, "waiting");
  machine.give({ type: "timer", timer: "reconnect" });
  assert.equal(machine.at, "connecting");
  const refused = { op: "error", code: "too_many_requests", message: "" } as const;
  const tooOften = new Recording().give(
    { type: "start" },
    { type: "opened" },
    { type: "frame", frame: refused },
  );
  assert.equal(tooOften.take("set_timer").at(-1)?.after, 8000);
  const alive = live().give({ type: "frame", frame });
  assert.equal(alive.at, "live", "about something else: the stream goes on");
});

test("a load that fails is tried again while the events wait", () => {
  const machine = new Recording().give(
    { type: "start" },
    { type: "opened" },
    subscribed(7, 120),
    events(7, 121),
  );
  machine.give({ type: "load_failed", load: 1, failure: "unavailable" }, { type: "timer", timer: "reload" });
  machine.give(events(7, 122), loaded(2));
  assert.deepEqual(offsets(machine.take("apply")), [121, 122]);
});

test("a load that is refused ends it", () => {
  for (const [failure, why] of [
    ["unauthorized", "session_over"],
    ["forbidden", "not_allowed"],
  ] as const) {
    const machine = new Recording().give({ type: "start" }, { type: "opened" }, subscribed(7, 120));
    machine.give({ type: "load_failed", load: 1, failure });
    assert.deepEqual(machine.state.phase, { at: "ended", why });
  }
});

test("the buffer is bounded: beyond it the state is read further on", () => {
  const machine = new Recording().give({ type: "start" }, { type: "opened" }, subscribed(7, 0));
  machine.take("load");
  const flood = Array.from({ length: BUFFER_LIMIT + 1 }, (_, index) => index + 1);
  machine.give(events(7, ...flood));
  assert.deepEqual(machine.take("load"), [{ do: "load", load: 2 }]);
  machine.give(loaded(2), events(7, BUFFER_LIMIT + 2));
  assert.deepEqual(offsets(machine.take("apply")), [BUFFER_LIMIT + 2]);
});

test("a page that slept does not trust a silent socket", () => {
  const machine = live();
  machine.now = SILENCE_LIMIT_MS - 1;
  machine.give({ type: "visible" });
  assert.equal(machine.at, "live");
  machine.now = SILENCE_LIMIT_MS;
  machine.give({ type: "visible" });
  assert.equal(machine.at, "connecting");
});

test("goes offline with the device and comes back with it", () => {
  const machine = live().give({ type: "offline" });
  assert.deepEqual(statusOf(machine.state), { kind: "offline", why: "no_network" });
  machine.give({ type: "online" });
  assert.equal(machine.at, "connecting");
});

test("a socket that opens and then says nothing is given up", () => {
  const machine = new Recording().give(
    { type: "start" },
    { type: "opened" },
    { type: "timer", timer: "handshake" },
  );
  assert.equal(machine.at, "waiting");
});

test("the backoff doubles to a minute, stays under it, and starts anew after a stable connection", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 6, 50].map((attempt) => backoffMs(attempt, 1)),
    [1_000, 2_000, 4_000, 8_000, 60_000, 60_000],
  );
  assert.equal(backoffMs(0, 0), 500);
  const machine = new Recording().give({ type: "start" }, { type: "closed", code: 1006 });
  assert.equal(machine.state.attempt, 1);
  machine.give({ type: "timer", timer: "reconnect" }, { type: "opened" }, subscribed(7, 1));
  machine.give(loaded(machine.state.load), { type: "timer", timer: "stable" });
  assert.equal(machine.state.attempt, 0);
});

test("frames of another guild are not ours", () => {
  const machine = live();
  machine.give({ type: "frame", frame: { op: "events", guild_id: "2", epoch: 7, events: [event(121)] } });
  assert.deepEqual(machine.take("apply"), []);
});

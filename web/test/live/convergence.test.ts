/** Whatever happens to the connection, in the end the page shows what the server knows. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, EMPTY_FEED, type Feed, reset, type Snapshot } from "../../src/live/feed.ts";
import {
  type Command,
  type Input,
  initial,
  type LiveState,
  step,
  type Timer,
} from "../../src/live/machine.ts";
import type { LiveEvent, ServerFrame } from "../../src/live/protocol.ts";
import { metrics, page, update, violation } from "./samples.ts";

/** mulberry32: small, and the same on every machine, so a failing seed can be run again. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A server with its truth, its stream, and a line to the page that can be cut, stutter, and lose things. */
class Simulation {
  readonly random: () => number;
  feed: Feed = EMPTY_FEED;
  state: LiveState = initial("1");
  readonly #truth = new Map<string, ReturnType<typeof violation>>();
  #messages = 0;
  #epoch = 1;
  #offset = 0;
  #log: LiveEvent[] = [];
  #line: ServerFrame[] = [];
  #open = false;
  #subscribed = false;
  #loads: { load: number; snapshot?: Snapshot }[] = [];
  #timers = new Set<Timer>();

  constructor(seed: number) {
    this.random = randomOf(seed);
    this.give({ type: "start" });
  }

  give(input: Input<Snapshot>): void {
    const [state, commands] = step(this.state, input, { now: 0, random: this.random() });
    this.state = state;
    for (const command of commands) this.#run(command);
  }

  #run(command: Command<Snapshot>): void {
    switch (command.do) {
      case "connect":
        this.#open = true;
        this.#subscribed = false;
        this.#line = [];
        break;
      case "disconnect":
        this.#open = false;
        break;
      case "send":
        this.#answer(command.frame.epoch, command.frame.offset);
        break;
      case "load":
        this.#loads.push({ load: command.load });
        break;
      case "set_timer":
        this.#timers.add(command.timer);
        break;
      case "cancel_timer":
        this.#timers.delete(command.timer);
        break;
      case "reset":
        this.feed = reset(this.feed, command.snapshot, this.random() < 0.3);
        break;
      case "apply":
        this.feed = apply(this.feed, command.events, { hold: this.random() < 0.3, highlight: false });
        break;
    }
  }

  #answer(epoch: number | undefined, offset: number | undefined): void {
    const oldest = this.#log[0]?.offset ?? this.#offset + 1;
    const recovered = epoch === this.#epoch && offset !== undefined && offset + 1 >= oldest;
    this.#subscribed = true;
    this.#line.push({ op: "subscribed", guild_id: "1", epoch: this.#epoch, offset: this.#offset, recovered });
    if (recovered) this.#frame(this.#log.filter((event) => event.offset > offset));
  }

  #frame(events: LiveEvent[]): void {
    if (events.length > 0) this.#line.push({ op: "events", guild_id: "1", epoch: this.#epoch, events });
  }

  publish(): void {
    this.#messages += 1;
    const known = [...this.#truth.values()];
    const settle = this.random() < 0.3 ? known[Math.floor(this.random() * known.length)] : undefined;
    const row = settle
      ? { ...settle, action_status: "done" as const }
      : violation({ id: `v${this.#truth.size}`, ts: this.#truth.size, action_status: "pending" });
    this.#truth.set(row.id, row);
    const base = { ts: 0 };
    const events: LiveEvent[] = [
      { ...base, offset: ++this.#offset, type: "violation", data: row },
      { ...base, offset: ++this.#offset, type: "metrics_update", data: update({ messages: this.#messages }) },
    ];
    this.#log = [...this.#log, ...events].slice(-12);
    if (this.#open && this.#subscribed) this.#frame(events);
  }

  deliver(): void {
    const frame = this.#line.shift();
    if (frame === undefined || !this.#open) return;
    this.give({ type: "frame", frame });
    if (this.random() < 0.1) this.give({ type: "frame", frame });
  }

  /** The server reads its state at one moment, and the answer arrives at a later one. */
  read(): void {
    const load = this.#loads.find(({ snapshot }) => snapshot === undefined);
    if (load === undefined) return;
    const rows = [...this.#truth.values()].sort((a, b) => b.ts - a.ts);
    load.snapshot = { metrics: metrics({ messages: this.#messages }), violations: page(rows) };
  }

  arrive(): void {
    const index = this.#loads.findIndex(({ snapshot }) => snapshot !== undefined);
    const [answer] = index < 0 ? [] : this.#loads.splice(index, 1);
    if (answer?.snapshot === undefined) return;
    if (this.random() < 0.15) this.give({ type: "load_failed", load: answer.load, failure: "unavailable" });
    else this.give({ type: "loaded", load: answer.load, snapshot: answer.snapshot });
  }

  fire(timer: Timer): void {
    if (this.#timers.delete(timer)) this.give({ type: "timer", timer });
  }

  opened(): void {
    if (this.#open && this.state.phase.at === "connecting") this.give({ type: "opened" });
  }

  drop(): void {
    if (!this.#open) return;
    this.#open = false;
    this.give({ type: "closed", code: [1006, 1012, 4008, 4010][Math.floor(this.random() * 4)] ?? 1006 });
  }

  loseFrame(): void {
    const lost = this.#line.findIndex((frame) => frame.op === "events");
    if (lost >= 0) this.#line.splice(lost, 1);
  }

  /** The guild moved to another host: a new epoch on the same socket, and nothing remembered. */
  newEpoch(): void {
    this.#epoch += 1;
    this.#offset = 0;
    this.#log = [];
  }

  anything(): void {
    const steps: [weight: number, act: () => void][] = [
      [30, () => this.publish()],
      [40, () => this.deliver()],
      [15, () => this.read()],
      [15, () => this.arrive()],
      [10, () => this.opened()],
      [10, () => this.fire("reconnect")],
      [6, () => this.fire("reload")],
      [3, () => this.fire("stable")],
      [2, () => this.fire("replay")],
      [4, () => this.drop()],
      [2, () => this.loseFrame()],
      [1, () => this.newEpoch()],
      [1, () => this.give({ type: "offline" })],
      [4, () => this.give({ type: "online" })],
      [1, () => this.give({ type: "stop" })],
      [4, () => this.give({ type: "start" })],
    ];
    let point = this.random() * steps.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, act] of steps) {
      point -= weight;
      if (point < 0) {
        act();
        return;
      }
    }
  }

  /** The weather clears: everything under way arrives, and the server says one more thing. */
  settle(): void {
    for (let round = 0; round < 60; round += 1) {
      if (round === 30) this.publish();
      this.give({ type: "start" });
      this.give({ type: "online" });
      this.fire("reconnect");
      this.opened();
      for (let count = 0; count < 20; count += 1) this.deliver();
      this.fire("reload");
      this.fire("replay");
      this.read();
      this.arrive();
    }
  }

  shown(): [string, string][] {
    const entries = [...this.feed.held, ...this.feed.rows];
    return entries.map(({ violation: row }): [string, string] => [row.id, row.action_status]).sort();
  }

  known(): [string, string][] {
    return [...this.#truth.values()].map((row): [string, string] => [row.id, row.action_status]).sort();
  }

  get messages(): [shown: number | undefined, known: number] {
    return [this.feed.metrics?.messages, this.#messages];
  }
}

test("500 random histories of drops, losses, repeats and new epochs all converge", () => {
  for (let seed = 1; seed <= 500; seed += 1) {
    const simulation = new Simulation(seed);
    const steps = 20 + Math.floor(simulation.random() * 250);
    for (let count = 0; count < steps; count += 1) simulation.anything();
    simulation.settle();
    assert.equal(simulation.state.phase.at, "live", `seed ${seed}`);
    assert.deepEqual(simulation.shown(), simulation.known(), `seed ${seed}`);
    assert.equal(simulation.messages[0], simulation.messages[1], `seed ${seed}`);
  }
});

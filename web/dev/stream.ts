/** The live side of the development server: one ordered stream for each guild, as the real one has. */

import { WebSocket } from "ws";
import type { Violation } from "../src/api/types.ts";
import { SERVERS, World } from "./world.ts";

const KEPT_EVENTS = 1_000;
const SOCKETS_PER_GUILD = 5;

interface StreamEvent {
  offset: number;
  type: string;
  ts: number;
  data: unknown;
}

export class GuildStream {
  readonly world: World;
  readonly sockets = new Set<WebSocket>();
  readonly #id: string;
  #epoch = 1;
  #offset = 0;
  #events: StreamEvent[] = [];

  constructor(id: string, world: World) {
    this.#id = id;
    this.world = world;
  }

  publish(...events: [type: string, data: unknown][]): void {
    const made = events.map(([type, data]) => ({ offset: ++this.#offset, type, ts: Date.now(), data }));
    this.#events = [...this.#events, ...made].slice(-KEPT_EVENTS);
    this.#send([...this.sockets], made);
  }

  violate(count: number): void {
    const violations = Array.from({ length: count }, () => this.world.add());
    this.publish(...violations.map((violation): [string, unknown] => ["violation", violation]));
    const pending = violations.filter(({ action_status }) => action_status === "pending");
    setTimeout(() => this.#settle(pending), 1_500);
  }

  #settle(pending: Violation[]): void {
    for (const violation of pending) violation.action_status = Math.random() < 0.9 ? "done" : "failed";
    this.publish(...pending.map((violation): [string, unknown] => ["violation", { ...violation }]));
  }

  subscribe(socket: WebSocket, epoch: unknown, offset: unknown): void {
    if (this.sockets.size >= SOCKETS_PER_GUILD) {
      socket.close(4009, "more than 5 sockets of one user on one guild");
      return;
    }
    this.sockets.add(socket);
    const oldest = this.#events[0]?.offset ?? this.#offset + 1;
    const recovered = epoch === this.#epoch && typeof offset === "number" && offset + 1 >= oldest;
    const answer = {
      op: "subscribed",
      guild_id: this.#id,
      epoch: this.#epoch,
      offset: this.#offset,
      recovered,
    };
    socket.send(JSON.stringify(answer));
    if (recovered)
      this.#send(
        [socket],
        this.#events.filter((event) => event.offset > offset),
      );
  }

  /** As when the guild's owner died and another host took over. */
  newEpoch(): void {
    this.#epoch += 1;
    this.#offset = 0;
    this.#events = [];
  }

  /** Lose events on the way, which the real server never should. */
  skip(count: number): void {
    this.#offset += count;
    for (let index = 0; index < count; index += 1) this.world.add();
  }

  #send(sockets: WebSocket[], events: StreamEvent[]): void {
    if (events.length === 0) return;
    const frame = JSON.stringify({ op: "events", guild_id: this.#id, epoch: this.#epoch, events });
    for (const socket of sockets) if (socket.readyState === WebSocket.OPEN) socket.send(frame);
  }
}

export const streams = new Map(
  SERVERS.filter((server) => server.bot_present).map((server) => [
    server.id,
    new GuildStream(server.id, new World(server, server.id === "9005")),
  ]),
);

/** Runs the machine: the socket, the timers, the requests and the browser's own events. */

import {
  type Command,
  type Input,
  initial,
  type LiveState,
  type LoadFailure,
  step,
  type Timer,
} from "./machine.ts";
import { type LiveEvent, parseFrame } from "./protocol.ts";

export interface Follower<Snapshot> {
  guildId: string;
  load: (signal: AbortSignal) => Promise<Snapshot>;
  failureOf: (error: unknown) => LoadFailure;
  onReset: (snapshot: Snapshot) => void;
  onEvents: (events: LiveEvent[]) => void;
  onState: (state: LiveState) => void;
  onLoadFailed: (error: unknown) => void;
}

export interface Following {
  retry: () => void;
  stop: () => void;
}

export function follow<Snapshot>(follower: Follower<Snapshot>): Following {
  let state = initial(follower.guildId);
  let socket: WebSocket | null = null;
  let aborter = new AbortController();
  const timers = new Map<Timer, number>();

  function feed(input: Input<Snapshot>): void {
    const [next, commands] = step(state, input, { now: Date.now(), random: Math.random() });
    const changed = next !== state;
    state = next;
    for (const command of commands) run(command);
    if (changed) follower.onState(next);
  }

  function run(command: Command<Snapshot>): void {
    switch (command.do) {
      case "connect":
        connect();
        break;
      case "disconnect":
        disconnect();
        break;
      case "send":
        socket?.send(JSON.stringify(command.frame));
        break;
      case "load":
        load(command.load);
        break;
      case "set_timer": {
        const { timer, after } = command;
        clearTimeout(timers.get(timer));
        timers.set(
          timer,
          window.setTimeout(() => feed({ type: "timer", timer }), after),
        );
        break;
      }
      case "cancel_timer":
        clearTimeout(timers.get(command.timer));
        break;
      case "reset":
        follower.onReset(command.snapshot);
        break;
      case "apply":
        follower.onEvents(command.events);
        break;
    }
  }

  function connect(): void {
    disconnect();
    const opened = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws`);
    socket = opened;
    // What a socket says after it was given up must not reach the machine, which may have a new one by then.
    const current = () => socket === opened;
    opened.onopen = () => current() && feed({ type: "opened" });
    opened.onmessage = (message: MessageEvent) => {
      const frame = typeof message.data === "string" ? parseFrame(message.data) : null;
      if (frame !== null && current()) feed({ type: "frame", frame });
    };
    opened.onclose = (closed) => {
      if (!current()) return;
      socket = null;
      feed({ type: "closed", code: closed.code });
    };
  }

  function disconnect(): void {
    const left = socket;
    socket = null;
    left?.close(1000);
  }

  function load(number: number): void {
    aborter.abort();
    aborter = new AbortController();
    const { signal } = aborter;
    follower.load(signal).then(
      (snapshot) => {
        if (!signal.aborted) feed({ type: "loaded", load: number, snapshot });
      },
      (error: unknown) => {
        if (signal.aborted) return;
        follower.onLoadFailed(error);
        feed({ type: "load_failed", load: number, failure: follower.failureOf(error) });
      },
    );
  }

  const listeners = new AbortController();
  const listen = { signal: listeners.signal };
  window.addEventListener("online", () => feed({ type: "online" }), listen);
  window.addEventListener("offline", () => feed({ type: "offline" }), listen);
  // A page in the back-forward cache is frozen, and an open socket would keep it out of there.
  window.addEventListener("pagehide", () => feed({ type: "stop" }), listen);
  window.addEventListener("pageshow", (event) => event.persisted && feed({ type: "start" }), listen);
  document.addEventListener(
    "visibilitychange",
    () => document.visibilityState === "visible" && feed({ type: "visible" }),
    listen,
  );

  feed({ type: "start" });
  return {
    retry: () => feed({ type: "retry" }),
    stop: () => {
      listeners.abort();
      feed({ type: "stop" });
      aborter.abort();
    },
  };
}

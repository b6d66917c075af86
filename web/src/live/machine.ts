/**
 * Following one guild, decided purely: what happened goes in, the new state and what to do come out.
 *
 * The one rule that everything here serves: a position in the stream is taken BEFORE state is read over
 * HTTP, and what arrives meanwhile waits in a buffer. So nothing falls between the two, and what is in
 * both is merged by id. No socket, no timer, no clock in this file; `shell.ts` has them.
 */

import { backoffMs, restartDelayMs } from "./backoff.ts";
import type { ClientFrame, LiveEvent, Position, ServerFrame } from "./protocol.ts";

export type EndReason = "session_over" | "not_allowed" | "too_many_sockets";

export type Phase =
  | { at: "idle" }
  | { at: "connecting" }
  | { at: "subscribing" }
  /** In the stream, waiting for the state it continues. */
  | { at: "syncing"; buffer: LiveEvent[] }
  | { at: "live" }
  | { at: "waiting"; until: number }
  | { at: "no_network" }
  | { at: "ended"; why: EndReason };

export interface LiveState {
  readonly guildId: string;
  readonly phase: Phase;
  /** The last event taken in order. Null when what is shown cannot be continued from the stream. */
  readonly position: Position | null;
  /** Where the server said the stream was; not there soon after a resume means that the replay got lost. */
  readonly promised: number;
  readonly attempt: number;
  /** Number of the newest load; answers of older ones are ignored. */
  readonly load: number;
  readonly loading: boolean;
  readonly loadAttempt: number;
  readonly hasData: boolean;
  readonly wasLive: boolean;
  /** How often in a row there was no room for this socket. */
  readonly crowdedOut: number;
  readonly heardAt: number;
}

export type LoadFailure = "unauthorized" | "forbidden" | "unavailable";

export type Timer = "reconnect" | "handshake" | "stable" | "reload" | "replay";

export type Input<Snapshot> =
  | { type: "start" }
  | { type: "stop" }
  | { type: "opened" }
  | { type: "frame"; frame: ServerFrame }
  | { type: "closed"; code: number }
  | { type: "loaded"; load: number; snapshot: Snapshot }
  | { type: "load_failed"; load: number; failure: LoadFailure }
  | { type: "timer"; timer: Timer }
  | { type: "online" }
  | { type: "offline" }
  | { type: "visible" }
  /** A person pressed "Try again". */
  | { type: "retry" };

export type Command<Snapshot> =
  | { do: "connect" }
  | { do: "disconnect" }
  | { do: "send"; frame: ClientFrame }
  | { do: "load"; load: number }
  | { do: "set_timer"; timer: Timer; after: number }
  | { do: "cancel_timer"; timer: Timer }
  | { do: "reset"; snapshot: Snapshot }
  | { do: "apply"; events: LiveEvent[] };

/** Time and chance are arguments, so a test needs neither. */
export interface Env {
  now: number;
  random: number;
}

/** From opening the socket to "subscribed"; a proxy may accept a socket and then say nothing. */
export const HANDSHAKE_LIMIT_MS = 15_000;
/** A connection that lasted this long starts the backoff anew. */
export const STABLE_AFTER_MS = 10_000;
/** After a resume the replayed events follow at once; later than this they are lost. */
export const REPLAY_LIMIT_MS = 5_000;
/** The server pings an idle socket after 30 s, which a page cannot see. Longer silence than this is only
 * suspicious when the page was asleep meanwhile: then a socket can be dead without anyone saying so. */
export const SILENCE_LIMIT_MS = 75_000;
/** Ten seconds of a storm of 500 events/s; beyond it the load is started anew further on. */
export const BUFFER_LIMIT = 5_000;

/** A window that comes back may find its own last socket still counted, when what held that one died. */
export const CROWDED_OUT_LIMIT = 5;

/** A followed guild that ended for good only listens to a person, and to a load that was under way. */
const AFTER_THE_END: readonly Input<unknown>["type"][] = ["retry", "loaded", "load_failed"];

type Step<Snapshot> = [LiveState, Command<Snapshot>[]];

export function initial(guildId: string): LiveState {
  return {
    guildId,
    phase: { at: "idle" },
    position: null,
    promised: 0,
    attempt: 0,
    load: 0,
    loading: false,
    loadAttempt: 0,
    hasData: false,
    wasLive: false,
    crowdedOut: 0,
    heardAt: 0,
  };
}

export function step<Snapshot>(state: LiveState, input: Input<Snapshot>, env: Env): Step<Snapshot> {
  if (state.phase.at === "ended" && !AFTER_THE_END.includes(input.type)) return [state, []];
  switch (input.type) {
    case "start":
      return state.phase.at === "idle" ? connect(state) : [state, []];
    case "stop":
      return leave({ ...state, loading: false }, { at: "idle" });
    case "opened":
      return state.phase.at === "connecting" ? subscribe(state) : [state, []];
    case "frame":
      return onFrame({ ...state, heardAt: env.now }, input.frame, env);
    case "closed":
      return onClosed(state, input.code, env);
    case "loaded":
      return onLoaded(state, input.load, input.snapshot);
    case "load_failed":
      return onLoadFailed(state, input.load, input.failure, env);
    case "timer":
      return onTimer(state, input.timer, env);
    case "offline":
      return state.phase.at === "idle" ? [state, []] : leave(state, { at: "no_network" });
    case "online":
      return isAway(state) ? reconnectNow(state) : [state, []];
    case "visible":
      return onVisible(state, env);
    case "retry":
      return isAway(state) || state.phase.at === "ended" ? reconnectNow(state) : [state, []];
  }
}

function isAway({ phase }: LiveState): boolean {
  return phase.at === "waiting" || phase.at === "no_network";
}

function connect<S>(state: LiveState): Step<S> {
  return [
    { ...state, phase: { at: "connecting" } },
    [{ do: "connect" }, { do: "set_timer", timer: "handshake", after: HANDSHAKE_LIMIT_MS }],
  ];
}

function reconnectNow<S>(state: LiveState): Step<S> {
  const [next, commands] = connect<S>(state);
  return [next, [{ do: "cancel_timer", timer: "reconnect" }, ...commands]];
}

function subscribe<S>(state: LiveState): Step<S> {
  const frame: ClientFrame = { op: "subscribe", guild_id: state.guildId, ...state.position };
  return [{ ...state, phase: { at: "subscribing" } }, [{ do: "send", frame }]];
}

/** Give up the socket. A half-loaded state cannot be resumed, so its position is given up too. */
function leave<S>(state: LiveState, phase: Phase): Step<S> {
  const position = state.phase.at === "syncing" ? null : state.position;
  const timers: Timer[] = ["reconnect", "handshake", "stable", "reload", "replay"];
  return [
    { ...state, phase, position, loadAttempt: 0 },
    [{ do: "disconnect" }, ...timers.map((timer): Command<S> => ({ do: "cancel_timer", timer }))],
  ];
}

function onFrame<S>(state: LiveState, frame: ServerFrame, env: Env): Step<S> {
  if (frame.op === "error") return onError(state, frame.code, env);
  if (frame.guild_id !== state.guildId) return [state, []];
  if (frame.op === "subscribed") return onSubscribed(state, frame);
  return onEvents(state, frame.epoch, frame.events, env);
}

function onError<S>(state: LiveState, code: string, env: Env): Step<S> {
  if (code === "not_allowed") return leave(state, { at: "ended", why: "not_allowed" });
  if (state.phase.at !== "subscribing") return [state, []];
  // Nothing else will come on this socket; another try need not wait for the handshake to run out of time.
  const attempt = code === "too_many_requests" ? Math.max(state.attempt, 4) : state.attempt;
  return waitFor({ ...state, attempt }, undefined, env);
}

function onSubscribed<S>(before: LiveState, answer: ServerFrame & { op: "subscribed" }): Step<S> {
  if (!["subscribing", "syncing", "live"].includes(before.phase.at)) return [before, []];
  const state = { ...before, crowdedOut: 0 };
  const { position } = state;
  const connected: Command<S>[] = [
    { do: "cancel_timer", timer: "handshake" },
    { do: "set_timer", timer: "stable", after: STABLE_AFTER_MS },
  ];
  const continues =
    answer.recovered &&
    state.phase.at !== "syncing" &&
    position?.epoch === answer.epoch &&
    position.offset <= answer.offset;
  if (continues) {
    // The answer may name the head of the stream with the replay still to come, so our own count goes on.
    connected.push({ do: "set_timer", timer: "replay", after: REPLAY_LIMIT_MS });
    return [{ ...state, phase: { at: "live" }, promised: answer.offset, wasLive: true }, connected];
  }
  const [next, load] = sync<S>(state, { epoch: answer.epoch, offset: answer.offset }, []);
  return [next, [...connected, ...load]];
}

/** Take a position, then read the state that it continues. */
function sync<S>(state: LiveState, position: Position, buffer: LiveEvent[]): Step<S> {
  const load = state.load + 1;
  return [
    { ...state, phase: { at: "syncing", buffer }, position, load, loading: true },
    [
      { do: "cancel_timer", timer: "replay" },
      { do: "cancel_timer", timer: "reload" },
      { do: "load", load },
    ],
  ];
}

function onEvents<S>(state: LiveState, epoch: number, events: LiveEvent[], env: Env): Step<S> {
  const { phase, position } = state;
  if ((phase.at !== "live" && phase.at !== "syncing") || position === null) return [state, []];
  const unseen = epoch === position.epoch ? events.filter((event) => event.offset > position.offset) : events;
  const first = unseen[0];
  const last = unseen.at(-1);
  if (first === undefined || last === undefined) return [state, []];

  const whole = last.offset - first.offset === unseen.length - 1;
  const continues = epoch === position.epoch && first.offset === position.offset + 1 && whole;
  const reached = { epoch, offset: last.offset };
  if (!continues) {
    // Something is missing. From this frame on nothing is, so this is the position to read state after.
    return syncPaced(state, reached, whole ? unseen : [last], env);
  }
  if (phase.at === "live") {
    return [{ ...state, position: reached }, [{ do: "apply", events: unseen }]];
  }
  if (phase.buffer.length + unseen.length > BUFFER_LIMIT) return sync(state, reached, []);
  const buffer = [...phase.buffer, ...unseen];
  return [{ ...state, phase: { at: "syncing", buffer }, position: reached }, []];
}

/** A stream that keeps breaking must not turn into a flood of requests: the second reload in a row waits. */
function syncPaced<S>(state: LiveState, position: Position, buffer: LiveEvent[], env: Env): Step<S> {
  if (state.loadAttempt === 0) {
    return sync({ ...state, loadAttempt: 1 }, position, buffer);
  }
  const after = backoffMs(state.loadAttempt - 1, env.random);
  return [
    {
      ...state,
      phase: { at: "syncing", buffer },
      position,
      // The load in flight may be from before the hole: its answer must not be taken.
      loading: false,
      loadAttempt: state.loadAttempt + 1,
    },
    [{ do: "set_timer", timer: "reload", after }],
  ];
}

function onLoaded<S>(state: LiveState, load: number, snapshot: S): Step<S> {
  if (load !== state.load || !state.loading) return [state, []];
  const loaded: LiveState = { ...state, loading: false, hasData: true };
  const commands: Command<S>[] = [{ do: "reset", snapshot }];
  // Away from the stream it still is the best that can be shown; there is just nothing to continue it.
  if (state.phase.at !== "syncing") return [{ ...loaded, position: null }, commands];
  if (state.phase.buffer.length > 0) commands.push({ do: "apply", events: state.phase.buffer });
  commands.push({ do: "set_timer", timer: "stable", after: STABLE_AFTER_MS });
  return [{ ...loaded, phase: { at: "live" }, promised: 0, wasLive: true }, commands];
}

function onLoadFailed<S>(state: LiveState, load: number, failure: LoadFailure, env: Env): Step<S> {
  if (load !== state.load || !state.loading) return [state, []];
  const failed = { ...state, loading: false };
  if (failure === "unauthorized") return leave(failed, { at: "ended", why: "session_over" });
  if (failure === "forbidden") return leave(failed, { at: "ended", why: "not_allowed" });
  if (state.phase.at !== "syncing") return [failed, []]; // the next reconnect asks again
  return [
    { ...failed, loadAttempt: state.loadAttempt + 1 },
    [{ do: "set_timer", timer: "reload", after: backoffMs(state.loadAttempt, env.random) }],
  ];
}

function onClosed<S>(state: LiveState, code: number, env: Env): Step<S> {
  if (!["connecting", "subscribing", "syncing", "live"].includes(state.phase.at)) return [state, []];
  switch (code) {
    case 4001:
      return leave(state, { at: "ended", why: "session_over" });
    case 4003:
      return leave(state, { at: "ended", why: "not_allowed" });
    case 4009:
      // A window that was just opened is one too many; one that was live has lost its place, and waits for it.
      return state.wasLive && state.crowdedOut < CROWDED_OUT_LIMIT
        ? waitFor({ ...state, crowdedOut: state.crowdedOut + 1 }, undefined, env)
        : withFirstData(leave(state, { at: "ended", why: "too_many_sockets" }));
    case 1012:
      return waitFor(state, restartDelayMs(env.random), env);
    case 1013:
    case 4029:
      // What is counted comes back within a minute; asking again at once would be counted too.
      return waitFor({ ...state, attempt: Math.max(state.attempt, 4) }, undefined, env);
    case 4010:
      // We said something the server does not take; saying it again soon would not help.
      return waitFor({ ...state, position: null, attempt: Math.max(state.attempt, 5) }, undefined, env);
    default:
      return waitFor(state, undefined, env);
  }
}

function waitFor<S>(state: LiveState, delay: number | undefined, env: Env): Step<S> {
  const after = delay ?? backoffMs(state.attempt, env.random);
  const [left, commands] = leave<S>(
    { ...state, attempt: state.attempt + 1 },
    { at: "waiting", until: env.now + after },
  );
  return withFirstData([left, [...commands, { do: "set_timer", timer: "reconnect", after }]]);
}

/** Without a stream the page can still show what is known now, as long as it says that it is not live. */
function withFirstData<S>([state, commands]: Step<S>): Step<S> {
  if (state.hasData || state.loading) return [state, commands];
  const load = state.load + 1;
  return [{ ...state, load, loading: true }, [...commands, { do: "load", load }]];
}

function onTimer<S>(state: LiveState, timer: Timer, env: Env): Step<S> {
  const { phase } = state;
  switch (timer) {
    case "reconnect":
      return phase.at === "waiting" ? connect(state) : [state, []];
    case "handshake":
      return phase.at === "connecting" || phase.at === "subscribing"
        ? waitFor(state, undefined, env)
        : [state, []];
    case "stable":
      return [{ ...state, attempt: 0, loadAttempt: phase.at === "live" ? 0 : state.loadAttempt }, []];
    case "reload":
      return phase.at === "syncing" && !state.loading && state.position !== null
        ? sync(state, state.position, phase.buffer)
        : [state, []];
    case "replay":
      return phase.at === "live" && state.position !== null && state.position.offset < state.promised
        ? sync(state, { epoch: state.position.epoch, offset: state.promised }, [])
        : [state, []];
  }
}

function onVisible<S>(state: LiveState, env: Env): Step<S> {
  if (state.phase.at === "waiting") return reconnectNow(state);
  if (state.phase.at !== "live" || env.now - state.heardAt < SILENCE_LIMIT_MS) return [state, []];
  // Cheap when the socket was fine: the answer is "recovered", and nothing is read again.
  const [left, commands] = leave<S>(state, { at: "connecting" });
  const [next, more] = connect<S>(left);
  return [next, [...commands, ...more]];
}

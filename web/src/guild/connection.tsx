/** Whether what is shown is live, in words first and colour second. */

import { type Signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { Status } from "../live/status.ts";

export function Connection({ status }: { status: Signal<Status> }): JSX.Element {
  const now = status.value;
  return (
    <div class="connection" data-testid="connection" data-state={now.kind}>
      <span class="connection-dot" aria-hidden="true" />
      <span class="connection-words">
        {now.kind === "reconnecting" && now.retryAt !== null ? (
          <Countdown until={now.retryAt} />
        ) : (
          spoken(now)
        )}
      </span>
      {/* Without the seconds: a countdown read aloud is noise. */}
      <span class="visually-hidden" role="status">
        {`Connection: ${spoken(now)}`}
      </span>
    </div>
  );
}

function spoken(status: Status): string {
  switch (status.kind) {
    case "live":
      return "Live";
    case "connecting":
      return "Connecting";
    case "reconnecting":
      return "Reconnecting";
    case "offline":
      return "Offline";
  }
}

function Countdown({ until }: { until: number }): JSX.Element {
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      now.value = Date.now();
    }, 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((until - now.value) / 1000));
  return <span aria-hidden="true">{`Reconnecting in ${seconds} s`}</span>;
}

/** A short interruption passes by itself; moving the page for it would disturb more than it tells. */
const QUIET_ATTEMPTS = 2;

interface ProblemProps {
  status: Signal<Status>;
  retry: () => void;
  loaded: boolean;
}

/** What a person can do about it, where there is something. */
export function ConnectionProblem({ status, retry, loaded }: ProblemProps): JSX.Element | null {
  const now = status.value;
  const lasting = now.kind === "reconnecting" && now.attempt > QUIET_ATTEMPTS;
  if (now.kind !== "offline" && !lasting) return null;
  const sentence =
    now.kind === "reconnecting"
      ? "The live connection is interrupted."
      : now.why === "too_many_sockets"
        ? "This server is already open in five of your tabs or windows. Close one of them to see it live here."
        : "This device has no network connection.";
  return (
    <div class="connection-problem">
      <p>
        {sentence} {loaded && "What you see here is not updated."}
      </p>
      {!(now.kind === "offline" && now.why === "no_network") && (
        <button type="button" class="button small" onClick={retry}>
          Try now
        </button>
      )}
    </div>
  );
}

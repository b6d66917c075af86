/** An empty state or an error: what it is, why, and what helps. */

import type { ComponentChildren, JSX } from "preact";

interface NoticeProps {
  kind: "empty" | "error";
  title: string;
  /** "page" when this is all there is to see, so that its title is the page's heading. */
  heading?: "page" | "section";
  children?: ComponentChildren;
  action?: string;
  onAction?: () => void;
}

export function Notice({
  kind,
  title,
  heading = "section",
  children,
  action,
  onAction,
}: NoticeProps): JSX.Element {
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : undefined}>
      {heading === "page" ? <h1>{title}</h1> : <h2>{title}</h2>}
      <p>{children}</p>
      {action !== undefined && (
        <button type="button" class="button" onClick={onAction}>
          {action}
        </button>
      )}
    </div>
  );
}

/** The mark: a guildhall with a stepped gable, an open door and a round window. */

import type { JSX } from "preact";

export function Mark({ class: className = "mark" }: { class?: string }): JSX.Element {
  return (
    <svg class={className} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect class="mark-ground" width="32" height="32" rx="7" />
      <path
        class="mark-house"
        fill-rule="evenodd"
        d="M6 27V17h2.5v-3.5H11V10h2.5V6.5h5V10H21v3.5h2.5V17H26v10h-7v-4.5a3 3 0 0 0-6 0V27zm10-14.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4z"
      />
    </svg>
  );
}

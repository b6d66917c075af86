/** The few icons there are. All decorative: the text beside them carries the meaning. */

import type { JSX } from "preact";

function Icon({ d }: { d: string }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={d} />
    </svg>
  );
}

export const SunIcon = () => (
  <Icon d="M10 6.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6zM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M4 16l1.4-1.4M14.6 5.4 16 4" />
);
export const MoonIcon = () => <Icon d="M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z" />;
export const SystemIcon = () => <Icon d="M2.5 4h15v9.5h-15zM7 17h6M10 13.5V17" />;
export const PauseIcon = () => <Icon d="M7 4.5v11M13 4.5v11" />;
export const PlayIcon = () => <Icon d="M6.5 4.5v11l9-5.5z" />;
export const UpIcon = () => <Icon d="M10 16V4.5M5 9.2l5-4.7 5 4.7" />;

export function ChatIcon(): JSX.Element {
  return (
    <svg class="chat-icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d="M12 3C6.5 3 2 6.7 2 11.3c0 2.9 1.8 5.4 4.5 6.9L5.8 21.5l4-2.4c.7.1 1.4.2 2.2.2 5.5 0 10-3.7 10-8.2S17.5 3 12 3zm-3.3 9.8a1.5 1.5 0 1 1 0-3 1.5 1.5 0 0 1 0 3zm6.6 0a1.5 1.5 0 1 1 0-3 1.5 1.5 0 0 1 0 3z" />
    </svg>
  );
}

/** Goes round: as the system, light, dark. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { MoonIcon, SunIcon, SystemIcon } from "./icons.tsx";
import { nextTheme, readTheme, showTheme, storeTheme, type Theme } from "./theme.ts";

const theme = signal<Theme>(readTheme());

const WORDS: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

export function ThemeButton(): JSX.Element {
  const now = theme.value;
  const label = `Theme: ${WORDS[now]}. Change to ${WORDS[nextTheme(now)]}`;
  const change = () => {
    theme.value = nextTheme(now);
    storeTheme(theme.value);
    showTheme(theme.value);
  };
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={change}>
      {now === "system" ? <SystemIcon /> : now === "light" ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}

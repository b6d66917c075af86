/** Navigation with the History API. Links stay real links, so a new tab works as everywhere. */

import { computed, signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { routeOf } from "./routes.ts";

const path = signal(location.pathname);

export const route = computed(() => routeOf(path.value));

window.addEventListener("popstate", () => {
  path.value = location.pathname;
});

export function navigate(to: string, { keepFocus = false } = {}): void {
  if (to !== location.pathname) history.pushState(null, "", to);
  path.value = location.pathname;
  window.scrollTo(0, 0);
  if (keepFocus) return;
  // As a page load would: the keyboard and the screen reader start at the new content, not on a link that is gone.
  requestAnimationFrame(() => document.getElementById("main")?.focus({ preventScroll: true }));
}

interface LinkProps {
  to: string;
  class?: string;
  children: ComponentChildren;
}

export function Link({ to, children, ...rest }: LinkProps): JSX.Element {
  const onClick = (event: MouseEvent) => {
    const elsewhere = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.button !== 0;
    if (elsewhere || event.defaultPrevented) return;
    event.preventDefault();
    navigate(to);
  };
  return (
    <a href={to} onClick={onClick} {...rest}>
      {children}
    </a>
  );
}

/** Names the page in the tab. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";

export function PageTitle({ title }: { title: string }): JSX.Element | null {
  useEffect(() => {
    document.title = `${title} · Guildhall`;
  }, [title]);
  return null;
}

/** A person's or a server's picture; initials where there is none or it does not load. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { initialsOf, toneOf } from "./format.ts";

interface AvatarProps {
  id: string;
  name: string;
  url: string | null;
  shape?: "round" | "square";
}

export function Avatar({ id, name, url, shape = "round" }: AvatarProps): JSX.Element {
  const [broken, setBroken] = useState(false);
  return (
    <span class={`avatar ${shape} tone-${toneOf(id)}`} aria-hidden="true">
      {url !== null && !broken ? (
        <img src={url} alt="" loading="lazy" referrerpolicy="no-referrer" onError={() => setBroken(true)} />
      ) : (
        initialsOf(name)
      )}
    </span>
  );
}

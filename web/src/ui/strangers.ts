/** Texts as strangers write them, made fit to stand beside others. Pure; the server does the same to excerpts. */

/** Marks over and under one letter: no living language writes more, and piles of them cover the lines around. */
const MAX_MARKS = 3;

/** Controls, those of the direction of writing among them. Joiners are none: languages and emoji need them. */
const UNSEEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{1d173}-\u{1d17a}]/gu;

const TOO_MANY_MARKS = new RegExp(`(\\p{M}{${MAX_MARKS}})\\p{M}+`, "gu");

/** What turns lines around or hides is shown by its name. */
export function tame(text: string): string {
  return text
    .replace(UNSEEN, (found) => {
      const code = found.codePointAt(0) ?? 0;
      return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
    })
    .replace(TOO_MANY_MARKS, "$1");
}

/** Whatever leaves no ink: a name of these alone could neither be seen nor clicked. */
const INVISIBLE = /[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{C}\p{M}\u2800]/gu;

/** The name as it can be shown, or what stands for it where nothing of it can be seen. */
export function nameOr(name: string | null, otherwise: string): string {
  if (name === null || name.replace(INVISIBLE, "") === "") return otherwise;
  return tame(name);
}

/** For places that take no element, a tab's title or an option: what follows keeps its direction. */
export function isolated(text: string): string {
  return `\u2068${text}\u2069`;
}

/** Runs in <head> before the first paint: a theme chosen earlier must not flash in late. */

import { readTheme, showTheme } from "./ui/theme.ts";

showTheme(readTheme());

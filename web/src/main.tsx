/**
 * Start here. One page: who is looking (`session`), where (`router`), and a view for it (`app`).
 * The live part of a guild is `live/machine.ts` (pure decisions) under `guild/page-state.ts` (signals).
 */

import { render } from "preact";
import { App } from "./app.tsx";
import { askWhoIsHere } from "./session.ts";
import "./styles/index.css";

const root = document.getElementById("app");
if (root !== null) {
  render(<App />, root);
  void askWhoIsHere();
}

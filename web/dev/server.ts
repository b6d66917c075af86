/**
 * The dashboard without the rest of Guildhall: the built page, the API and the stream with made-up data.
 *
 *   npm run dev                               prints where it listens (PORT chooses the port)
 *   curl -X POST $URL/dev/storm?rate=500&seconds=10
 *   curl -X POST $URL/dev/drop?code=1012      also: epoch, gap, bot, session, quiet, lively
 */

import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { extname, normalize } from "node:path";
import { WebSocketServer } from "ws";
import { newestFirst } from "../src/live/feed.ts";
import { type GuildStream, streams } from "./stream.ts";
import { ME, SERVERS } from "./world.ts";

const dist = `${import.meta.dirname}/../dist`;
const CSP =
  "default-src 'self'; style-src 'self'; script-src 'self'; " +
  "img-src 'self' https://cdn.discordapp.com data:; connect-src 'self'";
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".map": "application/json",
};
const CSRF = "dev-csrf";
let lively = true;

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, code: string, sentence: string): void {
  json(response, status, { error: sentence, error_code: code, details: null, request_id: "dev" });
}

function hasSession(request: IncomingMessage): boolean {
  return /(^|;\s*)dev_session=1/.test(request.headers.cookie ?? "");
}

function pageOf<Item>(items: Item[], url: URL): object {
  const page = Number(url.searchParams.get("page") ?? 1);
  const perPage = Math.min(100, Number(url.searchParams.get("per_page") ?? 50));
  const data = items.slice((page - 1) * perPage, page * perPage);
  return {
    data,
    total: items.length,
    page,
    per_page: perPage,
    has_next: page * perPage < items.length,
    has_prev: page > 1,
    is_empty: items.length === 0,
    message: null,
  };
}

function api(request: IncomingMessage, response: ServerResponse, url: URL): void {
  if (url.pathname === "/api/auth/login") {
    const next = url.searchParams.get("next") ?? "/";
    const Location = /^\/(?!\/)/.test(next) ? next : "/";
    response
      .writeHead(302, { Location, "Set-Cookie": "dev_session=1; HttpOnly; SameSite=Lax; Path=/" })
      .end();
    return;
  }
  if (!hasSession(request)) return refuse(response, 401, "no_session", "Please log in.");
  if (url.pathname === "/api/auth/me") return json(response, 200, { user: ME, csrf_token: CSRF });
  if (url.pathname === "/api/auth/logout") {
    if (request.headers["x-csrf-token"] !== CSRF)
      return refuse(response, 403, "csrf", "The page is out of date.");
    response.writeHead(204, { "Set-Cookie": "dev_session=; Path=/; Max-Age=0" }).end();
    return;
  }
  if (url.pathname === "/api/servers") return json(response, 200, pageOf(SERVERS, url));
  const [, guildId = "", what] = /^\/api\/servers\/(\d+)\/(metrics|violations)$/.exec(url.pathname) ?? [];
  const stream = streams.get(guildId);
  if (stream === undefined) return refuse(response, 404, "not_found", "There is no such server.");
  json(
    response,
    200,
    what === "metrics" ? stream.world.metrics() : pageOf(stream.world.violations.toSorted(newestFirst), url),
  );
}

/** Things to do to the page while looking at it. */
function trouble(response: ServerResponse, url: URL): void {
  const number = (name: string, otherwise: number) => Number(url.searchParams.get(name) ?? otherwise);
  const all = [...streams.values()];
  const close = (code: number) => {
    for (const stream of all) for (const socket of stream.sockets) socket.close(code);
  };
  switch (url.pathname) {
    case "/dev/storm": {
      const perTick = Math.round(number("rate", 500) / 40);
      let ticks = number("seconds", 10) * 40;
      const timer = setInterval(() => {
        for (const stream of all) if (stream.sockets.size > 0) stream.violate(perTick);
        ticks -= 1;
        if (ticks <= 0) clearInterval(timer);
      }, 25);
      break;
    }
    case "/dev/violate":
      for (const stream of all) stream.violate(number("count", 1));
      break;
    case "/dev/drop":
      close(number("code", 1011));
      break;
    case "/dev/session":
      close(4001);
      break;
    case "/dev/epoch":
      for (const stream of all) stream.newEpoch();
      close(1012);
      break;
    case "/dev/gap":
      for (const stream of all) stream.skip(3);
      break;
    case "/dev/bot":
      for (const stream of all) {
        stream.world.botOnline = !stream.world.botOnline;
        stream.publish(["bot_status", { online: stream.world.botOnline }]);
      }
      break;
    case "/dev/quiet":
    case "/dev/lively":
      lively = url.pathname === "/dev/lively";
      break;
    default:
      return refuse(response, 404, "not_found", "No such trouble.");
  }
  response.writeHead(204).end();
}

async function page(response: ServerResponse, url: URL): Promise<void> {
  const asked = normalize(url.pathname);
  const path = extname(asked) === "" ? "/index.html" : asked;
  try {
    const body = await readFile(dist + path);
    response.writeHead(200, {
      "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
      "Content-Security-Policy": CSP,
      "X-Content-Type-Options": "nosniff",
    });
    response.end(body);
  } catch {
    response.writeHead(404).end("not found");
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  if (url.pathname.startsWith("/api/")) api(request, response, url);
  else if (url.pathname.startsWith("/dev/")) trouble(response, url);
  else void page(response, url);
});

const sockets = new WebSocketServer({ server, path: "/ws", maxPayload: 16_384 });
sockets.on("connection", (socket, request) => {
  let following: GuildStream | undefined;
  if (!hasSession(request)) return socket.close(4001);
  socket.on("message", (data) => {
    const frame: unknown = JSON.parse(String(data));
    if (typeof frame !== "object" || frame === null || !("guild_id" in frame)) return socket.close(4010);
    following = streams.get(String(frame.guild_id));
    if (following === undefined) return socket.close(4003);
    following.subscribe(socket, "epoch" in frame && frame.epoch, "offset" in frame && frame.offset);
  });
  socket.on("close", () => following?.sockets.delete(socket));
});

setInterval(() => {
  for (const [id, stream] of streams) if (lively && id !== "9005" && Math.random() < 0.35) stream.violate(1);
}, 1_000);
setInterval(() => {
  for (const stream of streams.values()) {
    if (stream.sockets.size > 0) stream.publish(["metrics_update", stream.world.update()]);
  }
}, 3_000);

server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  const address = server.address();
  if (address !== null && typeof address === "object") console.log(`http://127.0.0.1:${address.port}`);
});

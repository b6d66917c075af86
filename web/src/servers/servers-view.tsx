/** The list of servers that the person may look at. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { Server } from "../api/types.ts";
import { Link } from "../router.tsx";
import { guildPath } from "../routes.ts";
import { Avatar } from "../ui/avatar.tsx";
import { formatNumber, plural } from "../ui/format.ts";
import { Notice } from "../ui/notice.tsx";
import { PageTitle } from "../ui/page-title.tsx";
import { isolated, nameOr } from "../ui/strangers.ts";
import { inOrder, loadServers, safeLink, serverList } from "./server-list.ts";

/** Fewer than this are found faster by looking. */
const FILTER_FROM = 9;

export function ServersView(): JSX.Element {
  useEffect(() => void loadServers(), []);
  const list = serverList.value;
  return (
    <main class="page narrow" id="main" tabIndex={-1}>
      <PageTitle title="Servers" />
      <h1>Your servers</h1>
      {list.state === "loading" && <Loading />}
      {list.state === "failed" && (
        <Notice
          kind="error"
          title="Your servers could not be loaded"
          action="Try again"
          onAction={loadServers}
        >
          {list.message}
        </Notice>
      )}
      {list.state === "loaded" && list.unchecked > 0 && (
        <Notice
          kind="error"
          title={`${plural(list.unchecked, "server")} could not be checked`}
          action="Look again"
          onAction={loadServers}
        >
          Discord does not say right now what your role is there. Your other servers are complete.
        </Notice>
      )}
      {list.state === "loaded" && list.servers.length === 0 && list.unchecked === 0 && (
        <Notice kind="empty" title="No servers yet" action="Look again" onAction={loadServers}>
          Servers appear here when you own or administer them, or when an owner gives you a role in Guildhall.
          If someone just did, look again.
        </Notice>
      )}
      {list.state === "loaded" && list.servers.length > 0 && <Servers servers={list.servers} />}
    </main>
  );
}

function Servers({ servers }: { servers: Server[] }): JSX.Element {
  const filter = useSignal("");
  const shown = inOrder(servers, filter.value);
  return (
    <>
      {servers.length >= FILTER_FROM && (
        <input
          class="filter"
          type="search"
          placeholder={`Find one of ${servers.length} servers`}
          aria-label="Find a server by name"
          value={filter.value}
          onInput={(event) => {
            filter.value = event.currentTarget.value;
          }}
        />
      )}
      <p class="visually-hidden" role="status">
        {filter.value === "" ? "" : `${plural(shown.length, "server")} found`}
      </p>
      {shown.length === 0 && <p class="quiet">No server of yours is called that.</p>}
      <ul class="servers">
        {shown.map((server) => (
          <ServerItem key={server.id} server={server} />
        ))}
      </ul>
    </>
  );
}

function ServerItem({ server }: { server: Server }): JSX.Element {
  const name = nameOr(server.name, server.id);
  const inside = (
    <>
      <Avatar id={server.id} name={name} url={server.icon_url} shape="square" />
      <span class="server-words">
        <span class="server-name">
          <bdi>{name}</bdi>
        </span>
        <span class="server-facts">
          {server.member_count === null
            ? "Members not known"
            : `${formatNumber(server.member_count)} members`}
        </span>
      </span>
    </>
  );
  if (server.bot_present) {
    return (
      <li>
        <Link to={guildPath(server.id)} class="server">
          {inside}
          <span class="role">{server.role}</span>
          <span class="server-go" aria-hidden="true">
            →
          </span>
        </Link>
      </li>
    );
  }
  const invite = safeLink(server.invite_url);
  return (
    <li class="server absent">
      {inside}
      <span class="bot-absent">Bot not here</span>
      {invite !== null && (
        <a class="button small" href={invite} rel="noreferrer">
          Invite<span class="visually-hidden"> the bot to {isolated(name)}</span>
        </a>
      )}
    </li>
  );
}

function Loading(): JSX.Element {
  return (
    <div class="skeletons" role="status" aria-label="Loading your servers">
      {[1, 2, 3].map((key) => (
        <div key={key} class="skeleton server-skeleton" />
      ))}
    </div>
  );
}

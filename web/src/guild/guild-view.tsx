/** One server, live: header, numbers, the last day, and the list of violations. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Server } from "../api/types.ts";
import { Link } from "../router.tsx";
import { loadServers, serverList } from "../servers/server-list.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Notice } from "../ui/notice.tsx";
import { PageTitle } from "../ui/page-title.tsx";
import { isolated, nameOr } from "../ui/strangers.ts";
import { Connection, ConnectionProblem } from "./connection.tsx";
import { Counters } from "./counters.tsx";
import { DayChart } from "./day-chart.tsx";
import { type GuildPage, openGuildPage } from "./page-state.ts";
import { Violations } from "./violations.tsx";

export function GuildView({ guildId }: { guildId: string }): JSX.Element {
  const [page, setPage] = useState<GuildPage | null>(null);
  useEffect(() => {
    const opened = openGuildPage(guildId);
    setPage(opened);
    if (serverList.value.state !== "loaded") void loadServers();
    return opened.close;
  }, [guildId]);

  const list = serverList.value;
  const server = list.state === "loaded" ? list.servers.find(({ id }) => id === guildId) : undefined;
  if (page === null) return <main class="page" id="main" tabIndex={-1} aria-busy="true" />;
  return page.refused.value ? <Refused /> : <Open page={page} guildId={guildId} server={server} />;
}

interface OpenProps {
  page: GuildPage;
  guildId: string;
  server: Server | undefined;
}

function Open({ page, guildId, server }: OpenProps): JSX.Element {
  const unnamed = serverList.value.state === "loading" ? "Loading…" : `Server ${guildId}`;
  const name = server === undefined ? unnamed : nameOr(server.name, `Server ${guildId}`);
  const { delayed, loaded, metrics } = page.feed.value;
  const problem = page.problem.value;
  return (
    <main class="guild" id="main" tabIndex={-1}>
      <PageTitle title={isolated(name)} />
      <div class="guild-header">
        <div class="guild-header-inside">
          <Avatar id={guildId} name={name} url={server?.icon_url ?? null} shape="square" />
          <h1>
            <bdi>{name}</bdi>
          </h1>
          {server !== undefined && <span class="role">{server.role}</span>}
          <Connection status={page.status} />
        </div>
      </div>
      <div class="guild-body">
        <ConnectionProblem status={page.status} retry={page.retry} loaded={loaded} />
        {delayed && (
          <div class="connection-problem" role="status" data-testid="delayed">
            <p>The database is away, so new events come late. They are kept, and will appear here.</p>
          </div>
        )}
        {problem !== null && !loaded ? (
          <Notice
            kind="error"
            title="This server could not be loaded"
            action="Try again"
            onAction={page.retry}
          >
            {problem} Guildhall keeps trying.
          </Notice>
        ) : (
          <>
            <Counters metrics={metrics} />
            <div class="guild-columns">
              <DayChart metrics={metrics} />
              <Violations page={page} />
            </div>
          </>
        )}
      </div>
    </main>
  );
}

function Refused(): JSX.Element {
  return (
    <main class="page" id="main" tabIndex={-1}>
      <PageTitle title="No access" />
      <Notice kind="empty" title="You can't look at this server" heading="page">
        It may not be in Guildhall, or you have no role there. Its owner can give you one.{" "}
        <Link to="/">Go to your servers</Link>
      </Notice>
    </main>
  );
}

/** Chooses the view: the session first, then the address. */

import type { JSX } from "preact";
import { GuildView } from "./guild/guild-view.tsx";
import { LoginView } from "./login-view.tsx";
import { Link, route } from "./router.tsx";
import { ServersView } from "./servers/servers-view.tsx";
import { askWhoIsHere, session } from "./session.ts";
import { Mark } from "./ui/mark.tsx";
import { Notice } from "./ui/notice.tsx";
import { PageTitle } from "./ui/page-title.tsx";
import { TopBar } from "./ui/top-bar.tsx";

export function App(): JSX.Element {
  const now = session.value;
  if (now.state === "asking") return <Opening />;
  if (now.state === "out") return <LoginView ended={now.ended} />;
  if (now.state === "unreachable") {
    return (
      <main class="centred" id="main" tabIndex={-1}>
        <PageTitle title="Not reachable" />
        <Notice kind="error" title="Guildhall cannot be reached" action="Try again" onAction={askWhoIsHere}>
          {now.message}
        </Notice>
      </main>
    );
  }
  const { value: where } = route;
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to content
      </a>
      <TopBar user={now.me.user} guildId={where.view === "guild" ? where.guildId : null} />
      {where.view === "servers" && <ServersView />}
      {where.view === "guild" && <GuildView key={where.guildId} guildId={where.guildId} />}
      {where.view === "not_found" && <NotFound />}
    </>
  );
}

function Opening(): JSX.Element {
  return (
    <main class="centred" aria-busy="true">
      <Mark class="opening-mark" />
      <p class="visually-hidden" role="status">
        Opening Guildhall
      </p>
    </main>
  );
}

function NotFound(): JSX.Element {
  return (
    <main class="page" id="main" tabIndex={-1}>
      <Notice kind="empty" title="There is nothing at this address" heading="page">
        <PageTitle title="Not found" />
        The link may be old, or a character got lost. <Link to="/">Go to your servers</Link>
      </Notice>
    </main>
  );
}

/** The bar on every page: home, the switcher between servers, theme, and the person. */

import { signal } from "@preact/signals";
import type { JSX, TargetedEvent } from "preact";
import type { User } from "../api/types.ts";
import { Link, navigate } from "../router.tsx";
import { guildPath } from "../routes.ts";
import { serverList } from "../servers/server-list.ts";
import { logOut } from "../session.ts";
import { Avatar } from "./avatar.tsx";
import { Mark } from "./mark.tsx";
import { isolated, nameOr } from "./strangers.ts";
import { ThemeButton } from "./theme-button.tsx";

const logOutProblem = signal<string | null>(null);

export function TopBar({ user, guildId }: { user: User; guildId: string | null }): JSX.Element {
  return (
    <header class="top-bar">
      <Link to="/" class="home-link">
        <Mark />
        <span class="wordmark">Guildhall</span>
      </Link>
      {guildId !== null && <Switcher guildId={guildId} />}
      <div class="top-bar-end">
        <ThemeButton />
        <UserMenu user={user} />
      </div>
    </header>
  );
}

function Switcher({ guildId }: { guildId: string }): JSX.Element {
  const list = serverList.value;
  const servers = list.state === "loaded" ? list.servers.filter((server) => server.bot_present) : [];
  const listed = servers.some((server) => server.id === guildId);
  const change = (event: TargetedEvent<HTMLSelectElement>) => {
    const to = event.currentTarget.value;
    // Some browsers change the value with each arrow key; the select must not lose the focus between two.
    navigate(to === "" ? "/" : guildPath(to), { keepFocus: to !== "" });
  };
  return (
    <nav class="switcher" aria-label="Servers">
      <select aria-label="Switch server" value={guildId} onChange={change}>
        {!listed && <option value={guildId}>{list.state === "loading" ? "…" : "This server"}</option>}
        {servers.map((server) => (
          <option key={server.id} value={server.id}>
            {isolated(nameOr(server.name, server.id))}
          </option>
        ))}
        <option value="">All servers…</option>
      </select>
    </nav>
  );
}

function UserMenu({ user }: { user: User }): JSX.Element {
  const leave = async () => {
    logOutProblem.value = await logOut();
  };
  const username = nameOr(user.username, "");
  const name = nameOr(user.display_name, username || user.id);
  return (
    <div class="user-menu">
      <button
        type="button"
        class="user-button"
        popovertarget="user-menu"
        aria-label={`Menu of ${isolated(name)}`}
      >
        <Avatar id={user.id} name={name} url={user.avatar_url} />
      </button>
      <div id="user-menu" class="menu" popover="auto">
        <p class="menu-name">
          <strong>
            <bdi>{name}</bdi>
          </strong>
          {username !== "" && (
            <span class="handle">
              <bdi>@{username}</bdi>
            </span>
          )}
        </p>
        {logOutProblem.value !== null && (
          <p class="menu-problem" role="alert">
            {logOutProblem.value}
          </p>
        )}
        <button type="button" class="menu-item" onClick={leave}>
          Log out
        </button>
      </div>
    </div>
  );
}

/** What a person without a session sees. */

import type { JSX } from "preact";
import { loginUrl } from "./api/endpoints.ts";
import { loginErrorSentence } from "./routes.ts";
import { ChatIcon } from "./ui/icons.tsx";
import { Mark } from "./ui/mark.tsx";
import { PageTitle } from "./ui/page-title.tsx";
import { ThemeButton } from "./ui/theme-button.tsx";

export function LoginView({ ended }: { ended: boolean }): JSX.Element {
  const error = new URLSearchParams(location.search).get("login_error");
  return (
    <>
      <header class="login-header">
        <ThemeButton />
      </header>
      <main class="centred" id="main" tabIndex={-1}>
        <PageTitle title="Log in" />
        <section class="login-card">
          <Mark class="login-mark" />
          <h1>Guildhall</h1>
          <p class="lead">See what happens on your Discord servers the moment it happens.</p>
          {(error !== null || ended) && (
            <p class="login-note" role="alert">
              {error !== null
                ? loginErrorSentence(error)
                : "Your session has ended. Log in again to carry on."}
            </p>
          )}
          <a class="button primary large" href={loginUrl(location.pathname)}>
            <ChatIcon />
            Log in with Discord
          </a>
          <p class="fine-print">
            Guildhall learns who you are and which servers you are on. It never posts in your name.
          </p>
        </section>
      </main>
    </>
  );
}

"""The consent page, and the page that says why there is none."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING

from .names import PEOPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Nothing is loaded and no script runs. No form-action: browsers apply it to the redirect that follows, too.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
)

_SCOPES = {
    "identify": "Know your username and display name",
    "email": "Know your email address",
    "guilds": "Know what servers you're in",
    "guilds.members.read": "Read your nickname and roles in those servers",
    "openid": "Know who you are",
    "connections": "Know your connected accounts",
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --page: #eceef3; --card: #ffffff; --text: #1c1e26; --soft: #555a68; --line: #d9dce5; --hover: #f1f3fa;
  --brand: #4752c4; --on-brand: #ffffff; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14151a; --card: #1f2129; --text: #f1f2f6; --soft: #abb0bf; --line: #363a46; --hover: #292c37;
    --brand: #8b96ff; --on-brand: #14151a; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px; background: var(--page);
  color: var(--text); font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main {
  width: 100%; max-width: 440px; background: var(--card); border: 1px solid var(--line); border-radius: 16px;
  padding: 28px 24px; box-shadow: 0 12px 40px rgb(0 0 0 / .12); overflow-wrap: anywhere;
}
.badge {
  width: 56px; height: 56px; border-radius: 50%; display: grid; place-items: center; margin: 0 auto 12px;
  background: var(--brand); color: var(--on-brand); font-size: 24px; font-weight: 700;
}
h1 { font-size: 1.3rem; line-height: 1.25; text-align: center; margin: 0 0 4px; text-wrap: balance; }
h2 { font-size: .95rem; margin: 24px 0 8px; }
p { margin: 0; color: var(--soft); }
.lead { text-align: center; }
ul { list-style: none; margin: 16px 0 0; padding: 12px 0 0; border-top: 1px solid var(--line); }
ul li { color: var(--soft); padding: 3px 0 3px 26px; position: relative; }
ul li::before { content: "✓"; position: absolute; left: 2px; color: var(--brand); font-weight: 700; }
form { margin: 0; display: grid; gap: 8px; }
button {
  font: inherit; color: inherit; text-align: left; width: 100%; padding: 11px 14px; cursor: pointer;
  background: transparent; border: 1px solid var(--line); border-radius: 10px;
  display: grid; grid-template-columns: 36px 1fr; gap: 0 12px; align-items: center;
}
button:hover { background: var(--hover); border-color: var(--brand); }
button:focus-visible { outline: 3px solid var(--brand); outline-offset: 2px; }
.face {
  width: 36px; height: 36px; border-radius: 50%; display: grid; place-items: center; grid-row: span 2;
  background: var(--hover); color: var(--brand); font-weight: 700; border: 1px solid var(--line);
}
.who { font-weight: 600; }
.what { color: var(--soft); font-size: .875rem; }
.cancel { display: block; text-align: center; margin-top: 8px; color: var(--soft); }
.foot { margin-top: 20px; font-size: .8125rem; text-align: center; }
.bad { color: var(--bad); }
code { font-size: .9em; }
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

_CONSENT = Template("""<div class="badge" aria-hidden="true">$initial</div>
<h1>$app wants to access your account</h1>
<p class="lead">A local Discord: no real account is involved.</p>
<ul aria-label="What $app will be able to do">$scopes</ul>
<h2 id="choose">Who do you want to be?</h2>
<form method="post" action="/oauth2/authorize" aria-labelledby="choose">
$hidden
$people
<button class="cancel" name="cancel" value="1" aria-label="Cancel">Cancel</button>
</form>
<p class="foot">You will be sent back to <strong>$target</strong></p>""")

_PERSON = Template("""<button name="user" value="$name" aria-label="Continue as $name"
  aria-describedby="about-$name">
<span class="face" aria-hidden="true">$initial</span>
<span class="who">$name</span><span class="what" id="about-$name">$about</span>
</button>""")

_REFUSED = Template("""<div class="badge" aria-hidden="true">!</div>
<h1>This login link does not work</h1>
<p class="lead bad" role="alert">$problem</p>
<p class="foot">Error: <code>$code</code></p>""")


def consent_page(*, app: str, scopes: tuple[str, ...], target: str, query: Mapping[str, str]) -> str:
    """Return the page on which one chooses who to be; `query` comes back with the choice."""
    hidden = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in query.items()
    )
    people = "\n".join(
        _PERSON.substitute(name=name, initial=name[0].upper(), about=escape(about))
        for name, (_, about) in PEOPLE.items()
    )
    body = _CONSENT.substitute(
        app=escape(app),
        initial=escape(app[:1].upper()),
        scopes="".join(f"<li>{escape(_SCOPES.get(scope, scope))}</li>" for scope in scopes),
        hidden=hidden,
        people=people,
        target=escape(target),
    )
    return _PAGE.substitute(title=escape(f"Authorize {app}"), body=body)


def refusal_page(*, code: str, problem: str) -> str:
    """Return the page for a request that cannot even be sent back where it came from."""
    body = _REFUSED.substitute(problem=escape(problem), code=escape(code))
    return _PAGE.substitute(title="This login link does not work", body=body)

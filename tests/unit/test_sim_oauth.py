"""OAuth2 codes, tokens and the consent page."""

from __future__ import annotations

import base64
import hashlib

import pytest

from discord_sim.oauth import CODE_LIFE_S, TOKEN_LIFE_S, Client, Grant, OAuth, OAuthError
from discord_sim.oauth_page import consent_page, refusal_page

BACK = "http://127.0.0.1:8000/callback"
GRANT = Grant(user_id=7, scopes=("identify", "guilds"))
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def oauth() -> OAuth:
    return OAuth(Client(client_id="1", client_secret="s", redirect_uris=("https://example.com/cb",)))


def exchange(code: str, **changes: str) -> dict[str, str]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    return form | changes


def test_a_code_becomes_a_token_once(oauth: OAuth) -> None:
    """The second use is refused, and takes the token of the first with it."""
    code = oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)
    answer = oauth.token(exchange(code), 1)
    assert (answer["token_type"], answer["scope"]) == ("Bearer", "identify guilds")
    assert oauth.grant_of(answer["access_token"], 2) == GRANT
    with pytest.raises(OAuthError, match="code"):
        oauth.token(exchange(code), 3)
    assert oauth.grant_of(answer["access_token"], 4) is None


def test_a_code_lives_a_minute(oauth: OAuth) -> None:
    """Afterwards it is as good as none."""
    code = oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)
    with pytest.raises(OAuthError, match="code"):
        oauth.token(exchange(code), CODE_LIFE_S + 0.1)


@pytest.mark.parametrize(
    "wrong", [{"redirect_uri": BACK + "/"}, {"code_verifier": "w" * 50}, {"code_verifier": ""}]
)
def test_redirect_uri_and_verifier_must_be_those_of_the_request(oauth: OAuth, wrong: dict[str, str]) -> None:
    """Otherwise the grant is invalid."""
    code = oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)
    with pytest.raises(OAuthError) as caught:
        oauth.token(exchange(code, **wrong), 1)
    assert (caught.value.error, caught.value.status) == ("invalid_grant", 400)


def test_the_right_verifier_is_accepted(oauth: OAuth) -> None:
    """PKCE with S256."""
    code = oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)
    assert oauth.token(exchange(code, code_verifier=VERIFIER), 1)["access_token"]


def test_a_refresh_token_is_exchanged_for_a_new_pair(oauth: OAuth) -> None:
    """The old pair ends with it."""
    code = oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)
    old = oauth.token(exchange(code), 0)
    refresh = {"grant_type": "refresh_token", "refresh_token": old["refresh_token"]}
    new = oauth.token(refresh, 1)
    assert oauth.grant_of(old["access_token"], 2) is None
    assert oauth.grant_of(new["access_token"], 2) == GRANT
    with pytest.raises(OAuthError, match="refresh_token"):
        oauth.token(refresh, 3)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_both(oauth: OAuth, which: str) -> None:
    """And revoking nonsense is no error."""
    pair = oauth.token(exchange(oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)), 0)
    oauth.revoke("nonsense")
    oauth.revoke(pair[which])
    assert oauth.grant_of(pair["access_token"], 1) is None


@pytest.mark.parametrize("how", ["revoke", "disown"])
def test_all_of_a_persons_tokens_end_together(oauth: OAuth, how: str) -> None:
    """As Discord has it: one pair revoked, or the application removed, ends all; others keep theirs."""
    somebody_else = Grant(user_id=8, scopes=("identify",))
    pairs = [
        oauth.token(exchange(oauth.issue_code(grant, redirect_uri=BACK, challenge=CHALLENGE, now=0)), 0)
        for grant in (GRANT, GRANT, somebody_else)
    ]
    if how == "revoke":
        oauth.revoke(pairs[0]["access_token"])
    else:
        assert oauth.disown(GRANT.user_id) == 2
    assert [oauth.grant_of(pair["access_token"], 1) for pair in pairs] == [None, None, somebody_else]


def test_a_refresh_leaves_the_persons_other_tokens_alone(oauth: OAuth) -> None:
    """So does a code that is used twice: only what came of it ends."""
    first_code, second_code = [
        oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0) for _ in range(2)
    ]
    first, second = oauth.token(exchange(first_code), 0), oauth.token(exchange(second_code), 0)
    oauth.token({"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}, 1)
    assert oauth.grant_of(second["access_token"], 1) == GRANT
    with pytest.raises(OAuthError):
        oauth.token(exchange(first_code), 2)
    assert oauth.grant_of(second["access_token"], 2) == GRANT


def test_tokens_live_as_long_as_is_set(oauth: OAuth) -> None:
    """The answer says so."""
    oauth.token_life_s = 5
    pair = oauth.token(exchange(oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)), 0)
    assert pair["expires_in"] == 5
    assert oauth.grant_of(pair["access_token"], 4) == GRANT
    assert oauth.grant_of(pair["access_token"], 5) is None


def test_an_access_token_expires(oauth: OAuth) -> None:
    """After a week."""
    pair = oauth.token(exchange(oauth.issue_code(GRANT, redirect_uri=BACK, challenge=CHALLENGE, now=0)), 0)
    assert oauth.grant_of(pair["access_token"], TOKEN_LIFE_S - 1) == GRANT
    assert oauth.grant_of(pair["access_token"], TOKEN_LIFE_S + 1) is None


@pytest.mark.parametrize("credentials", [("1", "x"), ("2", "s"), (None, None)])
def test_a_client_must_prove_who_it_is(oauth: OAuth, credentials: tuple[str | None, str | None]) -> None:
    """401 with invalid_client."""
    with pytest.raises(OAuthError) as caught:
        oauth.authenticate(*credentials)
    assert (caught.value.error, caught.value.status) == ("invalid_client", 401)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("http://127.0.0.1:1234/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:80/", True),
        ("https://example.com/cb", True),
        ("https://example.com/other", False),
        ("http://127.0.0.1.evil.com/", False),
        ("http://localhost@evil.com/", False),
        ("javascript:alert(1)", False),
        ("http://localhost/#fragment", False),
        ("http://[bad/", False),
        ("", False),
    ],
)
def test_redirects_go_to_registered_places_only(oauth: OAuth, uri: str, *, allowed: bool) -> None:
    """The configured list, and this machine."""
    assert oauth.client.may_redirect_to(uri) is allowed


def test_the_consent_page_escapes_what_it_is_given() -> None:
    """Nothing from the query becomes markup."""
    page = consent_page(
        app="<App>", scopes=("identify", "<s>"), target="<t>", query={"state": '"><script>alert(1)</script>'}
    )
    assert "<script>" not in page
    assert "&lt;App&gt; wants to access your account" in page
    for name in ("owner", "admin", "moderator", "viewer", "outsider"):
        assert f'aria-label="Continue as {name}"' in page
    assert "http://" not in page
    assert "<script>" not in refusal_page(code="x", problem="<script>")

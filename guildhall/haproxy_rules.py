"""What HAProxy does before any replica hears of a request, as pieces of its configuration.

Everything here counts or refuses; what a person may do is the replicas' business.
"""

from __future__ import annotations

import json

import msgspec
from limits import parse

from serve_app.middleware import SECURITY_HEADERS, STAY_ON_TLS
from serve_app.ports import MAX_BODY_BYTES

PROXIES_FOLLOWED = 4
"""So many trusted proxies in a row are believed; whoever is behind more counts as the outermost of these."""
SERVER_TIMEOUT_S = 75
"""Longer than any answer takes: queries and changes end by their own limits before."""
METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS"
SAFE_METHODS = "GET HEAD OPTIONS"
WATCHED = "{ path /health /metrics }"
"""Whoever watches over us is counted apart, and never refused for what else its address asked."""
PROBES_AT_ONCE = 16
COUNTERS = 4
"""Tables in which one request can be counted; HAProxy's own default is one less."""

ASSET = "{ path_beg /assets/ }"
PAGE = "{ path_reg ^/[A-Za-z0-9/_-]*$ } !{ path_reg ^/(api|assets|ws|health|metrics|-)(/|$) }"
"""Every address that the page itself takes apart: they all get the same file."""
ROOT_FILE = "{ path_reg ^/[A-Za-z0-9_-]+[.][a-z]+$ }"
READING = "{ method GET HEAD }"
PAGE_KEPT_S = 30
"""For so long HAProxy asks no replica for it again. New replicas mean a new HAProxy, which has none yet."""

SERVES_OWN_HEADERS = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-session-id",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
    "x-serve-router- -m beg",
)
"""By these Ray Serve is told how to treat a request: to end it early, say. No client's business."""
SOCKETS = "{ path_reg ^/ws(/|$) }"
MAPPED_NETWORK = "::ffff:0:0/96"
"""IPv4 as a socket for both families shows it: each address is somebody by itself."""
MARK = "guildhall: the front door"


class DoorLimits(msgspec.Struct, frozen=True):
    """What one address may hold and send, and for how long it is waited for."""

    connections: int = 300
    """Connections of an address at once."""
    requests: str = "1200 per 10 seconds"
    """Requests of an address, whatever they ask for."""
    burst: str = "300 per second"
    """The same in short: some dozens of people behind one address may reload their page together."""
    at_once: int = 50
    """Requests of an address that replicas have in hands, WebSockets aside; as many for files."""
    refusals: str = "100 per 10 seconds"
    """Answers of replicas with 4xx to an address; then the door says 429 itself."""
    probes: str = "200 per 10 seconds"
    """Looks at health and metrics from an address."""
    header_bytes: int = 8 << 10
    """All headers of a request together."""
    body_bytes: int = MAX_BODY_BYTES
    request_timeout_s: int = 10
    """For the headers of a request, and for its body as far as it fits HAProxy's buffer."""
    client_timeout_s: int = 30
    """For a client that neither sends nor takes what is under way."""
    keep_alive_timeout_s: int = 30
    """For the next request on a connection."""
    socket_timeout_s: int = 120
    """For a WebSocket on which nothing moves, not even a ping."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Who is believed about whose request it brings."""
    behind_tls: bool = False


def defaults(limits: DoorLimits, folder: str) -> str:
    """Return what goes into the section of defaults, in place of what Ray writes there."""
    lines = [
        "option forwardfor",  # without it a stranger's X-Forwarded-For would be the only one there is
        # The log must not hold queries: codes and states of logins travel there.
        'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %HM %HPO"',
        f"timeout http-request {limits.request_timeout_s}s",
        f"timeout client {limits.client_timeout_s}s",
        f"timeout client-fin {limits.client_timeout_s}s",
        f"timeout http-keep-alive {limits.keep_alive_timeout_s}s",
        f"timeout tunnel {limits.socket_timeout_s}s",
        f"timeout server {SERVER_TIMEOUT_S}s",
        "option http-ignore-probes",  # browsers open connections that they may never use
        # A replica that died with a request in its hands; what may change something is not sent twice.
        "retry-on conn-failure empty-response",
        *(f"errorfile {status} {folder}/{status}.http" for status in ERRORS),
    ]
    return _section(lines)


def frontend(limits: DoorLimits) -> str:
    """Return the rules of the front door, in the order in which they are asked."""
    return _section(
        [
            "option http-buffer-request",
            # Without TLS nobody needs it, and its streams would be counted as one connection.
            "option disable-h2-upgrade",
            *_connections(limits),
            *_who(limits),
            *_rates(limits),
            *_refusals(limits),
            *_files(),
            *_before_replicas(limits),
            "http-request set-header x-request-id %[var(txn.id)]",
            *(f"http-request del-header {name}" for name in SERVES_OWN_HEADERS),
            f"http-request disable-l7-retry if !{{ method {SAFE_METHODS} }}",
            # What must not be compressed beside what a stranger can place says `no-transform`.
            "compression algo gzip",
            "compression type application/json",
            *_answers(),
            "http-after-response set-header x-request-id %[var(txn.id)] if { var(txn.id) -m found }",
            "http-after-response del-header server",
            *_security_headers(limits),
        ]
    )


def tables(limits: DoorLimits) -> str:
    """Return the sections that hold the counters, and the files."""
    requests, burst, refusals, probes = (
        parse(rate).get_expiry() for rate in (limits.requests, limits.burst, limits.refusals, limits.probes)
    )
    table = "stick-table type ipv6 size 100k expire"
    rates = f"http_req_rate({requests}s),gpc0,gpc0_rate({burst}s),gpc1,gpc1_rate({refusals}s)"
    return (
        f"backend door_connections\n    {table} 10m store conn_cur\n"
        f"backend door_requests\n    {table} {2 * max(requests, burst, refusals)}s store {rates}\n"
        f"backend door_at_once\n    {table} 10m store conn_cur\n"
        f"backend door_files\n    {table} 10m store conn_cur\n"
        f"backend door_probes\n    {table} {2 * probes}s store conn_cur,http_req_rate({probes}s)\n"
        "cache door_files\n    total-max-size 16\n    max-object-size 1048576\n    max-age 3600\n"
        "    process-vary on\n"
    )


def error_files(limits: DoorLimits) -> dict[str, str]:
    """Return HAProxy's own answers, in the one form of errors; most have no id, since nothing was read."""
    files = {}
    for status, (reason, code, message) in ERRORS.items():
        body = _error(code, message, "unknown")
        headers = _headers(limits) | {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        files[f"{status}.http"] = f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{body}"
    return files


ERRORS = {
    400: ("Bad Request", "malformed_request", "The request makes no sense, or broke off."),
    408: ("Request Timeout", "request_too_slow", "The request did not arrive in time. Try again."),
    500: ("Internal Server Error", "internal_error", "Something broke on our side. It has been noted."),
    502: ("Bad Gateway", "unavailable", "The answer broke off. Try again in a moment."),
    503: ("Service Unavailable", "unavailable", "Nobody can answer right now. Try again in a moment."),
    504: ("Gateway Timeout", "unavailable", "The answer took too long. Try again in a moment."),
}


def _connections(limits: DoorLimits) -> list[str]:
    """Count connections by address before a byte is read. A proxy that is trusted holds many people's."""
    others = f"!{{ src {' '.join(limits.trusted_proxies)} }}" if limits.trusted_proxies else ""
    table, mapped = "table door_connections", f"{{ src {MAPPED_NETWORK} }}"
    return [
        f"tcp-request connection track-sc0 src,ipmask(32,64) {table} if !{mapped} {others}",
        f"tcp-request connection track-sc0 src {table} if {mapped} {others}",
        f"tcp-request connection reject if {{ sc_conn_cur(0) gt {limits.connections} }}",
    ]


def _who(limits: DoorLimits) -> list[str]:
    """Find out who asks: from the right, the first in X-Forwarded-For that is no proxy of ours."""
    lines = ["http-request set-var(txn.id) uuid()", "http-request set-var(txn.client) src"]
    if limits.trusted_proxies:
        trusted = f"{{ var(txn.client) -m ip {' '.join(limits.trusted_proxies)} }}"
        lines.append("http-request set-var(txn.hops) int(0)")
        for hop in range(1, PROXIES_FOLLOWED + 1):
            said = f"req.hdr_ip(x-forwarded-for,-{hop})"
            further = f"{{ var(txn.hops) -m int {hop - 1} }} {trusted} {{ {said} -m found }}"
            lines += [
                f"http-request set-var(txn.hops) int({hop}) if {further}",
                f"http-request set-var(txn.client) {said} if {{ var(txn.hops) -m int {hop} }}",
            ]
    mapped = f"{{ var(txn.client) -m ip {MAPPED_NETWORK} }}"
    return [
        *lines,
        # An IPv6 user has at least a network of this size.
        "http-request set-var(txn.household) var(txn.client),ipmask(32,64)",
        f"http-request set-var(txn.household) var(txn.client) if {mapped}",
    ]


def _rates(limits: DoorLimits) -> list[str]:
    """Count requests by address, and refuse what is too often."""
    lines = [
        f"http-request track-sc1 var(txn.household) table door_requests if !{WATCHED}",
        "http-request sc-inc-gpc0(1)",
        _too_often(limits.requests, "sc_http_req_rate(1)"),
        _too_often(limits.burst, "sc_gpc0_rate(1)"),
    ]
    if limits.trusted_proxies:
        behind_proxy = f"{{ var(txn.hops) -m int gt 0 }} !{WATCHED}"
        lines += [
            f"http-request track-sc2 var(txn.household) table door_connections if {behind_proxy}",
            _refuse(
                429,
                "too_many_connections",
                "Too many connections from this address.",
                f"{{ sc_conn_cur(2) gt {limits.connections} }}",
                "retry-after 1",
            ),
        ]
    return lines


def _too_often(rate: str, count: str, also: str = "") -> str:
    allowed = parse(rate)
    return _refuse(
        429,
        "too_many_requests",
        "That was too often. Try again in a moment.",
        f"{{ {count} gt {allowed.amount} }} {also}".rstrip(),
        f"retry-after {allowed.get_expiry()}",
    )


def _files() -> list[str]:
    """Answer what is the same for everybody from memory: whoever asks, and with which headers, is dropped.

    The page is one file at all its addresses. A replica is asked when HAProxy has none, or no more. How it
    is encoded is part of the name by which HAProxy knows a file: it would give everybody the plain one.
    """
    accepts = "{{ req.hdr(accept-encoding) -m reg -i ^{}(;|$) }}"
    forbids = "{ req.hdr(accept-encoding) -m reg ;.*q=0([.]0*)?$ }"
    encoding = "%[var(txn.encoding)]"
    static = "{ var(txn.static) -m found }"
    return [
        f"http-request set-var(txn.static) str(asset) if {READING} {ASSET}",
        f"http-request set-var(txn.static) str(page) if {READING} {PAGE}",
        f"http-request set-var(txn.static) str(file) if {READING} {ROOT_FILE}",
        "http-request set-uri / if { var(txn.static) -m str page }",
        f"http-request set-uri %[path] if {static}",
        "http-request set-var(txn.encoding) str(identity)",
        *(
            f"http-request set-var(txn.encoding) str({name}) if {accepts.format(name)} !{forbids}"
            for name in ("gzip", "br")
        ),
        f"http-request set-header accept-encoding {encoding} if {static}",
        f"http-request set-header host {encoding} if {static}",
        *(
            f"http-request del-header {name} if {static}"
            for name in ("cookie", "cache-control", "pragma", "authorization", "range")
        ),
        f"http-request cache-use door_files if {static}",
    ]


def _before_replicas(limits: DoorLimits) -> list[str]:
    """Refuse what would keep replicas from answering others.

    These rules do not know whether HAProxy has a file: it is counted either way, though apart. The page
    alone is never refused for what else was, because HAProxy nearly always has it.
    """
    static = "{ var(txn.static) -m found }"
    track = "http-request track-sc3 var(txn.household) table"
    return [
        _too_often(limits.refusals, "sc_gpc1_rate(1)", "!{ var(txn.static) -m str page }"),
        f"{track} door_probes if {WATCHED}",
        f"{track} door_files if {static}",
        f"{track} door_at_once if !{WATCHED} !{SOCKETS} !{static}",
        _too_often(limits.probes, "sc_http_req_rate(3)"),
        *(
            _refuse(
                429,
                "too_many_at_once",
                "Too many requests from this address at once. Try again in a moment.",
                f"{which} {{ sc_conn_cur(3) gt {most} }}",
                "retry-after 1",
            )
            for which, most in ((WATCHED, PROBES_AT_ONCE), (f"!{WATCHED}", limits.at_once))
        ),
    ]


def _answers() -> list[str]:
    """Count what replicas refused, and keep files. Browsers keep assets alone; the page they ask for anew."""
    page, found = "{ var(txn.static) -m str page file }", "{ status 200 }"
    return [
        "http-response sc-inc-gpc1(1) if { status 400:499 }",
        f'http-response set-header cache-control "max-age={PAGE_KEPT_S}" if {page} {found}',
        f"http-response cache-store door_files if {{ var(txn.static) -m found }} {found}",
        f"http-after-response set-header cache-control no-store if {page}",
        f"http-after-response del-header age if {page}",
    ]


def _refusals(limits: DoorLimits) -> list[str]:
    """Refuse what no replica need see."""
    return [
        _refuse(
            405,
            "http_error",
            "Method Not Allowed",
            f"!{{ method {METHODS} }}",
            f'allow "{", ".join(METHODS.split())}"',
        ),
        _refuse(
            431,
            "headers_too_large",
            f"The headers may have {limits.header_bytes} bytes at most.",
            f"{{ req.hdrs,length gt {limits.header_bytes} }}",
        ),
        _refuse(
            414,
            "address_too_long",
            f"An address may have {limits.header_bytes // 2} bytes at most.",
            f"{{ url,length gt {limits.header_bytes // 2} }}",
        ),
        _refuse(
            413,
            "body_too_large",
            f"A body may have {limits.body_bytes >> 10} KiB at most.",
            f"{{ req.body_size gt {limits.body_bytes} }}",
        ),
        # Nobody reads a body there: a client could send one for days.
        _refuse(
            400,
            "body_not_allowed",
            "Such a request has no body.",
            f"{{ method {SAFE_METHODS} }} {{ req.body_size gt 0 }}",
        ),
        _refuse(
            400,
            "body_not_allowed",
            "Such a request has no body.",
            f"{{ method {SAFE_METHODS} }} {{ req.hdr(transfer-encoding) -m found }}",
        ),
        _refuse(405, "http_error", "Method Not Allowed", f"{SOCKETS} !{{ method GET }}", 'allow "GET"'),
        # Ray Serve's own addresses say what is deployed.
        _refuse(404, "not_found", "There is nothing here.", "{ path,url_dec -m beg -i /-/ }"),
    ]


def _refuse(status: int, code: str, message: str, condition: str, header: str | None = None) -> str:
    body = _error(code, message, "%[var(txn.id)]")
    more = f" hdr {header}" if header else ""
    return (
        f"http-request return status {status} content-type application/json lf-string '{body}' "
        f"hdr cache-control no-store{more} if {condition}"
    )


def _error(code: str, message: str, request_id: str) -> str:
    return json.dumps({"error": message, "error_code": code, "details": None, "request_id": request_id})


def _security_headers(limits: DoorLimits) -> list[str]:
    missing = "!{{ status 101 }} !{{ res.hdr({name}) -m found }}"
    return [
        f'http-after-response set-header {name} "{value}" if {missing.format(name=name)}'
        for name, value in _headers(limits).items()
    ]


def _headers(limits: DoorLimits) -> dict[str, str]:
    return SECURITY_HEADERS | (STAY_ON_TLS if limits.behind_tls else {})


def _section(lines: list[str]) -> str:
    return "".join(f"    {line}\n" for line in [f"# {MARK}", *lines])

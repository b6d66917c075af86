"""What a cluster of our own must not share with another on the same machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guildhall import environment

OF_ITS_OWN = [
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_SOCKET_PATH",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
    "RAY_AUTH_TOKEN",
]
"""With a fallback proxy in common, one cluster's replicas answered the other's requests."""


def test_two_clusters_share_no_port_file_or_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own, unless the user has said otherwise."""
    before = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setattr(environment, "front_door", lambda folder, _limits, _host: folder / "front-door")
    found: list[dict[str, str]] = []
    for number in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", dict(before))
            runtime_dir = tmp_path / str(number)
            runtime_dir.mkdir()
            environment.prepare(runtime_dir, runtime_dir / "token")
            found.append(dict(os.environ))
    for name in OF_ITS_OWN:
        assert found[0][name] != found[1][name], name

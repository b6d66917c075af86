"""HTTP and WebSocket on Ray Serve: parse, authorise, call, serialise."""

"""A server for the network block device protocol. Knows block devices, and nothing of VHDX.

For use from outside: `server` (Server, ServerSettings), `export` (Export), `server_log` (ServerLog), and for TLS
`tls.server_context`. A request goes from the `channel` through `connection` to `reads`, `overwrites`, or `workers`,
and from there to the device; the replies go back to the channel. `protocol` is pure: bytes in, events and requests
out, and replies as bytes.
"""

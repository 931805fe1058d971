"""The network block device protocol, pure: bytes in, events out; bytes out of replies. No sockets, no threads."""

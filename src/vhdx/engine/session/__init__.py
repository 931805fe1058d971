"""The one door for everything that changes a file: its space, its log, its headers, its commits.

`session.WriteSession` is the door. It takes changes of metadata as `engine.page_cache.PageChange`, and gives out file
space as `allocator.Space`. Two of its parts are for its callers, too: `in_flight`, the tickets and locks of running
operations, and `poison`, which tells whether the session may go on. Whether a file's headers can take a session is
told by `header_writer.has_headroom`.

Everything else in this room is the session's own.
"""

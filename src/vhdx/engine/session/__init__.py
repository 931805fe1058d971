"""One door for everything that changes a file: its space, its log, its headers, its commits.

`WriteSession` (`session.py`) is what other rooms use; `Space` (`allocator.py`) is what it hands out, and
`engine.page_cache.PageChange` what it takes. Everything else here is the session's own.
"""

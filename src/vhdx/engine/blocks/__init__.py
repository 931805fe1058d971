"""Changing the content of payload blocks, through a session.

`requests.Requests` changes ranges of a disk. `tables.BlockTables` is for whatever else gives blocks another place.
"""

"""Judging a whole block table (`table.scan_table`), and the sector bitmaps that it names (`bitmaps.scan_bitmaps`)."""

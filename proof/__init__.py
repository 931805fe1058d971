"""The proof of this library's own engine; not shipped. Everything runs from the top of a checkout."""

"""The library's write engine under the crash kit."""

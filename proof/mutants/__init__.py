"""Wrong versions of the library, one at a time: does anything notice?"""

"""One door for everything that changes a file: space, commit, log, headers, and what poisons them."""

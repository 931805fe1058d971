"""Many conversations with a server, sound and damaged ones:

    python -m proof.fuzz.run_sessions --sessions 20000 [--seed S]

Exit code 0 if everything held that must hold, 1 if not; each failure names the seed that makes it again.
"""

import argparse
import sys
import time
import traceback
from collections import Counter

from proof.fuzz.sessions import hold_session


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Talk to a server in many ways.")
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first one; the others follow")
    options = parser.parse_args()
    ends: Counter[str] = Counter()
    replies = failures = 0
    began = time.perf_counter()
    for seed in range(options.seed, options.seed + options.sessions):
        try:
            outcome = hold_session(seed)
        except Exception:
            failures += 1
            print(
                f"FAILED python -m proof.fuzz.run_sessions --sessions 1 --seed {seed}\n{traceback.format_exc()}",
                flush=True,
            )
            continue
        ends[outcome.end.split(":")[0][:60]] += 1
        replies += outcome.replies
    took = time.perf_counter() - began
    print(f"{options.sessions} sessions in {took:.0f} s, {replies} replies judged, {failures} failures")
    for end, count in ends.most_common(20):
        print(f"{count:8} {end}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

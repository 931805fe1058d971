"""Which thread goes on when: at random, or every way with few interruptions."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from vhdx.testing.crash.scheduler import Chooser, Decision, Scheduler


def seeded(seed: int, switch_rate: float = 0.3) -> Chooser:
    """Go on with the same thread mostly, with another one at random now and then."""
    rng = random.Random(seed)

    def choose(current: int | None, enabled: Sequence[int]) -> int:
        if current is not None and rng.random() >= switch_rate:
            return current
        return rng.choice(enabled)

    return choose


def scripted(script: Mapping[int, int]) -> Chooser:
    """Go on with the same thread, but for the choices that are scripted by number, counted from 0."""
    count = -1

    def choose(current: int | None, enabled: Sequence[int]) -> int:
        nonlocal count
        count += 1
        wanted = script.get(count)
        if wanted in enabled:
            assert wanted is not None
            return wanted
        return enabled[0] if current is None else current

    return choose


def explore(
    run: Callable[[Scheduler], None], *, interruptions: int, limit: int, seed: int = 0
) -> Iterator[Scheduler]:
    """Run a program once for every schedule with at most so many interruptions of a thread that could go on.

    `run` is called with a new scheduler each time; the scheduler is yielded afterwards. After `limit` runs it
    ends; those with fewer interruptions come first, in an order that the seed decides.

    Raises: what `run` raises.
    """
    rng = random.Random(seed)
    waiting: list[list[dict[int, int]]] = [[] for _ in range(interruptions + 1)]
    waiting[0].append({})
    for _ in range(limit):
        level = next((level for level, scripts in enumerate(waiting) if scripts), None)
        if level is None:
            return
        script = waiting[level].pop(rng.randrange(len(waiting[level])))
        scheduler = Scheduler(scripted(script))
        run(scheduler)
        yield scheduler
        free = [decision for decision in scheduler.decisions if len(decision.enabled) > 1]
        for index, decision in enumerate(free):
            if index > max(script, default=-1):
                _branch(waiting, level, script, index, decision)


def _branch(
    waiting: list[list[dict[int, int]]], level: int, script: dict[int, int], index: int, decision: Decision
) -> None:
    cost = 0 if decision.current is None else 1
    if level + cost < len(waiting):
        for other in decision.enabled:
            if other != decision.chosen:
                waiting[level + cost].append({**script, index: other})

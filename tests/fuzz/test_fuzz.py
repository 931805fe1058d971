"""A bounded part of what proof/fuzz/run.py does at length."""

import pytest

from proof.fuzz.invariants import examine
from vhdx.testing.hostile import BASE_NAMES, Mutant, base_image

BATCHES, BATCH = 20, 100


@pytest.mark.parametrize("name", BASE_NAMES)
def test_image_that_mutations_start_from_is_clean(name: str) -> None:
    base = base_image(name)
    for depth in range(len(base.stores)):
        outcome = examine(base.stores, depth=depth, measure_memory=True)
        assert (outcome.kind, outcome.reference) == ("clean", "equal")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutants_break_no_invariant(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        mutant = Mutant(seed)
        try:
            examine(mutant.stores, depth=mutant.depth, seed=seed, measure_memory=seed % 64 == 0)
        except AssertionError as error:
            pytest.fail(f"python -m proof.fuzz.run --mutants 1 --seed {seed}\n{mutant}\n{error}")


def test_mutant_is_made_again_by_its_seed() -> None:
    for seed in range(40):
        first, second = Mutant(seed), Mutant(seed)
        assert repr(first) == repr(second)
        sizes = [store.size() for store in (first.mutated, second.mutated)]
        assert sizes[0] == sizes[1]
        starts = [bytearray(1 << 20), bytearray(1 << 20)]
        for store, start in zip((first.mutated, second.mutated), starts, strict=True):
            store.pread_into(start, 0)
        assert starts[0] == starts[1]


def test_mutants_meet_every_outcome() -> None:
    kinds = set()
    for seed in range(60):
        mutant = Mutant(seed)
        kinds.add(examine(mutant.stores, depth=mutant.depth, seed=seed).kind)
    assert kinds == {"refused", "opened", "clean"}

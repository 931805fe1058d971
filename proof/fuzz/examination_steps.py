"""One step of an examination at a time: what it may raise, and how much work it may do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from proof.fuzz.work_limits import FileFigures, Limit, WorkWithChecksums, facts_of
from vhdx._buffer import Buffer
from vhdx.errors import FormatError, VhdxError
from vhdx.findings import Finding
from vhdx.format import checksum
from vhdx.storage.base import ByteStore
from vhdx.testing.stores import CountingStore


class InvariantError(AssertionError):
    """A file made the library do what it must never do."""


class ExaminationStep:
    """What a step gave: a result, or an error that is allowed."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: VhdxError | OSError | None = None


class Steps:
    """A chain of files, leaf first, every access to which is counted. The stores must not change meanwhile."""

    def __init__(self, stores: Sequence[ByteStore]) -> None:
        self.work = WorkWithChecksums()
        self.originals = tuple(stores)
        self.stores = [CountingStore(store, self.work) for store in stores]
        self.facts: list[FileFigures] = [facts_of(store) for store in stores]
        self.codes: Counter[str] = Counter()
        """Every rule that was named by any step."""

    @contextmanager
    def step(self, name: str, limit: Limit | None) -> Iterator["ExaminationStep"]:
        """Bound what a step may raise, and what it does, unless that is bounded afterwards."""
        step = ExaminationStep()
        self.work.clear()
        try:
            yield step
        except InvariantError:
            raise
        except (VhdxError, OSError) as error:
            step.error = error
            if isinstance(error, FormatError):
                self.codes[error.code.value] += 1
            str(error)
        except Exception as error:
            raise InvariantError(f"{name}: {type(error).__name__} escaped: {error}") from error
        if limit is not None:
            self.bound(name, limit)

    def bound(self, name: str, limit: Limit) -> None:
        """Compare the work of the last step with what it may take. Raises: InvariantError."""
        breach = limit.breach(self.work)
        if breach is not None:
            raise InvariantError(f"{name}: {breach}")

    def note(self, findings: Sequence[Finding]) -> None:
        """Take in the rules that findings name, and see that each can be put into words."""
        self.codes.update(finding.code.value for finding in findings)
        for finding in findings:
            str(finding)


@contextmanager
def counted_checksums(work: WorkWithChecksums) -> Iterator[None]:
    """Count the bytes of which the library computes CRC-32C, in the whole process."""
    module: Any = checksum
    plain = module.iscsi

    def counting(data: Buffer, *initial: int) -> int:
        work.bytes_checksummed += memoryview(data).nbytes
        result: int = plain(data, *initial)
        return result

    module.iscsi = counting
    try:
        yield
    finally:
        module.iscsi = plain

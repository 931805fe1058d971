"""The crash kit: what a power cut may leave of a file, for every moment of a program that writes to one.

It knows nothing of VHDX. A writer under test is a `CrashSubject`: it opens a file for writing as a `CrashDevice` and
says what is wrong with a file. `try_crashes` does operations with it on a `RecordingStore`, enumerates what a
crash may leave at every moment (`CrashEnumerator`), and judges each state: it opens, passes the subject's own check,
holds nothing but what the `History` of the operations allows, and can be written to again.

    tally = try_crashes(MySubject(), DiskShape(size, block_size), start, operations, initial=content)
    assert not tally.findings, str(tally.findings[0])

Longer campaigns keep one `CrashRun` and give it one record after the other. Threads are run one at a time by a
`Scheduler`, under as many schedules as one likes, and crashed in the same way.
"""

from vhdx.testing.crash.history import (
    SESSION_BEGINS,
    Action,
    ActionPhase,
    History,
    InitialContent,
    Mark,
    ZeroedSectors,
)
from vhdx.testing.crash.limits import CrashLimits, Points, some_points
from vhdx.testing.crash.medium import MediaFault, Medium
from vhdx.testing.crash.operations import (
    DiskShape,
    Driver,
    Operation,
    Verb,
    random_sequence,
    short_sequences,
)
from vhdx.testing.crash.oracle import Oracle, Violation
from vhdx.testing.crash.pages import SECTOR_SIZE, ZERO_SECTOR, Content
from vhdx.testing.crash.read_check import ReadMark, wrong_reads
from vhdx.testing.crash.recording_store import (
    Call,
    Change,
    ChangeKind,
    Fault,
    RecordingStore,
    Step,
    StepKind,
)
from vhdx.testing.crash.run import CrashPlan, CrashRun, try_crashes
from vhdx.testing.crash.scheduler import DeadlockError, Scheduler
from vhdx.testing.crash.schedules import explore, scripted, seeded
from vhdx.testing.crash.stamps import Stamp, describe_sector, garbage, stamped_sectors
from vhdx.testing.crash.states import CrashEnumerator, CrashState, durable_content
from vhdx.testing.crash.subject import CrashDevice, CrashSubject, ReplayEffect, fixed_entropy
from vhdx.testing.crash.tally import CrashFinding, CrashTally, Moment, Side

__all__ = [
    "SECTOR_SIZE",
    "SESSION_BEGINS",
    "ZERO_SECTOR",
    "Action",
    "ActionPhase",
    "Call",
    "Change",
    "ChangeKind",
    "Content",
    "CrashDevice",
    "CrashEnumerator",
    "CrashFinding",
    "CrashLimits",
    "CrashPlan",
    "CrashRun",
    "CrashState",
    "CrashSubject",
    "CrashTally",
    "DeadlockError",
    "DiskShape",
    "Driver",
    "Fault",
    "History",
    "InitialContent",
    "Mark",
    "MediaFault",
    "Medium",
    "Moment",
    "Operation",
    "Oracle",
    "Points",
    "ReadMark",
    "RecordingStore",
    "ReplayEffect",
    "Scheduler",
    "Side",
    "Stamp",
    "Step",
    "StepKind",
    "Verb",
    "Violation",
    "ZeroedSectors",
    "describe_sector",
    "durable_content",
    "explore",
    "fixed_entropy",
    "garbage",
    "random_sequence",
    "scripted",
    "seeded",
    "short_sequences",
    "some_points",
    "stamped_sectors",
    "try_crashes",
    "wrong_reads",
]

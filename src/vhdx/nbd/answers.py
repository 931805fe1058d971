"""What becomes of one client's requests: as the client is told, and as the log has it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from vhdx.errors import ReadOnlyImageError, RequestError
from vhdx.nbd.protocol.constants import NbdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx.nbd.protocol.transmission import Replies, Request
    from vhdx.nbd.server_log import ServerLog

_ERRORS: Final[dict[int, NbdError]] = {
    errno.EPERM: NbdError.EPERM,
    errno.EACCES: NbdError.EPERM,
    errno.EROFS: NbdError.EPERM,
    errno.ENOMEM: NbdError.ENOMEM,
    errno.EINVAL: NbdError.EIO,  # the system refuses a call of ours: the client has done nothing wrong
    errno.ENOSPC: NbdError.ENOSPC,
    errno.EDQUOT: NbdError.ENOSPC,
    errno.EFBIG: NbdError.ENOSPC,
    errno.EOPNOTSUPP: NbdError.ENOTSUP,
    errno.ESHUTDOWN: NbdError.ESHUTDOWN,
}


class Answers:
    """Success and failure of the requests of one client. Thread-safe."""

    def __init__(self, replies: Replies, server_log: ServerLog, peer: str) -> None:
        """`replies`: how replies are spelled for this client. `peer`: the client's name in the log."""
        self.replies = replies
        self.done = replies.done
        """The reply to a request that succeeded and has no data to send."""
        self._server_log = server_log
        self._peer = peer
        self.are_logged = server_log.keeps_requests
        """Whether `log` has to be told of every request."""

    def failed(self, request: Request, error: Exception) -> bytes:
        """The reply to a request that failed. The log gets a line, unless the device only lacks an ability."""
        number = _error_number(error)
        if number != NbdError.ENOTSUP:
            self._server_log.failed(self._peer, request, error)
        return self.replies.error(request, number, type(error).__name__)

    def clock(self) -> float:
        """The time at which requests are taken up, for `log`."""
        return self._server_log.clock()

    def log(self, requests: Sequence[Request], started: float) -> None:
        """Tell the log that requests have been answered which were taken up at `started`."""
        if self.are_logged:
            self._server_log.served(self._peer, requests, started)


def _error_number(error: Exception) -> NbdError:
    """The protocol's number for what went wrong."""
    if isinstance(error, RequestError):
        return NbdError.EINVAL
    if isinstance(error, ReadOnlyImageError):
        return NbdError.EPERM
    if isinstance(error, OSError):
        return _ERRORS.get(error.errno or 0, NbdError.EIO)
    return NbdError.EIO

"""What a server answers instead of a prediction: a status of HTTP and a sentence that names the value."""

from __future__ import annotations

from xmodular.errors import visible


class RefusalError(Exception):
    """A request that gets no prediction.

    Attributes:
        status: of HTTP.
        message: what is wrong and what would be right.
        retry_after: seconds after which the client may try again; None if it need not wait.
        close: whether the connection ends with the answer, as after a body that was not read to its end.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = visible(message)
        self.retry_after = retry_after
        self.close = close

from helpers import (
    BadRequestError,
    InputError,
    NotFoundError,
    RequestTimeoutError,
    ServerBusyError,
    ServerFaultError,
    UnreachableError,
)


def reaction(error):
    """Return what a program should do after an error of the client."""
    if isinstance(error, (ServerBusyError, UnreachableError)):
        return "wait"
    # A timeout belongs here: the same work would most likely be too slow again.
    if isinstance(error, (InputError, BadRequestError, NotFoundError, RequestTimeoutError)):
        return "correct"
    return "report"


assert reaction(InputError("3 queries and 2 documents")) == "correct"
assert reaction(BadRequestError("too long", status=400)) == "correct"
assert reaction(RequestTimeoutError("no answer within 60 seconds")) == "correct"
assert reaction(ServerBusyError("no room", status=503)) == "wait"
assert reaction(UnreachableError("connection refused")) == "wait"
assert reaction(ServerFaultError("out of memory", status=500)) == "report"

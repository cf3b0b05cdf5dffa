import helpers


def reaction(error):
    """Return what a program should do after an error of the client."""
    if isinstance(error, (helpers.ServerBusyError, helpers.UnreachableError)):
        return "retry"
    if isinstance(error, helpers.RequestTimeoutError):
        return "retry"
    refused = (helpers.BadRequestError, helpers.NotFoundError, helpers.AuthenticationError)
    return "correct" if isinstance(error, (helpers.InputError, *refused)) else "report"


assert reaction(helpers.InputError("3 queries and 2 documents")) == "correct"
assert reaction(helpers.BadRequestError("too long", status=400)) == "correct"
assert reaction(helpers.ServerBusyError("no room", status=503)) == "retry"
assert reaction(helpers.UnreachableError("connection refused")) == "retry"
assert reaction(helpers.ServerFaultError("out of memory", status=500)) == "report"

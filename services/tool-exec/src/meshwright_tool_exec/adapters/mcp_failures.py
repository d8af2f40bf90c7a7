"""How a request to an MCP server can end without an answer, apart from the server's refusals."""


class SessionGone(Exception):
    """The server knows this session no more, or the connection is over: nothing was carried out."""


class AnswerLost(Exception):
    """A request went out, and nobody knows what became of it."""

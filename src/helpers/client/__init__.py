"""Ask a server: for scores, rankings, vectors, tokens and chunks."""

from helpers.client.chunks import CHUNK_TOKENS, Chunk, LongScoreResult, TokenizeResult
from helpers.client.client import ScoreClient
from helpers.client.inputs import check_count, check_text
from helpers.client.protocol import given_options, shorten_list
from helpers.client.results import ROWS_SHOWN, Column, RerankResult, ScoreResult, Table, shorten
from helpers.client.transport import KEY_VARIABLE, LONGEST_RETRY_AFTER, Transport, clean_url

__all__ = [
    "CHUNK_TOKENS",
    "KEY_VARIABLE",
    "LONGEST_RETRY_AFTER",
    "ROWS_SHOWN",
    "Chunk",
    "Column",
    "LongScoreResult",
    "RerankResult",
    "ScoreClient",
    "ScoreResult",
    "Table",
    "TokenizeResult",
    "Transport",
    "check_count",
    "check_text",
    "clean_url",
    "given_options",
    "shorten",
    "shorten_list",
]

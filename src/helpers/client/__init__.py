"""Ask a server: for scores, rankings, vectors, tokens and chunks."""

from helpers.client.address import KEY_VARIABLE, clean_key, clean_url
from helpers.client.chunks import Chunk, LongScoreResult, TokenizeResult
from helpers.client.client import ScoreClient
from helpers.client.inputs import column_of, positive_number, to_json, type_name, whole_number
from helpers.client.protocol import ScoreOptions, given_options, shorten_list
from helpers.client.results import RerankResult, ScoreResult
from helpers.client.transport import Transport

__all__ = [
    "KEY_VARIABLE",
    "Chunk",
    "LongScoreResult",
    "RerankResult",
    "ScoreClient",
    "ScoreOptions",
    "ScoreResult",
    "TokenizeResult",
    "Transport",
    "clean_key",
    "clean_url",
    "column_of",
    "given_options",
    "positive_number",
    "shorten_list",
    "to_json",
    "type_name",
    "whole_number",
]

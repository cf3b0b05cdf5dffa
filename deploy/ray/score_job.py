"""Score a Parquet folder on the Ray cluster that runs this file.

From this folder, with a cluster whose head answers on port 8265:

    ray job submit --address http://HEAD:8265 --working-dir . -- \\
        python score_job.py s3://bucket/pairs s3://bucket/scores --model /models/mine --workers 4

Every machine needs Ray, vLLM and the model; the head, which runs this file, needs this collection
too. The same call again goes on where an earlier one ended.
"""

import argparse

from helpers.bulk import score_parquet


def main() -> None:
    """Read the command line, and score."""
    parser = argparse.ArgumentParser(description="Score a Parquet folder on a Ray cluster.")
    parser.add_argument("source", help="a Parquet file or folder: a path, or s3://… and the like")
    parser.add_argument("target", help="a folder, likewise")
    parser.add_argument("--model", required=True, help="a folder, or a name on the hub")
    parser.add_argument("--query", default="query", help="the column of the queries")
    parser.add_argument("--document", default="document", help="the column of the documents")
    parser.add_argument("--workers", type=int, default=1, help="engines side by side")
    parser.add_argument("--part-rows", type=int, default=2_000, help="the most rows of a part")
    parser.add_argument("--dtype", default="auto", help="give it on a CPU: bfloat16 or float32")
    parser.add_argument("--address", default="auto", help="local: a Ray of its own, for a trial")
    given = parser.parse_args()
    run = score_parquet(
        given.source,
        given.target,
        model=given.model,
        query=given.query,
        document=given.document,
        workers=given.workers,
        part_rows=given.part_rows,
        address=None if given.address == "local" else given.address,
        engine={"dtype": given.dtype, "enforce_eager": True},
    )
    print(f"{run.rows} rows in {run.parts} parts, {run.scored} scored now")


if __name__ == "__main__":
    main()

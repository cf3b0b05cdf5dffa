def measured(kind):
    """Return the seconds of one kind for all pairs so far, and how many pairs that were."""
    name = f"vllm:{kind}_seconds"
    return read(server.url, f"{name}_sum"), read(server.url, f"{name}_count")


kinds = ("e2e_request_latency", "request_queue_time")
before = [measured(kind) for kind in kinds]
server.client().score("Which river is the longest?", list(corpus.passages()["text"][:200]))
after = [measured(kind) for kind in kinds]
latency, waited = (
    (seconds_now - seconds) / (pairs_now - pairs)
    for (seconds, pairs), (seconds_now, pairs_now) in zip(before, after)
)
print(f"{latency:.2f} s a pair, {waited:.2f} s of these in the queue")
print("the alarm would ring" if latency > 5 else "the alarm keeps quiet")

assert after[0][1] - before[0][1] >= 200
assert 0 <= waited <= latency

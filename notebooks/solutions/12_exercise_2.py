from concurrent.futures import ThreadPoolExecutor
from time import sleep


def open_loop(rate, count):
    """Send `rate` pairs a second, and return the seconds since each was sent and was due."""
    start = perf_counter()

    def one(number):
        due = start + number / rate
        sleep(max(0, due - perf_counter()))
        sent = perf_counter()
        client.score(queries[number], texts[number])
        return perf_counter() - sent, perf_counter() - due

    with ThreadPoolExecutor(4) as pool:
        return pd.DataFrame(pool.map(one, range(count)), columns=["sent", "due"])


capacity = result.pairs_per_second
calm, crowd = open_loop(capacity / 2, 50), open_loop(2 * capacity, 150)
for name, found_latencies in (("calm", calm), ("crowd", crowd)):
    print(name, (1000 * found_latencies.quantile(0.95)).round().to_dict(), "ms")

# Four threads can not keep up with the crowd: what they send is answered as fast as ever, but it
# is sent later and later. Only the clock that starts when a request is due shows that.
assert (len(calm), len(crowd)) == (50, 150)
assert (calm.due >= calm.sent).all() and (crowd.due >= crowd.sent).all()

def status(url):
    """Return "up" if a healthy server answers at this address, else "down"."""
    try:
        return "up" if requests.get(f"{url}/health", timeout=5).ok else "down"
    except requests.RequestException:
        return "down"


print(status(server.url), status("http://127.0.0.1:9"))

assert status(server.url) == "up"
assert status("http://127.0.0.1:9") == "down"

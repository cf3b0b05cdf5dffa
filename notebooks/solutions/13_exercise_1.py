import tempfile

allowed = "score|rerank|tokenize|v1/score|v1/rerank|v2/rerank|v1/models"
with tempfile.TemporaryDirectory() as folder:
    own = Path(folder) / "rerank.conf.template"
    own.write_text(template.read_text().replace(allowed, "rerank|v1/rerank|v2/rerank"))
    with ReverseProxy(server.url, own, KEY) as narrow:
        statuses = statuses_of(narrow.url, KEY, str(narrow.certificate))

print(statuses)

assert statuses["/rerank"] == statuses["/v1/rerank"] == statuses["/v2/rerank"] == 200
assert statuses["/score"] == statuses["/v1/score"] == statuses["/v1/models"] == 404

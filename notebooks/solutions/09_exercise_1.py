embedder.start()
encoder = embedder.client()


def search_by_meaning(query, top_n=3, candidates=10):
    found = meaning.search({"new": query})["new"][:candidates]
    texts = [data.documents[document_id] for document_id in found]
    return client.rerank(query, texts, top_n=top_n, truncate_prompt_tokens=-1)


alone = search_by_meaning("What should I do about a nosebleed?")
print(alone)
encoder.close()
embedder.stop()

assert len(alone.documents) == 3
assert "nose" in alone.documents[0]

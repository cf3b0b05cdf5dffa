def ignored(**fields):
    """Return the names of the fields that the server does not know, sorted."""
    return sorted(set(fields) - known)


print(ignored(top_n=2, topn=1, return_documents=False))

assert ignored(top_n=2, topn=1) == ["topn"]
assert ignored(query=query, documents=documents, user="me") == []

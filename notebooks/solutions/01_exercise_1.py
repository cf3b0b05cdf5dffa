# `.json()` turns the body of an answer into Python's lists and dictionaries.
version = requests.get(f"{server.url}/version").json()["version"]
print(version)

assert version[0].isdigit() and "." in version

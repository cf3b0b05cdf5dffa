import tempfile


def reason(config):
    architecture = config["architectures"][0]
    if architecture.endswith("ForTokenClassification"):
        return "it labels tokens, not pairs"
    labels = config.get("num_labels") or len(config.get("id2label", {})) or 2
    if architecture.endswith("ForSequenceClassification") and labels != 1:
        return f"it has {labels} labels"
    return ""


agreed = []
for name, config in configurations.items():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        serves = what_serves(folder)
    agreed.append(serves.has_score == (reason(config) == ""))
    print(f"{name:10} {reason(config) or 'has a score'}")

assert all(agreed) and len(agreed) == 4

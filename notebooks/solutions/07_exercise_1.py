precision, recall, thresholds = metrics.precision_recall_curve(fit["relevant"], fit["probability"])
# The curve has one point more than thresholds: its end, where nothing is kept.
strict = thresholds[precision[:-1] >= 0.8].min()
print(f"threshold {strict:.2f}")
print(pd.DataFrame({"first part": judge(fit, strict), "held back": judge(held, strict)}).round(2))

assert judge(fit, strict)["precision"] >= 0.8
assert all(judge(fit, lower)["precision"] < 0.8 for lower in thresholds[thresholds < strict][::20])

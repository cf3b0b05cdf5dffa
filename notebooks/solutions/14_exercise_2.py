from math import ceil

# Parts never cross a row group; 600 rows are one.
parts, at_most = ceil(600 / 250), 250
print(f"{parts} parts, and a worker that dies costs at most {at_most} rows")

assert (parts, at_most) == (3, 250)

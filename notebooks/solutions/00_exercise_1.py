# Bytes divided by bytes give a plain number: how often it fits.
room = check.machine.memory_free / check.memory_needed
print(f"The server and its notebook fit {room:.1f} times into the free memory.")

assert (room >= 1) == (check.machine.memory_free >= check.memory_needed)

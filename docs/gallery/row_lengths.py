"""
Time against the length of a row
================================

The benchmark behind the pictures on :doc:`/performance` writes its times to a file. This example
reads them and answers a question: how many times as fast as the fastest other library?
"""

# %%
# The file is a list of curves, each with the times of one library in one operation. It is in the
# folder of the pictures. (A notebook has no ``__file__``; it runs in the folder of the example.)
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

here = Path(globals().get("__file__", "row_lengths.py")).resolve().parent
found = json.loads((here.parent / "_static" / "rows.json").read_text())
print(found["date"], found["config"]["cpu"], found["versions"])
curves = {(c["operation"], c["peer"]): np.array(c["least"]) for c in found["curves"]}
lengths = {c["operation"]: np.array(c["n"]) for c in found["curves"]}

# %%
# Above 1, boltzmax is the fastest. Such a file for your machine is written by
# ``python -m boltzmax bench --sweep --json rows.json``.
figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
for operation, n in lengths.items():
    others = [
        v
        for (o, peer), v in curves.items()
        if o == operation and peer not in ("boltzmax", "np.exp")
    ]
    if others:
        ratio = np.min(others, axis=0) / curves[operation, "boltzmax"]
        axis.plot(n, ratio, label=operation)
axis.axhline(1, color="gray", lw=0.8)
axis.set(xscale="log", yscale="log", xlabel="length of the row")
axis.set(ylabel="time of the fastest other / ours")
axis.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
axis.grid(alpha=0.3)
axis.legend(fontsize="small", ncols=2)
plt.show()

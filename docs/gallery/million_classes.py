"""
A million classes on a tree
===========================

The cost of a full softmax is proportional to the number of classes; on a tree, to the depth of a
leaf. Here both are timed from a thousand classes to a million.
"""

# %%
# Class frequencies as in texts: the k-th most frequent word makes up a share of about 1/k.
# Huffman's tree gives frequent classes short paths.
import time

import matplotlib.pyplot as plt
import numpy as np

import boltzmax

FEATURES = 32
rng = np.random.default_rng(0)
hidden = rng.normal(size=(64, FEATURES)).astype(np.float32)
threads = boltzmax.get_num_threads()
boltzmax.set_num_threads(1)


def best_time(call, repeat=5):
    """Return the time of the fastest of some calls, in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


sizes = [1_000, 10_000, 100_000, 1_000_000]
times = {"tree: log_prob": [], "tree: topk, k = 10": [], "full softmax: log_prob": []}
for size in sizes:
    counts = 1 / np.arange(1, size + 1)
    tree = boltzmax.Tree.huffman(counts)
    layer = boltzmax.HierarchicalSoftmax(tree, FEATURES, seed=0)
    layer.weight *= 4.0  # peaked, as trained layers are
    target = rng.choice(size, size=len(hidden), p=counts / counts.sum())
    weight = rng.normal(size=(size, FEATURES)).astype(np.float32)
    times["tree: log_prob"].append(best_time(lambda: layer.log_prob(hidden, target)))
    times["tree: topk, k = 10"].append(best_time(lambda: layer.topk(hidden, 10), 2))
    times["full softmax: log_prob"].append(
        best_time(lambda: boltzmax.linear_log_prob(hidden, weight, target), 2)
    )
    print(f"{size:9,} classes: expected depth {tree.expected_depth(counts):.1f}")

boltzmax.set_num_threads(threads)

# %%
# It is still a distribution: the probabilities of a million classes add up to 1.
log_p = layer.log_prob_all(hidden[:1])
print(f"sum of {log_p.size:,} probabilities: {np.exp(boltzmax.logsumexp(log_p))[0]:.6f}")

# %%
# Microseconds per row on one thread. The axes are logarithmic: the line of the full softmax is a
# thousand times as high on the right as on the left.
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, values in times.items():
    axis.plot(sizes, 1e6 * np.array(values) / len(hidden), "o-", label=name)
axis.set(xscale="log", yscale="log", xlabel="classes", ylabel="us per row")
axis.grid(alpha=0.3)
axis.legend()
plt.show()

"""
Attention with padding and a causal mask
========================================

Attention is a softmax of scores over the positions of a text. A mask selects the positions that
count: ``where=`` excludes the padding of short texts and, here, everything to the right.
"""

# %%
# Three sentences of different lengths. Words are described by the words around them, counted in
# Python's help texts.
import re
from collections import Counter
from itertools import pairwise
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

import boltzmax

sentences = [
    "the function returns a list of strings".split(),
    "an exception is raised if the name is not found".split(),
    "objects are compared by value".split(),
]
length = max(map(len, sentences))
words = re.findall(r"[a-z]+", " ".join(topics[name] for name in sorted(topics)).lower())
common = [word for word, _ in Counter(words).most_common(3000)]
number = {word: i for i, word in enumerate(common)}
counts = np.zeros((3000, 3000), np.float32)
for a, b in pairwise(words):
    if a in number and b in number:
        counts[number[a], number[b]] += 1
        counts[number[b], number[a]] += 1
left, scale, _ = np.linalg.svd(np.log1p(counts[:, :300]), full_matrices=False)
vectors = (left * np.sqrt(scale))[:, :32]
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6  # some have no neighbours

# %%
# The scores of all sentences are one array; the padding holds NaN to show that it is never used.
x = np.full((len(sentences), length, 32), np.nan, np.float32)
for row, sentence in zip(x, sentences, strict=True):
    row[: len(sentence)] = vectors[[number[word] for word in sentence]]
scores = x @ x.swapaxes(1, 2)
is_word = np.arange(length) < np.array([[len(s)] for s in sentences])
mask = is_word[:, None, :] & is_word[:, :, None] & np.tri(length, k=-1, dtype=bool)
attention = boltzmax.softmax(scores, where=mask, temperature=0.15)
print("sums of the rows:", attention.sum(axis=2).round(6).tolist()[2])

# %%
# Rows of padding are fully masked and hence all zeros; so is the row of the first word, which has
# none before it.
figure, axes = plt.subplots(1, 3, figsize=(11, 4.4), layout="constrained")
for axis, sentence, p in zip(axes, sentences, attention, strict=True):
    axis.imshow(p, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(length), [*sentence, *[""] * (length - len(sentence))], rotation=90)
    axis.set_yticks(range(length), [*sentence, *[""] * (length - len(sentence))])
figure.suptitle("how much each word (down) looks at the words before it (across)")
plt.show()

"""
Text, one character at a time
=============================

A small network learns to guess the next character of Python's help texts, then writes: each
character is drawn from the softmax of its logits. A nucleus keeps improbable characters out.
"""

# %%
# The text ships with Python.
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

import boltzmax
from boltzmax.sampling import Chain, Temperature, TopP

text = " ".join(" ".join(topics[name].split()) for name in sorted(topics)).lower()[:300_000]
alphabet = sorted(set(text))
number = {c: i for i, c in enumerate(alphabet)}
ids = np.array([number[c] for c in text])
print(f"{len(text):,} characters, {len(alphabet)} different ones")

# %%
# Eight characters of context, a vector for each, one hidden layer. Only the last layer needs the
# softmax: :func:`boltzmax.cross_entropy_with_grad` returns the gradient where the backward pass
# starts.
CONTEXT, SIZE, HIDDEN = 8, 16, 192
rng = np.random.default_rng(0)
shapes = {
    "vectors": (len(alphabet), SIZE),
    "w1": (CONTEXT * SIZE, HIDDEN),
    "b1": (HIDDEN,),
    "w2": (HIDDEN, len(alphabet)),
    "b2": (len(alphabet),),
}
net = {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
squares = {name: np.zeros_like(value) for name, value in net.items()}


def forward(contexts):
    inputs = net["vectors"][contexts].reshape(len(contexts), -1)
    hidden = np.tanh(inputs @ net["w1"] + net["b1"])
    return inputs, hidden, hidden @ net["w2"] + net["b2"]


def step(contexts, targets, rate):
    """Take a step of RMSProp; return the loss."""
    inputs, hidden, logits = forward(contexts)
    loss, d_logits = boltzmax.cross_entropy_with_grad(logits, targets)
    d_hidden = d_logits @ net["w2"].T * (1 - hidden**2)
    d_vectors = np.zeros_like(net["vectors"])
    np.add.at(d_vectors, contexts, (d_hidden @ net["w1"].T).reshape(*contexts.shape, SIZE))
    gradients = {
        "vectors": d_vectors,
        "w1": inputs.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_logits,
        "b2": d_logits.sum(axis=0),
    }
    for name, gradient in gradients.items():
        squares[name] += 0.05 * (gradient**2 - squares[name])
        net[name] -= rate * gradient / (np.sqrt(squares[name]) + 1e-6)
    return loss


windows = np.lib.stride_tricks.sliding_window_view(ids, CONTEXT + 1)
STEPS = 4000
losses = []
for i in range(STEPS):
    batch = windows[rng.integers(len(windows), size=256)]
    losses.append(step(batch[:, :-1], batch[:, -1], 4e-3 * (1 - i / STEPS)))
print(f"perplexity {np.exp(np.mean(losses[-100:])):.1f}, {len(alphabet)} at the start")

# %%
# A :class:`boltzmax.sampling.Chain` draws from the softmax of the logits over a temperature; at 0
# it takes the largest, and the text repeats itself. Nucleus sampling draws from the fewest
# characters that have 90 % of the probability, so that no improbable one derails a word.


def write(temperature, share=1.0, length=110, start="the value of an "):
    chain = Chain([Temperature(temperature), TopP(share)], rng=1)
    written = [number[c] for c in start]
    for _ in range(length):
        logits = forward(np.array([written[-CONTEXT:]]))[2][0]
        written.append(int(chain(logits).ids))
    return "".join(alphabet[i] for i in written)


for temperature in (0.0, 0.5, 1.0):
    print(f"T = {temperature}:           {write(temperature)}")
print(f"T = 1.0, nucleus:  {write(1.0, share=0.9)}")

# %%
# A check of the draws: 20,000 after the same context, compared with the softmax.
context = np.array([[number[c] for c in "statemen"[-CONTEXT:]], [number[c] for c in "functio "]])
logits = forward(context)[2]
figure, axes = plt.subplots(2, 1, figsize=(8, 5), layout="constrained")
for axis, row, before in zip(axes, logits, ("statemen", "functio "), strict=True):
    drawn = Chain([], rng=2)(row, n=20_000).ids
    share = np.bincount(drawn, minlength=len(row)) / len(drawn)
    top = row.argsort()[::-1][:12]
    axis.bar(np.arange(12) - 0.2, boltzmax.softmax(row)[top], 0.4, label="softmax")
    axis.bar(np.arange(12) + 0.2, share[top], 0.4, label="share of the draws")
    axis.set_xticks(range(12), [repr(alphabet[i]) for i in top])
    axis.set(title=f"after {before!r}", ylabel="probability")
axes[0].legend()
plt.show()

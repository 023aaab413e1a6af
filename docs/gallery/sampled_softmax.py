"""
Training with a few of very many classes
========================================

A sampled softmax reads the target and some drawn classes instead of all. What does that cost? Here
a layer learns 2,000 classes as frequent as words, once with all of them and three times with 200.
"""

# %%
# The data come from another layer of the same form, whose bias follows Zipf's law, as that of the
# log-uniform sampler does.
import matplotlib.pyplot as plt
import numpy as np

import boltzmax
from boltzmax.candidates import LogUniformSampler, UniformSampler

CLASSES, FEATURES, ROWS, CANDIDATES = 2_000, 8, 128, 200
rng = np.random.default_rng(0)
teacher = rng.normal(size=(CLASSES, FEATURES)).astype(np.float32)
zipf = -np.log(np.arange(1.0, CLASSES + 1)).astype(np.float32)


def batch(rows, seed):
    hidden = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    return hidden, boltzmax.linear_sample(hidden, teacher, seed, zipf)


held_out = batch(1_000, 10**6)


def train(gradient_of, steps=240, every=20):
    """Adagrad on the rows of the gradient; the loss over all classes of held-out rows."""
    weight = np.zeros((CLASSES, FEATURES), np.float32)
    bias = np.zeros(CLASSES, np.float32)
    squares = np.full(CLASSES, 1e-6, np.float32)
    losses = []
    for step in range(steps):
        if step % every == 0:
            losses.append(boltzmax.linear_cross_entropy(held_out[0], weight, held_out[1], bias))
        ids, d_weight, d_bias = gradient_of(*batch(ROWS, step), weight, bias, step)
        squares[ids] += np.square(d_weight).mean(axis=1) + np.square(d_bias)
        rate = 0.1 / np.sqrt(squares[ids])
        weight[ids] -= rate[:, None] * d_weight
        bias[ids] -= rate * d_bias
    return losses


def full(hidden, target, weight, bias, seed):
    _, _, d_weight, d_bias = boltzmax.linear_cross_entropy_with_grad(hidden, weight, target, bias)
    return slice(None), d_weight, d_bias


def sampled(sampler, **options):
    def gradient_of(hidden, target, weight, bias, seed):
        found = boltzmax.sampled_softmax_loss_with_grad(
            hidden, weight, target, sampler, n=CANDIDATES, bias=bias, rng=seed, **options
        )
        return found.unit_ids, found.d_weight, found.d_bias

    return gradient_of


curves = {
    "all classes": train(full),
    "log-uniform": train(sampled(LogUniformSampler(CLASSES))),
    "uniform": train(sampled(UniformSampler(CLASSES))),
    "log-uniform, not corrected": train(sampled(LogUniformSampler(CLASSES), correct=False)),
}

# %%
# Without the correction, frequent classes are held down by their many appearances as negatives,
# and the layer learns other probabilities.
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, losses in curves.items():
    axis.plot(np.arange(len(losses)) * 20, losses, label=name)
axis.set(xlabel="steps", ylabel="held-out loss over all classes")
axis.legend()
plt.show()

# %%
# Bias and variance of one step, measured with the layer that made the data.
hidden, target = batch(ROWS, 0)
samplers = [LogUniformSampler(CLASSES), UniformSampler(CLASSES)]
report = boltzmax.sampling_bias_report(
    hidden, teacher, target, samplers, [50, 200, 800], bias=zipf, repeats=16, rng=0
)
print(report)
report.plot()
plt.show()

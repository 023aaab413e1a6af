"""
Handwritten digits, from pixels to probabilities
================================================

A softmax classifier in NumPy: its loss, the gradient, the training loop, and its predictions for
images that it has not seen. The images ship with scikit-learn: 1,797 of 8 x 8 pixels.
"""

# %%
# A quarter of the images is held out for the test.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import boltzmax

images, labels = load_digits(return_X_y=True)
x, x_test, t, t_test = train_test_split(
    images / 16, labels, test_size=0.25, stratify=labels, random_state=0
)

# %%
# The logits are a linear function of the pixels. Cross-entropy comes with its gradient with respect
# to the logits, and the chain rule does the rest: two products.
rng = np.random.default_rng(0)
weight, bias = np.zeros((64, 10)), np.zeros(10)
losses = []
for _ in range(40):
    order = rng.permutation(len(x))
    for batch in np.array_split(order, len(x) // 32):
        logits = x[batch] @ weight + bias
        _, d_logits = boltzmax.cross_entropy_with_grad(logits, t[batch])
        weight -= 0.5 * x[batch].T @ d_logits
        bias -= 0.5 * d_logits.sum(axis=0)
    losses.append(
        [boltzmax.cross_entropy(a @ weight + bias, b) for a, b in ((x, t), (x_test, t_test))]
    )

logits = x_test @ weight + bias
print(f"{np.mean(logits.argmax(axis=1) == t_test):.1%} of the test images are recognised")

# %%
# One pass over the logits shows how sure the classifier is: the margin is the difference of the two
# largest logits. The least certain images come first.
stats = boltzmax.row_stats(logits, t_test, k=2)
chosen = stats.margin.argsort()[:4]
probabilities = boltzmax.softmax(logits[chosen])

figure, axes = plt.subplots(2, 4, figsize=(9, 4.5), layout="constrained")
for i, top, bottom in zip(range(4), *axes, strict=True):
    top.imshow(x_test[chosen[i]].reshape(8, 8), cmap="gray_r")
    top.set(title=f"a {t_test[chosen[i]]}", xticks=[], yticks=[])
    bottom.bar(
        range(10),
        probabilities[i],
        color=["C3" if k == t_test[chosen[i]] else "C0" for k in range(10)],
    )
    bottom.set(ylim=(0, 1), xticks=range(10), yticks=[0, 0.5, 1])
figure.suptitle("The least certain test images, and the probabilities of the ten digits")

# %%
# The loss on both sets, epoch by epoch.
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(losses, label=["training", "test"])
axis.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
axis.legend()
plt.show()

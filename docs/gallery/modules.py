"""
Which module does a docstring come from?
========================================

Text classification with 27 classes: the docstrings of Python's standard library, and the module
that each was written for. The classifier is a scikit-learn estimator, on a sparse matrix of words.
"""

# %%
# The texts are read from the modules of the running interpreter.
import importlib
import inspect

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from boltzmax.sklearn import SoftmaxClassifier

NAMES = (
    "argparse ast asyncio calendar concurrent.futures configparser ctypes datetime difflib doctest "
    "email.message fractions http.client ipaddress logging mailbox os pathlib random shutil socket "
    "ssl statistics tarfile turtle xml.dom zipfile"
).split()


def docstrings(name):
    """Return the docstrings of the functions, classes and methods of a module."""
    found = set()
    for thing in vars(importlib.import_module(name)).values():
        if not str(getattr(thing, "__module__", "")).startswith(name):
            continue  # imported from elsewhere
        members = vars(thing).values() if inspect.isclass(thing) else []
        for member in (thing, *members):
            if callable(member) and isinstance(text := inspect.getdoc(member), str):
                found.add(text)
    return {text for text in found if len(text.split()) > 4}


pairs = {text: k for k, name in enumerate(NAMES) for text in sorted(docstrings(name))}
documents, labels = list(pairs), np.array(list(pairs.values()))
print(f"{len(documents):,} docstrings of {len(NAMES)} modules")

# %%
# Word counts, weighted by how rare a word is, and a softmax over the modules. Classes are of very
# different sizes, so their weights are balanced.
train, test, t, t_test = train_test_split(
    documents, labels, test_size=0.3, stratify=labels, random_state=0
)
model = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, min_df=2),
    SoftmaxClassifier(l2=1e-4, class_weight="balanced", max_iter=300, tol=1e-3),
)
model.fit(train, t)
p = model.predict_proba(test)
print(f"{np.mean(p.argmax(axis=1) == t_test):.1%} of the test docstrings find their module")

# %%
# Where does the probability of each module's docstrings go? Every row adds up to 1.
flow = np.array([p[t_test == k].mean(axis=0) for k in range(len(NAMES))])
figure, axis = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
image = axis.imshow(flow, cmap="magma_r", vmin=0, vmax=1)
axis.set_xticks(range(len(NAMES)), NAMES, rotation=90)
axis.set_yticks(range(len(NAMES)), NAMES)
axis.set(xlabel="probability given to", ylabel="docstring of")
figure.colorbar(image, shrink=0.8)
plt.show()

"""
Not sure? Answer with an ancestor
=================================

Modules are in packages: ``email.parser`` in ``email``, ``xml.sax.handler`` in ``xml.sax`` in
``xml``. A softmax on that tree can answer "something in ``email``" if it is not sure of the module.
How often is it right, and how specific are its answers?
"""

# %%
# Docstrings of the standard library, and the modules that they were written for.
import importlib
import inspect

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split

import boltzmax
from boltzmax.sklearn import HierarchicalSoftmaxClassifier

NAMES = (
    "asyncio.events asyncio.streams asyncio.queues asyncio.tasks concurrent.futures "
    "email.charset email.header email.message email.policy email.utils "
    "http.client http.cookiejar http.server importlib.abc importlib.metadata importlib.resources "
    "logging.config logging.handlers multiprocessing.managers multiprocessing.pool "
    "multiprocessing.shared_memory os.path unittest.case unittest.mock unittest.suite "
    "urllib.parse urllib.request xml.dom.minidom xml.etree.ElementTree xml.sax.handler "
    "xml.sax.xmlreader"
).split()


def docstrings(name):
    """Return the docstrings of the functions, classes and methods of a module."""
    module = importlib.import_module(name)
    found = set()
    for thing in vars(module).values():
        members = vars(thing).values() if inspect.isclass(thing) else []
        for member in (thing, *members):
            if callable(member) and isinstance(text := inspect.getdoc(member), str):
                found.add(text)
    return {text for text in found if len(text.split()) > 3}


texts = {name: docstrings(name) for name in NAMES}
pairs = {t: k for k, name in enumerate(NAMES) for t in sorted(texts[name])}
documents, labels = list(pairs), np.array(list(pairs.values()))
tree = boltzmax.Tree.from_paths([name.replace(".", "/") for name in NAMES])
print(f"{len(documents):,} docstrings, {tree.n_classes} modules, {tree.n_inner} inner nodes")

# %%
# A layer on the tree: each package chooses among its contents.
train, test, t, t_test = train_test_split(
    documents, labels, test_size=0.4, stratify=labels, random_state=0
)
words = TfidfVectorizer(sublinear_tf=True).fit(train)
model = HierarchicalSoftmaxClassifier(tree, l2=1e-4, max_iter=200, tol=1e-3)
model.fit(words.transform(train), t)
hidden = words.transform(test).toarray()
layer = model.layer_
print(f"{np.mean(layer.predict(hidden) == t_test):.1%} of the modules are right")

# %%
# The surer the answer must be, the more often it is an ancestor. An answer is right if its node is
# the module or an ancestor of it.
below = [{v, *tree.ancestors(v).tolist()} for v in range(tree.n_classes)]
levels = np.linspace(0.0, 0.99, 34)
answers = {"a module": [], "a package": [], "no answer (the root)": []}
right = []
for level in levels:
    nodes, _ = layer.predict_node(hidden, min_prob=level)
    right.append(np.mean([v in below[k] for v, k in zip(nodes.tolist(), t_test, strict=True)]))
    answers["a module"].append(np.mean(nodes < tree.n_classes))
    answers["no answer (the root)"].append(np.mean(nodes == tree.root))
    answers["a package"].append(1 - answers["a module"][-1] - answers["no answer (the root)"][-1])

figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
axis.stackplot(levels, *answers.values(), labels=answers, colors=["#74c0fc", "#b2f2bb", "#dee2e6"])
axis.plot(levels, right, color="#d6336c", lw=2.5, label="right")
axis.set(xlabel="least probability of an answer", ylabel="share of the docstrings")
axis.set(xlim=(0, 0.99), ylim=(0, 1))
axis.legend(loc="lower left")
plt.show()

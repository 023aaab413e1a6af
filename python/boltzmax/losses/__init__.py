"""Losses of logits and log-probabilities, with their gradients.

Each pair of functions has a module that ends with its entry in the registry. The other modules:

- `imbalance`: imbalanced classes
- `parts`: cross-entropy of rows whose classes come in parts
- `reduction`: reduction of the losses of rows
- `registry`: all losses, each with its gradient
- `rows`: the targets and weights of rows, and their cross-entropy
- `terms`: losses that are functions of the target's log-probability
"""

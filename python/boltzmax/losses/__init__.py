"""Losses of logits and log-probabilities, with their gradients.

Each pair of functions has a module, which ends with its entry in the registry. Besides:

- `imbalance`: classes of different sizes
- `reduction`: how the losses of rows become one
- `registry`: all losses, each with its gradient
- `rows`: the targets and weights of rows, and their cross-entropy
- `terms`: losses made of the target's log-probability
"""

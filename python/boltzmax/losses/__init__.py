"""Losses of logits and log-probabilities, with their gradients.

- `binary`: labels that are each true or false on their own
- `cross_entropy`: cross-entropy on logits
- `divergence`: Kullback-Leibler divergence
- `focal`: focal loss
- `imbalance`: classes of different sizes
- `nll`: negative log-likelihood
- `reduction`: how the losses of rows become one
- `registry`: all losses, each with its gradient
- `rows`: the targets and weights of rows, and their cross-entropy
- `terms`: losses made of the target's log-probability
"""

"""Losses of logits and log-probabilities, with their gradients.

- `binary`: labels that are each true or false on their own
- `cross_entropy`: cross-entropy on logits
- `divergence`: Kullback-Leibler divergence
- `focal`: focal loss
- `imbalance`: classes of different sizes
- `nll`: negative log-likelihood
- `reduction`: how the losses of rows become one
- `rows`: the targets and weights of rows
"""

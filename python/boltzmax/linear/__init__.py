"""A linear layer and its softmax, without the matrix of logits.

- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `queries`: log-probabilities, the likeliest classes, samples
- `scores`: logits in tiles, and running totals over them
"""

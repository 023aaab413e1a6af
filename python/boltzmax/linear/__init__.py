"""A linear layer and its softmax, without the matrix of logits.

- `candidates`: what a screen finds
- `codes`: weights in few bits
- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `quantised`: the layer of weights in few bits
- `queries`: log-probabilities, the likeliest classes, samples
- `rotation`: a random orthogonal map
- `scores`: logits in tiles, and running totals over them
"""

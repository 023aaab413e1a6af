"""A linear layer and its softmax, without the matrix of logits.

- `adaptive`: the adaptive softmax layer
- `clusters`, `cutoffs`, `within`, `torch_form`: which classes are in which of its clusters, where
  these begin, its likeliest classes, and the same layer in PyTorch
- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `queries`: log-probabilities, the likeliest classes, samples
- `scores`: logits in tiles, and running totals over them
"""

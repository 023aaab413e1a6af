"""A linear layer and its softmax, without the matrix of logits.

- `adaptive`, `clusters`, `cutoffs`, `within`, `torch_form`: the adaptive softmax layer, which classes are in which
  cluster, where these begin, the likeliest classes, and the same layer in PyTorch
- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `queries`: log-probabilities, the likeliest classes, samples
- `scores`: logits in tiles, and running totals over them
"""

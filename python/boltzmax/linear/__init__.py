"""A linear layer and its softmax, without the matrix of logits.

- `contrastive`: losses of pairs of vectors
- `cross_entropy`: the loss and its gradients
- `draws`: drawn classes, and the layer whose weights they are
- `layer`: the full softmax layer
- `negatives`: the scores of drawn classes, and their gradients
- `partition`: estimates of logsumexp from drawn classes
- `queries`: log-probabilities, the likeliest classes, samples
- `sampled`: losses that read drawn classes
- `sampling_bias`: how far those are from the loss with all classes
- `scores`: logits in tiles, and running totals over them
"""

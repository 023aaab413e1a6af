"""A linear layer and its softmax, without the matrix of logits.

- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `partition`: bounds of the log-partition that are as narrow as wanted
- `queries`: log-probabilities, the likeliest classes, samples
- `scores`: logits in tiles, and running totals over them
- `two_stage`: `TwoStageClassifier`
"""

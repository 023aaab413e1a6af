"""A linear layer and its softmax, without the matrix of logits.

- `budget`: the choice of a screen by measurement
- `codes`: weights in few bits
- `contrastive`: losses of pairs of vectors
- `cross_entropy`: the loss and its gradients
- `draws`: drawn classes, and the layer whose weights they are
- `float_partition`: bounds of the log-partition from one float32 product
- `layer`: the full softmax layer
- `narrowing`: bounds of the log-partition that are as narrow as wanted
- `negatives`: the scores of drawn classes, and their gradients
- `partition`: estimates of logsumexp from drawn classes
- `quantised`: the layer of weights in few bits
- `quantised_layer`: the full softmax layer of weights in few bits
- `queries`: log-probabilities, the likeliest classes, samples
- `rotation`: a random orthogonal map
- `sampled`: losses that read drawn classes
- `sampling_bias`: how far those are from the loss with all classes
- `scores`: logits in tiles, and running totals over them
- `two_stage`: `TwoStageClassifier`
"""

"""A linear layer and its softmax, without the matrix of logits.

- `budget`: the choice of a screen by measurement
- `codes`: weights in few bits
- `cross_entropy`: the loss and its gradients
- `layer`: the full softmax layer
- `partition`: bounds of the log-partition that are as narrow as wanted
- `quantised`: the layer of weights in few bits
- `quantised_layer`: the full softmax layer of weights in few bits
- `queries`: log-probabilities, the likeliest classes, samples
- `rotation`: a random orthogonal map
- `scores`: logits in tiles, and running totals over them
- `two_stage`: `TwoStageClassifier`
"""

"""Adaptive softmax: frequent classes in a head, rare ones in tails of shorter vectors.

- `clusters`: which classes are in the head and in each tail, and where targets go
- `cutoffs`: where the tails begin, by a model of the costs
- `gradients`: losses, their gradients, and steps
- `layer`: the layer
- `top`: the likeliest classes
- `torch_form`: the same layer in PyTorch
"""

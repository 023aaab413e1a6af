"""Other forms of softmax on arrays, and their gradients.

- `calls`: runs compiled functions of rows on arrays of any layout
- `gumbel`: softmax with Gumbel noise, draws of classes with and without replacement
- `shapes`: maps with another function in place of the exponential
"""

"""Other forms of softmax on arrays, and their gradients.

- `calls`: runs compiled functions of rows on arrays of any layout
- `shapes`: maps with another function in place of the exponential
- `sparse`: sparsemax, entmax15 and alpha-entmax
"""

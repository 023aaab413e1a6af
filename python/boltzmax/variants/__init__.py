"""Other forms of softmax on arrays, and their gradients.

- `calls`: runs compiled functions of rows on arrays of any layout
- `draws`: draws of classes with and without replacement
- `exact_totals`: softmax of rows that come in parts, with the same bits for any parts
- `gumbel`: softmax with Gumbel noise
- `leaders`: the k largest scores of rows that come in parts
- `mixture`: mixtures of softmaxes
- `online`: logarithms of sums of exponentials whose terms come in chunks
- `scan_gradients`: gradients of sums over parts of a row
- `scans`: logarithms of running sums of exponentials
- `segments`: ragged rows
- `shapes`: maps with another function in place of the exponential
- `sparse`: sparsemax, entmax15 and alpha-entmax
- `windows`: softmax and logsumexp over a window around each element
"""

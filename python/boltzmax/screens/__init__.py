"""Screens: linear layers that read fewer bytes, and say how far off they may be.

- `bounds`: bounds that hold in floating-point arithmetic
- `clusters`: `ClusteredLinear`
- `exact`: exact logits, with error bounds or without any error
- `linear_screen`: screens whose bounds are products of a factor of the row and one of the class
- `low_rank`: `LowRankLinear`
- `pruning`: `PrunedLinear`
- `reading`: weights and hidden vectors
- `screen`: the contract of screens
"""

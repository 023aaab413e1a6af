"""The softmax family on arrays: the parts that the compiled functions leave to Python.

- `argmax_limit`: temperature 0
- `calls`: the arguments of softmax, log_softmax or logsumexp, checked
- `complex_rows`: complex numbers
- `docs`: the docstrings of the compiled functions
- `general`: every call that the compiled fast path declines
- `numpy_path`: the family in plain NumPy, for longdouble
- `numpy_rows`: rows of any layout, in segments and tiles
- `numpy_sums`: sums of exponentials
- `row_stats`: statistics of rows of logits
"""

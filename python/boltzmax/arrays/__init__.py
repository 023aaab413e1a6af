"""The softmax family on arrays: what the compiled functions leave to Python.

- `argmax_limit`: temperature 0
- `calls`: a call of softmax, log_softmax or logsumexp, read
- `complex_rows`: complex numbers
- `docs`: the docstrings of the compiled functions
- `general`: every call that the compiled functions do not answer at once
- `numpy_path`: the family in plain NumPy, for longdouble
- `numpy_rows`: rows of any layout, in segments and tiles
- `numpy_sums`: sums of exponentials
- `row_stats`: all that a row knows
"""

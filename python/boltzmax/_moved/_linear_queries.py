"""Old place: see boltzmax._moved."""

from boltzmax.linear.queries import linear_log_prob, linear_logsumexp, linear_sample, linear_topk

__all__ = [
    "linear_log_prob",
    "linear_logsumexp",
    "linear_sample",
    "linear_topk",
]

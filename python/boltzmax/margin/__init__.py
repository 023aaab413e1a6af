"""Softmax over angles: cosines as logits, margins for training, several centres, noise.

The logits are ``scale * cos(theta)`` with the angle theta between a feature vector and the centre
of a class. In training, a margin lowers the logit of the target, so that the loss falls only when
the target wins by that margin; predictions use the cosines without it. All angles are in radians.

- `centers`: classes with several centres
- `cosine`: cosines of features and centres
- `layer`: `MarginSoftmax`, an output layer
- `margins`: margins on the logit of the target
- `noise`: noise on the logits
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.margin.centers import subcenter_cosine, subcenter_cosine_backward
from boltzmax.margin.cosine import cosine_logits, cosine_logits_backward
from boltzmax.margin.layer import MarginSoftmax
from boltzmax.margin.margins import (
    additive_margin,
    arc_margin,
    margin_logits,
    margin_logits_backward,
    sphere_margin,
)
from boltzmax.margin.noise import noisy_logits

__all__ = [
    "MarginSoftmax",
    "additive_margin",
    "arc_margin",
    "cosine_logits",
    "cosine_logits_backward",
    "margin_logits",
    "margin_logits_backward",
    "noisy_logits",
    "sphere_margin",
    "subcenter_cosine",
    "subcenter_cosine_backward",
]

show_in(globals())

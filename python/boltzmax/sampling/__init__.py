"""From logits to the next class: filters, penalties and draws.

- `program`: runs a sequence of steps on logits
- `steps`: the steps
"""

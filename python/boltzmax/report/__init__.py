"""The report on a classifier: what ``python -m boltzmax report`` measures, prints and draws.

- `digits`: an over-trained classifier, for a report without files
- `numbers`: what is measured
- `page`: the page, in HTML
- `plots`: the figures, in SVG
- `summary`: the numbers as text
"""

"""Trees of classes, and the hierarchical layer on them.

- `builders`: ways to arrange classes in a tree
- `hierarchical`: the layer
- `plot`: a drawing with Matplotlib
- `text`: a tree as text, and as a Graphviz graph
- `training`: how the layer learns
- `tree`: the tree
- `weights`: the layer's weights, in memory and in files
"""

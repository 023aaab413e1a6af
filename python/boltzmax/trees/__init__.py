"""Trees of classes, and the hierarchical layer on them.

- `builders`: ways to arrange classes in a tree
- `hierarchical`: the layer
- `plot`: a drawing with Matplotlib
- `quantised_layer`: the layer of weights in few bits
- `text`: a tree as text, and as a Graphviz graph
- `training`: training steps on these weights
- `tree`: the tree
- `weights`: the weights of the layer's units, and queries on them
"""

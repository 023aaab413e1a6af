"""What all families share, independent of each of them.

- `arguments`: the arguments of functions of arrays
- `bad_rows`: rows that nothing can be drawn from: an error, or a mark
- `config`: the build, the instruction set, the number of threads
- `console`: tables, progress bars and errors of the command line
- `files`: files that are whole or not there, and arrays in them
- `foreign`: arrays of other libraries, to NumPy and back
- `logits`: logits in a dtype that the kernels support, and the destination of their gradient
- `mapped`: archives of arrays that are used where they are in the file
- `numbers`: arrays and numbers as arguments
- `output_layer`: the interface of output layers, and how they read their arguments
- `parameters`: the constructor's arguments, as scikit-learn uses them
- `public`: the module names that public objects report
- `ragged`: rows of different lengths, with offsets as in CSR
- `random`: where random numbers come from
- `rational`: shares as exact fractions
- `read_only`: the base class of layers that answer, but do not learn
- `same_kind`: calls whose result is of the library of their arguments
- `scored`: rows of scores with labels and weights
- `shared_docs`: paragraphs that docstrings share
- `targets`: class indices or class probabilities, one set per row
- `threadpools`: the controller for threadpoolctl
- `unit_layer`: the base class of output layers that store weights
"""

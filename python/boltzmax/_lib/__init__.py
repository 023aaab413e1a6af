"""What all families share; it knows of none of them.

- `arguments`: the arguments of functions of arrays
- `config`: the build, the instruction set, the number of threads
- `console`: tables, progress bars and errors of the command line
- `files`: files that are whole or not there, and arrays in them
- `logits`: logits as an array with kernels, and where their gradient goes
- `numbers`: arrays and numbers as arguments
- `output_layer`: the contract of output layers, and how they read their arguments
- `public`: where public objects are found
- `random`: where random numbers come from
- `shared_docs`: paragraphs that docstrings share
- `targets`: a class for each row, or the probabilities of its classes
- `threadpools`: what threadpoolctl sees
- `unit_layer`: what output layers with weights of their own share
"""

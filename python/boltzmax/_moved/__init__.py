"""Old locations of classes and functions that pickles may name, and nothing else.

This folder is on the package's ``__path__``: `boltzmax._tree`, say, is found here.  Each module
imports from the new location what pickles could have named in the old one.  Nothing in the package
imports them.
"""

# For compiled code only: see cython_boltzmax.pxd.
__pyx_capi__: dict[str, object]

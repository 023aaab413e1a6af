// boltzmax._core.xla_handlers: foreign functions for XLA on CPUs, which boltzmax.jax registers; and xla_version, that of
// the interface which they speak.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindXla(pybind11::module_& module);

}  // namespace boltzmax

// Lists and tuples of numbers as arrays.
#pragma once

#include "arrays.hpp"

namespace boltzmax {

// numpy.asarray of a list or tuple; null if that fails. An exception that stays set is not about the numbers (out of
// memory, an interrupt).
ArrayRef ArrayFromList(PyObject* list);

}  // namespace boltzmax

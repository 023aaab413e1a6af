// Options that losses share, read without Python: each function is false if the general path has to read the argument.
#pragma once

#include <algorithm>
#include <iterator>

#include "read_arguments.hpp"

namespace boltzmax {

enum class Reduction { kNone, kSum, kMean, kBatchMean };

inline std::string_view TextOf(PyObject* value) {
  return PyUnicode_CheckExact(value) ? NameOf(value) : std::string_view{};
}

inline bool ReadReduction(PyObject* value, Reduction* reduction) {
  static constexpr std::string_view kNames[] = {"none", "sum", "mean", "batchmean"};
  const auto* found = std::find(std::begin(kNames), std::end(kNames), TextOf(value));
  if (found == std::end(kNames)) return false;
  *reduction = static_cast<Reduction>(found - kNames);
  return true;
}

// Whether the mean over nothing is 0, not NaN.
inline bool ReadEmpty(PyObject* value, bool* zero_if_empty) {
  const std::string_view text = TextOf(value);
  *zero_if_empty = text == "zero";
  return *zero_if_empty || text == "nan";
}

// Whether the classes are on the last axis.
inline bool IsLastAxis(PyObject* axis, int ndim) {
  if (!PyLong_CheckExact(axis)) return false;
  int overflow;
  const long number = PyLong_AsLongAndOverflow(axis, &overflow);
  return overflow == 0 && (number == -1 || number == ndim - 1);
}

}  // namespace boltzmax

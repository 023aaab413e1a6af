// Rows of a large matrix that are picked by their indices: copies, dot products, sums.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Rows of n elements, float or double, one after the other; the i-th one picked is at[i], or i if that is null.
struct PickedRows {
  char* data;
  const int64_t* at;
};

// The number of rows that are picked, and their form.
struct RowForm {
  DType storage;
  size_t count, n;
};

// to_i = from_i
void CopyRows(const RowForm& form, const PickedRows& from, char* to);

// z_i = a_i . b_i
void DotRows(const RowForm& form, const PickedRows& a, const PickedRows& b, double* z);

// sums_i += gain_i rows_i, in the order of i; a missing gain is 1. A row may be picked many times.
void AddRows(const RowForm& form, const PickedRows& sums, const double* gain, const PickedRows& rows);

}  // namespace boltzmax

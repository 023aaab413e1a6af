// Totals of rows that come in parts, from different places: the same bits for any parts, in any order, with any ISA.
#pragma once

#include <cstdint>

#include "../../kernels/exact_total_types.hpp"
#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Rows of n contiguous elements, float or double, `stride` bytes apart.
struct RowParts {
  DType storage;
  const char* x;
  ptrdiff_t stride;
  size_t rows, n;
  double temperature;
};

// Adds parts of rows, whose first element has the index `first`, to the rows' totals.
void AddParts(const RowParts& parts, int64_t first, RowTotal* totals);

// total += other
void Merge(RowTotal* total, const RowTotal& other, double temperature);

// log(sum_i exp(x_i / T)) - max / T, and the sum whose logarithm this is: NaN without a finite maximum. Max error 2 ULP.
void Finish(const RowTotal* totals, size_t rows, double temperature, double* log_sum, double* sum);

// y = softmax(x) or log_softmax(x), given the maximum, the log_sum and the sum of each row; y is like x, in C order.
void MapParts(const RowParts& parts, const double* max, const double* log_sum, const double* sum, bool wants_log,
              char* y);

// A sum of numbers with signs; `special` is the sum of those that are not finite.
struct SignedSum {
  ExactSum finite;
  double special;
};

void AddNumbers(const double* x, size_t rows, size_t n, SignedSum* sums);
void Merge(SignedSum* sum, const SignedSum& other);
// high + low is the sum to twice the precision of double.
void Round(const SignedSum& sum, double* high, double* low);

}  // namespace boltzmax

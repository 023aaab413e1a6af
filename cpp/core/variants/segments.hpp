// Operations on ragged rows: segments of an array, from indptr[s] to indptr[s + 1] as in CSR.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// y = op(x) in every segment, with the bits that the row alone would have. With `other`, y is the gradient, from dy in x
// and the result of the operation in `other`. Contiguous arrays of one type; a reduction has one y for each segment.
struct SegmentProblem {
  Op op;
  DType storage;
  const char* x;
  const char* other;  // or null
  char* y;
  const int64_t* indptr;  // ascending, of segments + 1 numbers
  size_t segments;
};

void Run(const SegmentProblem& problem);

// Sorts elements by their segment, keeping the order within each: element order[j] is at place j, and segment s has the
// places from indptr[s] to indptr[s + 1]. Returns the first element whose id is not in [0, segments), or `count`.
size_t SortBySegment(const int64_t* ids, size_t count, size_t segments, int64_t* order, int64_t* indptr);

}  // namespace boltzmax

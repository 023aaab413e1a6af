// The structs that kernels and their callers share. Plain structs: no Python, no containers, no threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "operations.hpp"

namespace boltzmax {

// 16-bit storage types. Arithmetic happens in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Storage -> arithmetic type.
template <class S>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

// A longer row is reduced segment by segment, and the sums of the segments are added up in order. The split depends
// only on the row's length, so the bits of a result do not depend on threads, batch or alignment.
template <class S>
inline constexpr size_t kSegment = 262144 / sizeof(Compute<S>);

// Rows up to this length keep their exponentials in scratch memory, in L1, between the sum and the division, if the
// result cannot hold them. For longer rows, computing them again is cheaper than a round trip to L2.
inline constexpr size_t kKept = 4096;

// Rows up to this length go by panels; the exponentials of a panel fit into kKept elements of scratch memory.
inline constexpr size_t kMostPaneled = 256;

// sum_j exp(x_j / T) = (hi + lo) * 2^exponent * exp(offset / T); `top` is the largest term, as it was added. A
// reduction that met NaN has hi = NaN; one that met no finite element has max = -inf or +inf.
template <class D>
struct SumOfExp {
  D max;
  D offset;
  D exponent;
  D top;
  D hi;
  D lo;
};
using RowSum = SumOfExp<double>;

// A sum in twice the precision of double.
struct Sum {
  double hi;
  double lo;
};

// The most groups that group_maxima divides a row into.
inline constexpr size_t kGroups = 64;

// An element of a row.
struct Element {
  double score;
  size_t index;
};

// One row, or a piece of one, contiguous in memory.
struct Row {
  const void* x;
  void* y;
  const uint8_t* mask;  // NumPy bools, or null
  size_t n;
  double temperature;
  bool far;     // x is not in the nearest caches: prefetch
  bool stream;  // write y past the cache
};

// Rows of the same length; strides in bytes. Temperatures are one double per row (stride 0: one for all).
struct RowBatch {
  const char* x;
  char* y;
  const uint8_t* mask;
  const double* temperature;
  ptrdiff_t x_stride;
  ptrdiff_t y_stride;
  ptrdiff_t mask_stride;
  ptrdiff_t temperature_stride;
  size_t rows;
  size_t n;
  void* scratch;  // 2 * kKept elements of the arithmetic type, where exponentials are kept; never null
  bool scaled;    // some temperature is not 1
  bool far, stream;
  // Rows of at most kMostPaneled elements, without a mask and neither far nor streamed, may have any places: row r is
  // x_places[r] bytes from x, and its result y_places[r] bytes from y. Strides are then 0.
  const ptrdiff_t* x_places = nullptr;
  const ptrdiff_t* y_places = nullptr;
};

// Columns: element i of column j is at x + i * x_stride + j * itemsize. y has the same layout or, for a reduction, one
// element per column.
struct ColumnBatch {
  const char* x;
  char* y;
  const double* temperature;
  ptrdiff_t x_stride;
  ptrdiff_t y_stride;
  ptrdiff_t temperature_stride;
  size_t columns;
  size_t n;
  bool scaled;
};

// Gradients: dx from dy and y.
struct GradBatch {
  const char* dy;
  const char* y;
  char* dx;
  ptrdiff_t dy_stride;
  ptrdiff_t y_stride;
  ptrdiff_t dx_stride;
  size_t rows;
  size_t n;
  const ptrdiff_t* places = nullptr;  // row r is places[r] bytes from dy, y and dx; strides are then 0
};
struct GradRow {
  const void* dy;
  const void* y;
  void* dx;
  size_t n;
};

// An operation on rows.
struct OpKernels {
  // Whole rows of at most kSegment elements; and columns of them.
  void (*rows)(const RowBatch&);
  void (*columns)(const ColumnBatch&);
  // A segment of a longer row, given the sum of the whole row; a reduction stores its result. The logarithm of the sum
  // is read only by operations that need it.
  void (*finish)(const Row&, const RowSum&, const Sum& log_sum);
};
// The gradient of an operation: rows of at most kSegment elements; and its two halves, for segments of longer ones.
struct GradientKernels {
  void (*rows)(const GradBatch&);
  Sum (*reduce)(const GradRow&);
  void (*map)(const GradRow&, const Sum&);
};

// Every kernel for one storage type.
struct StorageKernels {
  OpKernels ops[kOpCount];
  GradientKernels gradients[kOpCount];  // of the operations that have one
  RowSum (*reduce)(const Row&);
  // The sum without its largest term, in the same unit; and the logarithm of a sum, less offset / T.
  Sum (*reduce_rest)(const Row&, const RowSum&);
  Sum (*log_of_sum)(const RowSum&);
  Sum (*log_of_peaked_sum)(const RowSum&, const Sum& rest);
  // y = gain * softmax(x) + add, from which losses make their gradients.
  void (*affine_softmax_map)(const Row&, const RowSum&, double gain, double add);
  void (*store_scalar)(void* y, double value);
  // As reduce; and in `mean` the mean of x - max under softmax(x), for the entropy. Not for degenerate rows.
  RowSum (*reduce_mean)(const Row&, double* mean);
  // sum_c (from - x_c); infinite if some x_c is.
  double (*sum_distances)(const Row&, double from);
  // The number of elements above `limit`; and the first `most` of them at or after `begin`, in order of their index.
  // Returns the index at which it stopped.
  size_t (*count_above)(const Row&, double limit);
  size_t (*find_above)(const Row&, double limit, size_t begin, size_t most, Element* found, size_t* count);
  size_t (*group_maxima)(const Row&, double* maxima);  // of up to kGroups disjoint groups of elements
  size_t read_once;  // the most elements of a column of which each cache line is read once and written once

  const OpKernels& Of(Op op) const { return ops[static_cast<size_t>(op)]; }
  const GradientKernels& GradientOf(Op op) const { return gradients[static_cast<size_t>(op)]; }
};

// A matrix of coefficients with any strides.
template <class T>
struct Coefficients {
  const T* at;
  size_t by_sum, by_row;

  T operator()(size_t sum, size_t row) const { return at[sum * by_sum + row * by_row]; }
  Coefficients From(size_t sum) const { return {at + sum * by_sum, by_sum, by_row}; }
};

// A layer of which a call reads only some units, rows of its weight matrix with n elements each, float or double.
template <class T>
struct UnitKernels {
  // z[c * m + j] = x_c . rows_j
  void (*dot_rows)(const T* const* x, size_t count, const T* const* rows, size_t m, size_t n, T* z);
  // sums_s += gain(s, 0) rows_0 + gain(s, 1) rows_1 + ...; several sums may be the same row, but none may be one of
  // `rows`
  void (*add_rows)(T* const* sums, size_t count, const T* const* rows, size_t m, const Coefficients<T>& gain, size_t n);
  // log sigma(z_i) and sigma(-z_i)
  void (*log_sigmoid)(const T* z, size_t n, T* log_p, T* q);
};

struct LossTable;       // loss_types.hpp
struct PointwiseTable;  // pointwise_table.hpp
struct TileTable;       // tile_types.hpp
struct WeightedTable;   // weighted_types.hpp

struct KernelTable {
  const char* isa;
  const LossTable* losses;
  const PointwiseTable* pointwise;
  const TileTable* tiles;
  const WeightedTable* weighted;
  UnitKernels<float> units_f32;
  UnitKernels<double> units_f64;
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_MEMBER, StorageKernels)
};

// One per ISA in this build. Each family of kernels is an object with one table.
#define BOLTZMAX_DECLARE_TABLES           \
  extern const KernelTable kKernels;      \
  extern const LossTable kLosses;         \
  extern const PointwiseTable kPointwise; \
  extern const TileTable kTiles;          \
  extern const WeightedTable kWeighted;
namespace scalar {
BOLTZMAX_DECLARE_TABLES
}
namespace avx2 {
BOLTZMAX_DECLARE_TABLES
}
namespace avx512 {
BOLTZMAX_DECLARE_TABLES
}
namespace neon {
BOLTZMAX_DECLARE_TABLES
}
#undef BOLTZMAX_DECLARE_TABLES

}  // namespace boltzmax

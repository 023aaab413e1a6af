// The kernels of prediction sets: what a class's score is made of, and the search for the classes with low scores.
#pragma once

#include "types.hpp"

namespace boltzmax {

// What is known of one element of a row: parts of the row's sum of exponentials, all in the same unit. `total` is NaN
// in a row that has NaN or no finite maximum.
struct LabelMass {
  double total;
  double above;   // of the larger elements
  double upper;   // of the larger and the equal ones
  double own;     // its own exponential
  double top;     // that of the largest element
  double larger;  // how many elements are larger
};

// A row's exponentials have been stored: their sum, the largest of them, in the same unit; and the maximum of the row.
// `total` is NaN in a row that has NaN or no finite maximum.
template <class T>
struct RowTerms {
  T max;
  double total;
  double top;
};

// The elements x >= at: the sum of their exponentials, and how many there are.
struct Upper {
  double mass;
  double count;
};

template <class T>
struct SetKernels {
  // Of rows of n contiguous elements, `stride` bytes apart, and one of the values of each row.
  void (*label_masses)(const T* x, ptrdiff_t stride, size_t rows, size_t n, const T* at, LabelMass*);
  RowTerms<T> (*terms)(const T* x, size_t n, T* e);
  // For two finite pivots.
  void (*uppers)(const T* x, const T* e, size_t n, const T* pivots, Upper* uppers);
  // Compresses the elements low <= x < high and their exponentials; returns how many they are. The results have room
  // for n, and may replace x and e.
  size_t (*between)(const T* x, const T* e, size_t n, T low, T high, T* kept_x, T* kept_e);
  // Both at once: the sums from two pivots on, and the elements pivots[1] <= x < pivots[0]. The results must not replace
  // x and e.
  size_t (*split)(const T* x, const T* e, size_t n, const T* pivots, Upper* uppers, T* kept_x, T* kept_e);
  // The places of the elements key >= low, and scale times their exponentials; returns how many they are. The results
  // have room for n.
  size_t (*places_from)(const T* key, const T* e, size_t n, T low, T scale, int32_t* places, T* p);
};

struct SetTable {
  SetKernels<float> f32;
  SetKernels<double> f64;
};

namespace scalar {
extern const SetTable kSets;
}
namespace avx2 {
extern const SetTable kSets;
}
namespace avx512 {
extern const SetTable kSets;
}
namespace neon {
extern const SetTable kSets;
}

}  // namespace boltzmax

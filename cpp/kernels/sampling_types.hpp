// The kernels that find and draw the classes that filters leave. They read pieces of rows.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Sums and maxima are those of groups of this many elements.
inline constexpr size_t kSampleGroup = 256;

// The constants of fast exponentials, 2^(x scale) / 2^unit, for numbers up to `high`; those below `low` count as
// `low`.
template <class T>
struct FastExp {
  T low, high, scale_hi, scale_lo;
  T unit;
  double max, temperature;  // in double, exponentials are the exact ones
};

// Elements that were found, and their places; and how many were above. There must be room for a vector more than `most`.
template <class T>
struct FoundElements {
  T* x;
  uint32_t* place;
  size_t most, count, above;
};

// Elements from lo to hi are collected, those above, up to `top`, are counted.
template <class T>
struct Bounds {
  T lo, hi, top;
};

template <class T>
struct SamplingKernels {
  // The maxima of groups; NaN for a group that has NaN.
  void (*maxima)(const T* x, size_t n, T* maxima);
  // The same, with the sums of the exponentials, which overwrite others. The maximum need not be known: what is beyond
  // 2^127 makes a sum useless, no more.
  void (*maxima_and_masses)(const T* x, size_t n, const FastExp<T>&, T* maxima, double* sums);
  // The largest element up to a bound; -inf if there is none.
  T (*largest_up_to)(const T* x, size_t n, T hi);
  // Adds the exponentials of the elements from lo to hi to the sums of their groups. The relative error of a sum is at
  // most `mass_error`. The bits are the same on every ISA.
  void (*masses)(const T* x, size_t n, T lo, T hi, const FastExp<T>&, double* sums);
  double mass_error;
  // Adds the exponentials of the elements from `lo` on, and appends those in the bracket, without their places. False if
  // there are more than fit; there must be room for 1,024 and a vector more.
  bool (*split)(const T* x, size_t n, const Bounds<T>& bracket, const FastExp<T>&, FoundElements<T>*, double* mass);
  // The number of elements from lo to hi.
  size_t (*count)(const T* x, size_t n, T lo, T hi);
  // Appends elements, `base` added to their places. False if there are more than fit.
  bool (*collect)(const T* x, size_t n, const Bounds<T>&, uint32_t base, FoundElements<T>*);
  // exp((x - max) / temperature) in double, with the same bits on every ISA; 0 below exp(-708). Max error 2 ULP.
  void (*exact_terms)(const T* x, size_t n, double max, double temperature, double* terms);
  // Adds those of the elements from lo to hi to the sums of their groups, and their products with (max - x) / temperature
  // to `weighted`. The bits are the same on every ISA.
  void (*exact_moments)(const T* x, size_t n, T lo, T hi, double max, double temperature, double* sums,
                        double* weighted);
};

struct SamplingTable {
  SamplingKernels<float> f32;
  SamplingKernels<double> f64;
};

namespace scalar {
extern const SamplingTable kSampling;
}
namespace avx2 {
extern const SamplingTable kSampling;
}
namespace avx512 {
extern const SamplingTable kSampling;
}
namespace neon {
extern const SamplingTable kSampling;
}

}  // namespace boltzmax

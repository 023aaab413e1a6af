// The kernels of samplers of candidates. All results have the same bits on every ISA, but for logarithms.
#pragma once

#include "philox.hpp"
#include "types.hpp"

namespace boltzmax {

// Draws are made this many at a time, at most.
inline constexpr size_t kDrawBatch = 256;

// The words of neighbouring blocks of random numbers: word w of the block at first + i is at word[w][i].
struct BatchWords {
  alignas(64) uint32_t word[4][kDrawBatch];

  BatchWords() : word() {}

  uint64_t Lower(size_t i) const { return static_cast<uint64_t>(word[1][i]) << 32 | word[0][i]; }
  uint64_t Upper(size_t i) const { return static_cast<uint64_t>(word[3][i]) << 32 | word[2][i]; }
};

// Further blocks of a draw are numbered: those of its next attempts, or of the levels of a tree.
inline uint32_t CandidatePurpose(uint32_t number) { return static_cast<uint32_t>(Purpose::kCandidate) | number << 8; }

// Which blocks: those at the counters (first + i, purpose, row).
struct BatchCounter {
  uint64_t row;
  uint32_t purpose;
  size_t first;
};

// The law P(k) = log((k + 2) / (k + 1)) / log(V + 1) for k < V.
struct LogUniformLaw {
  double classes;
  double log2_hi, log2_lo;  // of V + 1; the first has at most 21 bits
  double log_of_log;        // log(log(V + 1))
};

// Vectors of n numbers.
template <class T>
struct OrderedKernels {
  // z_j = x . rows_j, added up in one order on every ISA, without fused multiplications
  void (*dots)(const T* x, const T* rows, size_t m, size_t n, T* z);
  // packed = the lower triangle, row by row, of sum_j w_j w_j^T; each element is summed in the order of the rows
  void (*outer_sum)(const T* rows, size_t m, size_t n, T* packed);
};

struct CandidateTable {
  // The words of `count` blocks, at most kDrawBatch.
  void (*words)(const PhiloxKey&, const BatchCounter&, size_t count, BatchWords*);
  // Draws from the law, by inversion: word 1, and word 0 after it, are a uniform number.
  void (*log_uniform)(const BatchWords&, size_t count, const LogUniformLaw&, int64_t* ids);
  void (*log_uniform_log_p)(const int64_t* ids, size_t count, const LogUniformLaw&, double* log_p);
  OrderedKernels<float> f32;
  OrderedKernels<double> f64;
};

namespace scalar {
extern const CandidateTable kCandidates;
}
namespace avx2 {
extern const CandidateTable kCandidates;
}
namespace avx512 {
extern const CandidateTable kCandidates;
}
namespace neon {
extern const CandidateTable kCandidates;
}

}  // namespace boltzmax

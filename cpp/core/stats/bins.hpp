// Bins of equal width of probabilities, and whether events happened.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boltzmax {

// Sums of each bin; `count` includes the rows where the event happened.
struct BinSums {
  double* count;
  double* happened;
  double* p;
};

// Adds rows, where `happened` is 0 or 1, to the sums of `bins` bins: bin b has (edges[b], edges[b + 1]], the first one 0, too. Returns how many
// numbers are not from 0 to 1; those are in no bin.
size_t AddToBins(const float* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins, BinSums sums);
size_t AddToBins(const double* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins, BinSums sums);

}  // namespace boltzmax

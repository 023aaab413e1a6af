// Draws of classes from rows of scores, with and without replacement.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Contiguous rows of n floats or doubles; -inf is a class of probability 0. A row with NaN or without a finite maximum
// has no classes to draw: its ids are -1.
struct DrawProblem {
  DType storage;
  const char* x;
  size_t rows, n;
  const double* temperature;  // one for each row, or null for 1
  uint64_t key, first_row;
  size_t draws;   // of each row
  int64_t* id;    // rows x draws
  double* score;  // of DrawTop: (x / T + noise) of each id, the largest first; -inf where there is no class
};

// Independent draws from softmax(x / T); where T is 0, the first largest element.
//
// A draw takes two uniform numbers of 53 bits. The first selects a block of neighbouring classes: the first one whose
// share of the sum of exponentials, with those before it, exceeds the number. The second selects a class of the block
// in the same way. The length of blocks depends on n alone. Fast sums decide unless the number is so near to an edge
// that rounding might matter; then sums in double do, which are the same on every ISA.
void DrawClasses(const DrawProblem&);

// The `draws` largest of (x_i / T) + g_i, in order; T > 0.
void DrawTop(const DrawProblem&);

// Numbers from 0 to below 1, of 53 bits, for elements first to first + count - 1 of each row; each depends on the key, the
// number of its row and its element alone.
void UniformNumbers(uint64_t key, uint64_t first_row, size_t rows, uint64_t first, size_t count, double* u);

}  // namespace boltzmax

// The alias method (Walker, ACM Trans. Math. Software 3(3), 1977): a draw from any distribution in constant time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boltzmax {

// One of as many equally likely slots as there are classes: its own class below the threshold, else the alias.
struct AliasSlot {
  double threshold;
  uint32_t alias, unused;
};

// The same with the logarithms of both probabilities, all in one cache line.
struct TableSlot {
  AliasSlot classes;
  double log_p[2];  // of the slot's own class, of the alias
};

// Fills the slots for weights whose mean is 1. Vose's method in the form of two sweeps over the weights (Huebschle-
// Schneider & Sanders, ACM Trans. Math. Software 48(3), 2022), which read and write memory in order.
void BuildAlias(const double* weights, size_t classes, AliasSlot* slots);
void BuildTable(const double* weights, const double* log_p, size_t classes, TableSlot* slots);

}  // namespace boltzmax

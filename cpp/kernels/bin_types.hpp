// The kernels of bins of equal width: which bin each probability belongs to.
#pragma once

#include "types.hpp"

namespace boltzmax {

template <class T>
struct BinKernels {
  // The bin of each probability, of `bins` bins: the whole part of its product with `bins`, or the last. `bin` has room
  // for a multiple of 16. False if one of the numbers is not from 0 to 1, or so near to an edge between two bins that
  // rounding might matter; then the results are arbitrary.
  bool (*find)(const T* p, size_t rows, size_t bins, int64_t* bin);
};

struct BinTable {
  BinKernels<float> f32;
  BinKernels<double> f64;
};

namespace scalar {
extern const BinTable kBins;
}
namespace avx2 {
extern const BinTable kBins;
}
namespace avx512 {
extern const BinTable kBins;
}
namespace neon {
extern const BinTable kBins;
}

}  // namespace boltzmax

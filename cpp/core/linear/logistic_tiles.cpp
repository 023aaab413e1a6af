#include "logistic_tiles.hpp"

#include "../runtime/row_blocks.hpp"
#include "tile_rows.hpp"

namespace boltzmax {

namespace {

// A logarithm and an exponential for each element.
double Cost(const LogitTile& tile) { return 4.0 * EstimateNanoseconds(tile.rows * tile.n, tile.storage); }

template <class T>
class Logistic {
 public:
  Logistic(const LogitTile& tile, const char* bias)
      : tile_(tile), bias_(reinterpret_cast<const T*>(bias)), kernels_(TileKernelsOf<T>()) {}

  // Returns sum_c -log sigma(-s_c) of a row; replaces it by gradients unless `scale` is null.
  double Run(size_t r, const double* scale) const {
    thread_local Scratch kept;
    T* const minus = reinterpret_cast<T*>(kept.Get(3 * kPiece * sizeof(T)));
    T* const log_p = minus + kPiece;
    T* const p = log_p + kPiece;
    double loss = 0.0;
    for (size_t begin = 0; begin < tile_.n; begin += kPiece) {
      const size_t n = std::min(kPiece, tile_.n - begin);
      T* const x = RowOf<T>(tile_, r) + begin;
      std::copy_n(x, n, minus);
      kernels_.score({minus, bias_ == nullptr ? nullptr : bias_ + begin, n, T(0), T(-1)});
      Units<T>().log_sigmoid(minus, n, log_p, p);
      loss += KernelsFor(tile_.storage).sum_distances({log_p, nullptr, nullptr, n, 1.0, false, false}, 0.0);
      if (scale == nullptr) continue;
      kernels_.score({p, nullptr, n, T(0), static_cast<T>(scale[r])});
      std::copy_n(p, n, x);
    }
    return loss;
  }

 private:
  static constexpr size_t kPiece = kPieceBytes / 4 / sizeof(T);

  const LogitTile& tile_;
  const T* bias_;
  const TileKernels<T>& kernels_;
};

}  // namespace

void LogisticTile(const LogitTile& tile, const char* bias, const double* scale, double* losses, double* column_sums) {
  WithType(tile.storage, [&](auto zero) {
    const Logistic<decltype(zero)> logistic(tile, bias);
    ForEachRowAndSum<decltype(zero)>(tile, Cost(tile), scale == nullptr ? nullptr : column_sums,
                                     [&](size_t r) { losses[r] += logistic.Run(r, scale); });
  });
}

}  // namespace boltzmax

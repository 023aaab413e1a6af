#include "encode.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <vector>

#include "../runtime/parallel.hpp"
#include "bounds.hpp"

namespace boltzmax {

namespace {

constexpr double kLargestNorm = 3e38;

// One row, and memory for what is computed of it.
class RowEncoder {
 public:
  RowEncoder(const QuantisedLayer& layer, const LayerArrays& to)
      : layer_(layer), to_(to), whole_(layer.width), kept_(layer.width), rest_(layer.width) {}

  // False if the row is refused. Without a row, the class is filled with zeros.
  bool Encode(const double* w, size_t c, double rounding) {
    const double size = w != nullptr ? NormAbove(w, layer_.features) : 0.0;
    if (!(size <= kLargestNorm)) return false;
    if (layer_.bits == 16) {
      if (w != nullptr) NearestBFloat16(w, c);
    } else {
      NearestNumbers(w, c);
      StoreNumbers(c);
    }
    if (w == nullptr) return true;
    const size_t n = layer_.features;
    for (size_t i = 0; i < n; ++i) rest_[i] = w[i] - kept_[i];
    to_.error[c] = FloatAbove(NormAbove(rest_.data(), n) + rounding * size * (1.0 + 0x1p-40));
    to_.norm[c] = FloatAbove(NormAbove(kept_.data(), n));
    return true;
  }

 private:
  double LargestCode() const { return static_cast<double>((1 << (layer_.bits - 1)) - 1); }

  // w ~ s q in each group. Products are exact: a scale has 24 bits.
  void NearestNumbers(const double* w, size_t c) {
    std::fill(whole_.begin(), whole_.end(), 0.0);
    if (w == nullptr) return;
    const size_t group = layer_.groups > 1 ? layer_.section : layer_.width;
    for (size_t g = 0; g < layer_.groups; ++g) {
      const size_t begin = g * group, end = std::min(begin + group, layer_.features);
      const auto s = static_cast<float>(begin < end ? LargestOf(w + begin, end - begin) / LargestCode() : 0.0);
      to_.scale[(c / kClassLanes * layer_.groups + g) * kClassLanes + c % kClassLanes] = s;
      for (size_t i = begin; i < end; ++i) {
        const double q = s > 0.0F ? Rounded(w[i] / static_cast<double>(s)) : 0.0;
        whole_[i] = std::clamp(q, -LargestCode(), LargestCode());
        kept_[i] = whole_[i] * static_cast<double>(s);
      }
    }
  }

  void StoreNumbers(size_t c) {
    uint8_t* block = to_.codes + c / kClassLanes * layer_.BlockBytes() + 4 * (c % kClassLanes);
    constexpr size_t kStep = 4 * kClassLanes;
    const auto code = [&](size_t i) { return static_cast<uint8_t>(static_cast<int>(whole_[i] + LargestCode()) + 1); };
    if (layer_.bits == 8) {
      for (size_t i = 0; i < layer_.width; ++i) block[i / 4 * kStep + i % 4] = code(i);
    } else {
      for (size_t i = 0; i < layer_.width; i += 8) {
        for (size_t j = i; j < i + 4; ++j) {
          block[i / 8 * kStep + j % 4] = static_cast<uint8_t>(code(j) | code(j + 4) << 4);
        }
      }
    }
  }

  // Ties to even; what would become infinite is the largest number instead.
  void NearestBFloat16(const double* w, size_t c) {
    auto* block = reinterpret_cast<uint16_t*>(to_.codes + c / kClassLanes * layer_.BlockBytes()) + c % kClassLanes;
    to_.scale[c] = 1.0F;
    for (size_t i = 0; i < layer_.features; ++i) {
      const auto bits = std::bit_cast<uint32_t>(static_cast<float>(w[i]));
      const uint32_t sign = bits & 0x80000000U, size = bits & 0x7fffffffU;
      const uint32_t near = std::min((size + 0x7fffU + (size >> 16 & 1U)) >> 16, uint32_t{0x7f7f});
      block[i * kClassLanes] = static_cast<uint16_t>(sign >> 16 | near);
      kept_[i] = static_cast<double>(std::bit_cast<float>(sign | near << 16));
    }
  }

  const QuantisedLayer& layer_;
  const LayerArrays& to_;
  std::vector<double> whole_, kept_, rest_;
};

}  // namespace

size_t Encode(const QuantisedLayer& layer, const LayerArrays& to, const double* weight, size_t first, size_t rows,
              double rounding) {
  const size_t blocks = (rows + kClassLanes - 1) / kClassLanes;
  std::atomic<size_t> refused{rows};
  ParallelBlocks(blocks, 1, 4.0 * static_cast<double>(rows * layer.features), [&](size_t begin, size_t end) {
    RowEncoder encoder(layer, to);
    for (size_t r = begin * kClassLanes; r < end * kClassLanes; ++r) {
      if (encoder.Encode(r < rows ? weight + r * layer.features : nullptr, first + r, rounding)) continue;
      size_t known = refused.load();
      while (r < known && !refused.compare_exchange_weak(known, r)) {
      }
    }
  });
  return refused.load();
}

}  // namespace boltzmax

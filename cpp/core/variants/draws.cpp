#include "draws.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../runtime/parallel.hpp"
#include "draw_rows.hpp"

namespace boltzmax {

namespace {

// The first class or block whose cumulative sum exceeds this share of the whole.
struct Choice {
  size_t index;
  bool is_near;  // to an edge, within `near` of the whole
};
Choice Choose(const std::vector<double>& cumulative, double share, double near) {
  const double total = cumulative.back(), target = share * total, margin = near * total;
  const auto edge = std::upper_bound(cumulative.begin(), cumulative.end(), target);
  const double lower = edge == cumulative.begin() ? 0.0 : edge[-1];
  return {static_cast<size_t>(edge - cumulative.begin()),
          edge == cumulative.end() || *edge - target <= margin || target - lower <= margin};
}

// The blocks of rows of n elements: about as many as there are elements in one, so that few edges are near to a number,
// and whole chunks.
size_t BlockLength(size_t n) {
  size_t length = kDrawChunk;
  while (length * length < n) length *= 2;
  return length;
}

// Draws from one row after another; memory is kept from row to row.
template <class T>
class Drawer {
 public:
  explicit Drawer(const DrawProblem& p)
      : p_(p), kernels_(KernelsOf(ActiveDraws(), T())), key_(MakePhiloxKey(p.key)), length_(BlockLength(p.n)) {}

  void DrawFrom(size_t r) {
    int64_t* id = p_.id + r * p_.draws;
    x_ = reinterpret_cast<const T*>(p_.x) + r * p_.n;
    temperature_ = p_.temperature == nullptr ? 1.0 : p_.temperature[r];
    if (temperature_ == 0.0 || !Sum()) {
      std::fill_n(id, p_.draws, temperature_ == 0.0 ? FirstLargest() : -1);
      return;
    }
    for (size_t d = 0; d < p_.draws; ++d) {
      const PhiloxBlock random = Philox(key_, p_.first_row + r, Purpose::kDraw, d);
      const size_t b = Block(ShareOf(random.Lower()));
      id[d] = static_cast<int64_t>(b * length_ + Class(b, ShareOf(random.Upper())));
    }
  }

 private:
  // Bounds on the error of a share: terms and sums of up to kDrawChunk of them are rounded; a quotient by a temperature
  // is, too, before its exponential is taken, and so its error grows with the distance from the maximum.
  double Near() const {
    if (sizeof(T) == sizeof(double)) return 0x1p-36;
    return temperature_ == 1.0 ? 0x1p-19 : 0x1p-15;
  }

  int64_t FirstLargest() const {
    if (p_.n == 0) return -1;
    const T max = kernels_.max(x_, p_.n);
    return IsFinite(static_cast<double>(max)) ? std::find(x_, x_ + p_.n, max) - x_ : -1;
  }

  // The cumulative sums of the row's blocks; false if there is nothing to draw.
  bool Sum() {
    if (p_.n == 0) return false;
    const size_t chunks = (p_.n + kDrawChunk - 1) / kDrawChunk;
    chunks_.resize(chunks * kMostLanes);
    sum_ = kernels_.chunk_sums(x_, p_.n, temperature_, chunks_.data());
    if (IsDegenerate(sum_)) return false;
    const size_t blocks = (p_.n + length_ - 1) / length_, per_block = length_ / kDrawChunk;
    blocks_.assign(blocks, 0.0);
    double total = 0.0;
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t c = b * per_block; c < std::min(chunks, (b + 1) * per_block); ++c) {
        total += static_cast<double>(chunks_[c]);
      }
      blocks_[b] = total;
    }
    exact_blocks_.clear();
    terms_.resize(p_.draws == 1 ? 1 : blocks);
    for (auto& terms : terms_) terms.clear();
    return true;
  }

  size_t Block(double share) {
    if (blocks_.size() == 1) return 0;
    const Choice fast = Choose(blocks_, share, Near());
    if (!fast.is_near) return fast.index;
    if (exact_blocks_.empty()) {
      double total = 0.0;
      for (size_t b = 0; b < blocks_.size(); ++b) {
        total += ExactTerms(b).back();
        exact_blocks_.push_back(total);
      }
    }
    return Choose(exact_blocks_, share, 0.0).index;
  }

  size_t Class(size_t b, double share) {
    std::vector<double>& terms = terms_[p_.draws == 1 ? 0 : b];
    if (terms.empty() || p_.draws == 1) {
      const size_t n = LengthOf(b);
      fast_terms_.resize(length_);
      kernels_.terms(x_ + b * length_, n, temperature_, sum_, fast_terms_.data());
      terms.resize(n);
      double total = 0.0;
      for (size_t i = 0; i < n; ++i) terms[i] = total += static_cast<double>(fast_terms_[i]);
    }
    const Choice fast = Choose(terms, share, Near());
    return fast.is_near ? Choose(ExactTerms(b), share, 0.0).index : fast.index;
  }

  // The cumulative exponentials of a block, in double.
  const std::vector<double>& ExactTerms(size_t b) {
    exact_terms_.resize(LengthOf(b));
    double total = 0.0;
    for (size_t i = 0; i < exact_terms_.size(); ++i) {
      total += std::exp((static_cast<double>(x_[b * length_ + i]) - sum_.max) / temperature_);
      exact_terms_[i] = total;
    }
    return exact_terms_;
  }

  size_t LengthOf(size_t b) const { return std::min(length_, p_.n - b * length_); }

  static constexpr size_t kMostLanes = 16;

  const DrawProblem& p_;
  const DrawKernels<T>& kernels_;
  const PhiloxKey key_;
  const size_t length_;
  const T* x_ = nullptr;
  double temperature_ = 1.0;
  RowSum sum_ = {};
  std::vector<T> chunks_, fast_terms_;
  std::vector<double> blocks_, exact_blocks_, exact_terms_;
  std::vector<std::vector<double>> terms_;  // the cumulative sums of blocks that have been drawn from
};

// Draws from short rows, lane by lane, and again from those that are left open.
template <class T>
void DrawShort(const DrawProblem& p, size_t begin, size_t end) {
  const DrawKernels<T>& kernels = KernelsOf(ActiveDraws(), T());
  static constexpr double kOne = 1.0;
  std::vector<uint8_t> open(end - begin);
  ShortDraws<T> call = {reinterpret_cast<const T*>(p.x) + begin * p.n,
                        p.temperature == nullptr ? &kOne : p.temperature + begin,
                        p.temperature == nullptr ? 0 : static_cast<ptrdiff_t>(sizeof(double)),
                        p.temperature != nullptr,
                        end - begin,
                        p.n,
                        p.first_row + begin,
                        p.id + begin,
                        open.data()};
  kernels.short_rows(call, MakePhiloxKey(p.key));
  Drawer<T> drawer(p);
  for (size_t r = begin; r < end; ++r) {
    if (open[r - begin] != 0) drawer.DrawFrom(r);
  }
}

template <class T>
void DrawRows(const DrawProblem& p, size_t begin, size_t end) {
  if (p.draws == 1 && p.n > 0 && p.n <= KernelsOf(ActiveDraws(), T()).most_short) return DrawShort<T>(p, begin, end);
  Drawer<T> drawer(p);
  for (size_t r = begin; r < end; ++r) drawer.DrawFrom(r);
}

}  // namespace

void DrawClasses(const DrawProblem& p) {
  constexpr double kCost = 0.5;  // the time for an element, in softmax's
  ForEachDrawBlock(p, kCost, [&]<class T>(T, size_t begin, size_t end) { DrawRows<T>(p, begin, end); });
}

void UniformNumbers(uint64_t key, uint64_t first_row, size_t rows, uint64_t first, size_t count, double* u) {
  constexpr double kNanoseconds = 10.0;  // of a block
  const PhiloxKey rounds = MakePhiloxKey(key);
  ParallelBlocks(rows * count, 1, kNanoseconds * static_cast<double>(rows * count), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const uint64_t row = first_row + i / count, element = first + i % count;
      const auto low = static_cast<uint32_t>(element), high = static_cast<uint32_t>(element >> 32);
      const uint32_t purpose = static_cast<uint32_t>(Purpose::kUniform) | high << 8;
      const PhiloxBlock counter = {{low, purpose, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)}};
      u[i] = ShareOf(Philox(rounds, counter).Lower());
    }
  });
}

}  // namespace boltzmax

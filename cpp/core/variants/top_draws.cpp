// Draws without replacement: the largest of the perturbed scores.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "draw_rows.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A key x / T + g as (hi + lo) / scale, with twice the precision of a double. Beyond that, for equal scores, the noise
// decides. So it counts however large a score is, or its distance from the maximum.
struct Key {
  double hi, lo, noise;
  double distance;  // (x - max) / T + g, to a few digits
  int64_t id;
};
bool Precedes(const Key& a, const Key& b) {
  return std::tie(a.hi, a.lo, a.noise, b.id) > std::tie(b.hi, b.lo, b.noise, a.id);
}

// Finds the largest keys of a row. A pass in single precision bounds every key from above; keys are computed only where
// the bound may exceed the k-th largest.
template <class T>
class TopKeys {
 public:
  explicit TopKeys(const DrawProblem& p)
      : p_(p),
        kernels_(KernelsOf(ActiveDraws(), T())),
        bounds_kernels_(KernelsFor(DType::kFloat32)),
        key_(MakePhiloxKey(p.key)),
        bounds_(std::min(p.n, kPiece)) {}

  void DrawFrom(size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      if (p_.n <= kMostShort && (r - begin) % kNoiseRows == 0) DrawNoise(r, std::min(kNoiseRows, end - r));
      DrawFrom(r);
    }
  }

 private:
  static constexpr size_t kPiece = 16384, kFound = 64;
  // Rows this short have all their keys computed and compared: the noise of many rows at once, in the lanes of vectors,
  // by kernels with the same bits on every ISA.
  static constexpr size_t kMostShort = 32, kNoiseRows = 64;

  void DrawFrom(size_t r) {
    int64_t* id = p_.id + r * p_.draws;
    double* score = p_.score + r * p_.draws;
    row_ = p_.first_row + r;
    x_ = reinterpret_cast<const T*>(p_.x) + r * p_.n;
    temperature_ = p_.temperature == nullptr ? 1.0 : p_.temperature[r];
    scale_ = sizeof(T) == sizeof(double) && temperature_ < 1.0 ? 0x1p-200 : 1.0;
    max_ = p_.n == 0 ? -static_cast<T>(kInfinity) : kernels_.max(x_, p_.n);
    std::fill_n(id, p_.draws, -1);
    const auto max = static_cast<double>(max_);
    std::fill_n(score, p_.draws, max < kInfinity ? -kInfinity : std::numeric_limits<double>::quiet_NaN());
    if (!IsFinite(max)) return;
    best_.clear();
    if (p_.n <= kMostShort) {
      RankAll(noise_.data() + (r - noise_begin_) * p_.n);
    } else {
      for (size_t begin = 0; begin < p_.n; begin += kPiece) Add(begin, std::min(kPiece, p_.n - begin));
      std::sort(best_.begin(), best_.end(), Precedes);
    }
    for (size_t j = 0; j < std::min(best_.size(), p_.draws); ++j) {
      id[j] = best_[j].id;
      constexpr double kMost = std::numeric_limits<double>::max();
      score[j] = std::clamp(best_[j].hi / scale_, -kMost, kMost);
    }
  }

  // The noise of `rows` short rows from r on.
  void DrawNoise(size_t r, size_t rows) {
    static constexpr double kOne = 1.0;
    noise_.resize(kNoiseRows * p_.n);
    noise_begin_ = r;
    RowCall call = {};
    call.batch.y = reinterpret_cast<char*>(noise_.data());
    call.batch.y_stride = static_cast<ptrdiff_t>(p_.n * sizeof(double));
    call.batch.temperature = &kOne;
    call.batch.rows = rows;
    call.batch.n = p_.n;
    call.options.key = p_.key;
    call.options.first_row = p_.first_row + r;
    noise_kernel_(call);
  }

  // All keys of a short row, in order: a key's place is the number of those that precede it, which takes no branch. Where
  // doubles cannot tell two of them apart, all are sorted.
  void RankAll(const double* noise) {
    Key keys[kMostShort];
    double hi[kMostShort];
    size_t count = 0;
    for (size_t i = 0; i < p_.n; ++i) {
      keys[count] = KeyOf(i, noise[i]);
      hi[count] = keys[count].hi;
      count += x_[i] != -static_cast<T>(kInfinity) ? 1 : 0;
    }
    best_.resize(count);
    size_t pairs_in_order = 0;
    for (size_t i = 0; i < count; ++i) {
      size_t place = 0;
      for (size_t j = 0; j < count; ++j) place += hi[j] > hi[i] ? 1 : 0;
      pairs_in_order += place;
      best_[place] = keys[i];
    }
    if (pairs_in_order == count * (count - 1) / 2) return;
    best_.assign(keys, keys + count);
    std::sort(best_.begin(), best_.end(), Precedes);
  }

  void Add(size_t begin, size_t n) {
    kernels_.key_bounds(x_ + begin, n, max_, temperature_, key_, row_, begin, bounds_.data());
    double above = kInfinity;
    if (best_.size() < p_.draws) {
      // The keys of about k elements with the largest bounds give the first bar.
      above = FirstBound(n);
      Offer(begin, n, above, kInfinity);
      Prune();
    }
    Offer(begin, n, Bar(), above);
    Prune();
  }

  // Bounds at or below this are of keys that are not among the largest.
  double Bar() const { return best_.size() < p_.draws ? -kInfinity : KeyBar(best_[p_.draws - 1].distance); }

  // About k bounds exceed this.
  double FirstBound(size_t n) {
    if (p_.draws >= n) return -kInfinity;
    // The maxima of groups of elements are few; in a short row, or for a large k, all bounds take their place.
    maxima_.resize(kGroups);
    const size_t groups = n < 4 * kGroups ? 0 : bounds_kernels_.group_maxima(RowOfBounds(n), maxima_.data());
    maxima_.resize(groups);
    if (p_.draws > groups / 2) maxima_.assign(bounds_.begin(), bounds_.begin() + static_cast<ptrdiff_t>(n));
    const auto last = maxima_.begin() + static_cast<ptrdiff_t>(p_.draws - 1);
    std::nth_element(maxima_.begin(), last, maxima_.end(), std::greater<>());
    return std::nextafter(static_cast<float>(*last), -std::numeric_limits<float>::infinity());
  }

  // Adds the keys of elements whose bounds are above `above`, but at most `most`.
  void Offer(size_t begin, size_t n, double above, double most) {
    if (!(above < most)) return;
    Element found[kFound];
    const Row bounds = RowOfBounds(n);
    for (size_t i = 0; i < n;) {
      size_t count;
      i = bounds_kernels_.find_above(bounds, above, i, kFound, found, &count);
      for (size_t j = 0; j < count; ++j) {
        if (found[j].score <= most) best_.push_back(KeyOf(begin + found[j].index));
      }
    }
  }

  // Keeps the k largest keys, the least of them last.
  void Prune() {
    if (best_.size() < p_.draws) return;
    std::nth_element(best_.begin(), best_.begin() + static_cast<ptrdiff_t>(p_.draws - 1), best_.end(), Precedes);
    best_.resize(p_.draws);
  }

  Key KeyOf(size_t i) const { return KeyOf(i, GumbelAt(key_, row_, i)); }
  Key KeyOf(size_t i, double gumbel) const {
    const auto x = static_cast<double>(x_[i]);
    const double scaled = x * scale_, quotient = OverTemperature(scaled), noise = gumbel * scale_;
    const double sum = quotient + noise, rest = sum - quotient;
    const double of_sum = (quotient - (sum - rest)) + (noise - rest);  // Knuth's sum of two numbers
    const double of_quotient = temperature_ == 1.0 ? 0.0 : std::fma(-quotient, temperature_, scaled) / temperature_;
    const double low = of_sum + of_quotient, hi = sum + low;
    const double distance = OverTemperature(x - static_cast<double>(max_)) + gumbel;
    return {hi, low - (hi - sum), gumbel, distance, static_cast<int64_t>(i)};
  }
  // A division takes longer than anything else about a key.
  double OverTemperature(double x) const { return temperature_ == 1.0 ? x : x / temperature_; }

  Row RowOfBounds(size_t n) const { return {bounds_.data(), nullptr, nullptr, n, 1.0, false, false}; }

  const DrawProblem& p_;
  const DrawKernels<T>& kernels_;
  const StorageKernels& bounds_kernels_;
  const PhiloxKey key_;
  uint64_t row_ = 0;
  const T* x_ = nullptr;
  T max_ = 0;
  double temperature_ = 1.0;
  double scale_ = 1.0;  // a power of two with which no quotient overflows
  const RowKernel noise_kernel_ = KernelOf(PortableRowFunctionNamed("noise"), DType::kFloat64);
  std::vector<double> noise_;  // of short rows from noise_begin_ on
  size_t noise_begin_ = 0;
  std::vector<float> bounds_;
  std::vector<double> maxima_;
  std::vector<Key> best_;
};

}  // namespace

void DrawTop(const DrawProblem& p) {
  constexpr double kCost = 2.0;  // the time for an element, in softmax's
  ForEachDrawBlock(p, kCost, [&]<class T>(T, size_t begin, size_t end) { TopKeys<T>(p).DrawFrom(begin, end); });
}

}  // namespace boltzmax

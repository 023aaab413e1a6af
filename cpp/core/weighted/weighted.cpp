#include "weighted.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../../kernels/weighted_types.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "exact_sum.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

// Rows this short start with more digits: their logarithms are small, so fewer terms would be certain.
constexpr size_t kShortRow = 32;

struct SignedLog {
  double log_size, sign;
};

thread_local Scratch packed_x, packed_b, packed_mask;

// A piece of a row as contiguous numbers.
template <class T>
struct Piece {
  const T* x;
  const T* b;
  size_t n;
};

template <class T>
inline constexpr DType kStorageOf = std::is_same_v<T, float> ? DType::kFloat32 : DType::kFloat64;

bool IsNarrow(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

// The largest power of two that is at most |x|; 0 if that is not a normal number.
double PowerBelow(double x) { return std::bit_cast<double>(std::bit_cast<uint64_t>(x) & 0x7ff0000000000000); }

// The number of binary digits of the type.
int Digits(DType storage) {
  switch (storage) {
    case DType::kFloat64: return 53;
    case DType::kFloat32: return 24;
    case DType::kFloat16: return 11;
    default: return 8;
  }
}

// Whether weights of both signs are among the first: then more digits will be needed.
template <class T>
bool MixesSigns(const Piece<T>& piece) {
  const size_t n = std::min<size_t>(piece.n, 16);
  bool negative = false, positive = false;
  for (size_t i = 0; i < n; ++i) {
    negative |= piece.b[i] < T(0);
    positive |= piece.b[i] > T(0);
  }
  return negative && positive;
}

// Adds up pieces in order. Their units must be powers of two; otherwise the size is NaN.
WeightedSum Added(const std::vector<WeightedSum>& pieces) {
  WeightedSum total = pieces[0];
  for (size_t s = 1; s < pieces.size(); ++s) {
    const WeightedSum& piece = pieces[s];
    const double exponent = std::max(total.exponent, piece.exponent);
    const auto scaled = [&](double value, double from) { return std::ldexp(value, static_cast<int>(from - exponent)); };
    double error;
    const double hi = TwoSum(scaled(total.hi, total.exponent), scaled(piece.hi, piece.exponent), &error);
    const double lo = (scaled(total.lo, total.exponent) + scaled(piece.lo, piece.exponent)) + error;
    const double size = scaled(total.size, total.exponent) + scaled(piece.size, piece.exponent);
    total = {total.offset, exponent, hi, lo, piece.offset == total.offset ? size : kNan, total.lost + piece.lost};
  }
  total.hi = TwoSum(total.hi, total.lo, &total.lo);
  return total;
}

class Rows {
 public:
  explicit Rows(const WeightedProblem& problem)
      : p_(problem),
        kernels_(*ActiveKernels().weighted),
        logs_(KernelsFor(DType::kFloat64)),
        n_(CountElements(problem.inner)),
        segment_(SegmentLength(DType::kFloat64)),
        ulp_of_one_(std::ldexp(1.0, 1 - Digits(problem.storage))),
        narrow_(IsNarrow(problem.input) && IsNarrow(problem.weights) && IsNarrow(problem.storage) &&
                problem.temperature == nullptr) {
    p_.outer = Coalesce(problem.outer);
    p_.inner = Coalesce(problem.inner);
    p_.results = Coalesce(problem.results);
  }

  void Run(size_t r) const {
    const SignedLog result = LogOf(OffsetsAt(p_.outer, r));
    const Offsets to = OffsetsAt(p_.results, r);
    if (p_.sign != nullptr) Store(result.sign, p_.sign + to[kSign]);
    Store(p_.sign == nullptr && result.sign < 0.0 ? kNan : result.log_size, p_.log_size + to[kLogSize]);
  }

 private:
  // Stores an element of the results, which need not be aligned.
  void Store(double value, char* to) const {
    double element;
    KernelsFor(p_.storage).store_scalar(&element, value);
    std::memcpy(to, &element, ItemSize(p_.storage));
  }

  size_t CountPieces() const { return std::max<size_t>(1, (n_ + segment_ - 1) / segment_); }

  template <class T>
  bool IsStoredAs(DType dtype, Operand k, const char* first) const {
    if (dtype != kStorageOf<T> || p_.mask != nullptr || p_.temperature != nullptr || p_.inner.size() > 1) return false;
    if (!p_.inner.empty() && p_.inner[0].stride[k] != static_cast<ptrdiff_t>(sizeof(T))) return false;
    return reinterpret_cast<uintptr_t>(first) % alignof(T) == 0;
  }

  // Piece s of the row at `at`, in place or packed: x / temperature; masked elements are -inf with weight 0.
  template <class T>
  Piece<T> PieceAt(const Offsets& at, size_t s) const {
    const size_t begin = s * segment_, n = std::min(segment_, n_ - begin);
    const char *x = p_.x + at[kX], *b = p_.b + at[kWeights];
    const bool x_in_place = IsStoredAs<T>(p_.input, kX, x), b_in_place = IsStoredAs<T>(p_.weights, kWeights, b);
    if (x_in_place && b_in_place)
      return {reinterpret_cast<const T*>(x) + begin, reinterpret_cast<const T*>(b) + begin, n};
    const auto load = [&](bool in_place, DType dtype, Operand k, const char* base, Scratch& memory) {
      if (in_place) return const_cast<T*>(reinterpret_cast<const T*>(base)) + begin;
      T* to = reinterpret_cast<T*>(memory.Get(n * sizeof(T)));
      GatherLine(Gather(dtype, kStorageOf<T>), p_.inner, k, base, begin, n, sizeof(T), to);
      return to;
    };
    T* to_x = load(x_in_place, p_.input, kX, x, packed_x);
    T* to_b = load(b_in_place, p_.weights, kWeights, b, packed_b);
    if (p_.temperature != nullptr) {
      const double temperature = *reinterpret_cast<const double*>(p_.temperature + at[kTemperature]);
      for (size_t i = 0; i < n; ++i) to_x[i] = static_cast<T>(static_cast<double>(to_x[i]) / temperature);
    }
    if (p_.mask != nullptr) {
      auto* mask = reinterpret_cast<uint8_t*>(packed_mask.Get(n));
      GatherLine(Gather(DType::kBool, DType::kBool), p_.inner, kMask, p_.mask + at[kMask], begin, n, 1, mask);
      for (size_t i = 0; i < n; ++i) {
        if (mask[i] != 0) continue;
        to_x[i] = static_cast<T>(-kInfinity);
        to_b[i] = T(0);
      }
    }
    return {to_x, to_b, n};
  }

  // Adds up sum(piece) over every piece of a row.
  template <class T, class F>
  WeightedSum SumPieces(const Offsets& at, F sum) const {
    if (CountPieces() == 1) return sum(PieceAt<T>(at, 0));
    std::vector<WeightedSum> sums(CountPieces());
    ParallelBlocks(sums.size(), 1, EstimateNanoseconds(n_, DType::kFloat64), [&](size_t begin, size_t end) {
      for (size_t s = begin; s < end; ++s) sums[s] = sum(PieceAt<T>(at, s));
    });
    return Added(sums);
  }

  using FloatsKernel = WeightedSum (*)(const float*, const float*, size_t);
  using PairsKernel = WeightedSum (*)(const double*, const double*, size_t, double);

  std::optional<SignedLog> AccurateLogOfPairs(const Offsets& at) const {
    double max = -kInfinity;
    for (size_t s = 0; s < CountPieces(); ++s) {
      const auto piece = PieceAt<double>(at, s);
      max = std::max(max, kernels_.max_f64(piece.x, piece.n));
    }
    if (!IsFinite(max)) return std::nullopt;
    const auto certain = [&](PairsKernel kernel, double error) {
      const auto sum =
          SumPieces<double>(at, [&](const Piece<double>& piece) { return kernel(piece.x, piece.b, piece.n, max); });
      return AccurateLog(sum, error, kLeastSizeOfDoubles);
    };
    const auto result = certain(kernels_.sum_pairs, kErrorOfPairs);
    return result ? result : certain(kernels_.sum_careful_pairs, kErrorOfCarefulPairs);
  }

  // The logarithm of a sum whose error is at most `error` times its size; nothing if that may exceed an ULP of the
  // logarithm.
  std::optional<SignedLog> AccurateLog(const WeightedSum& sum, double error, double least_size) const {
    if (!(sum.size >= least_size && sum.size < kInfinity) || sum.hi == 0.0) return std::nullopt;
    const double sign = sum.hi > 0.0 ? 1.0 : -1.0;
    const RowSum size = {sum.offset, sum.offset, sum.exponent, 0.0, sign * sum.hi, sign * sum.lo};
    const double log_size = LogSumExpOf(size, logs_.log_of_sum(size), 1.0);
    const double ulp = PowerBelow(log_size) * ulp_of_one_;
    if (error * sum.size + sum.lost > ulp * size.hi) return std::nullopt;
    return SignedLog{log_size, sign};
  }

  SignedLog LogOf(const Offsets& at) const {
    const auto log_of_floats = [&](FloatsKernel kernel, double error, double least_size) {
      const auto sum =
          SumPieces<float>(at, [&](const Piece<float>& piece) { return kernel(piece.x, piece.b, piece.n); });
      return AccurateLog(sum, error, least_size);
    };
    if (narrow_ && n_ > kShortRow && !MixesSigns(PieceAt<float>(at, 0))) {
      if (const auto result = log_of_floats(kernels_.sum_f32, kErrorOfFloats, kLeastSizeOfFloats)) return *result;
    }
    if (narrow_) {
      const auto result = log_of_floats(kernels_.sum_f32_coarsely, kErrorOfCoarse, kLeastSizeOfDoubles);
      if (result) return *result;
    }
    const bool wide = p_.storage != DType::kFloat64 || (n_ > kShortRow && !MixesSigns(PieceAt<double>(at, 0)));
    if (wide) {
      const auto sum = SumPieces<double>(
          at, [&](const Piece<double>& piece) { return kernels_.sum_f64(piece.x, piece.b, piece.n); });
      if (const auto result = AccurateLog(sum, kErrorOfDoubles, kLeastSizeOfDoubles)) return *result;
    }
    if (const auto result = AccurateLogOfPairs(at)) return *result;
    return LogOfKept(at);
  }

  // Ignores elements of weight 0; an infinity or NaN among the others decides the result.
  SignedLog LogOfKept(const Offsets& at) const {
    std::vector<double> kept_x, kept_b;
    double special = 0.0;
    bool weightless = false;  // whether an infinity or NaN has weight 0
    for (size_t s = 0; s < CountPieces(); ++s) {
      const auto piece = PieceAt<double>(at, s);
      for (size_t i = 0; i < piece.n; ++i) {
        const double x = piece.x[i], b = piece.b[i];
        if (b == 0.0) {
          weightless = weightless || !(x < kInfinity);
        } else if (IsFinite(x) && IsFinite(b)) {
          kept_x.push_back(x);
          kept_b.push_back(b);
        } else {
          special += b * (IsFinite(x) ? 1.0 : std::exp(x));
        }
      }
    }
    SignedLog result;
    if (special != 0.0) {
      result = {std::log(std::abs(special)), special > 0.0 ? 1.0 : (special < 0.0 ? -1.0 : kNan)};
    } else {
      result = LogOfFinite(kept_x, kept_b);
    }
    return weightless && !IsFinite(result.log_size) ? SignedLog{kNan, kNan} : result;
  }

  // Tries pairs of doubles; then joins equal x; then sums to the last digit.
  SignedLog LogOfFinite(const std::vector<double>& x, const std::vector<double>& b) const {
    if (x.size() < n_) {  // otherwise they were not certain before
      if (const auto result = AccurateLogOfPairs(x, b)) return *result;
    }
    std::vector<ExpTerm> terms;
    terms.reserve(x.size());
    for (size_t i = 0; i < x.size(); ++i) terms.push_back({{x[i]}, {}, b[i], 0.0});
    JoinEqual(&terms);
    std::vector<double> joined_x, joined_b;
    for (const ExpTerm& term : terms) {
      joined_x.push_back(term.re[0]);
      joined_b.push_back(term.weight_re);
    }
    if (const auto result = AccurateLogOfPairs(joined_x, joined_b)) return *result;
    const LogOfExact exact = LogOfSum(terms);
    return {static_cast<double>(exact.log_size), exact.re > 0.0L ? 1.0 : (exact.re < 0.0L ? -1.0 : 0.0)};
  }

  std::optional<SignedLog> AccurateLogOfPairs(const std::vector<double>& x, const std::vector<double>& b) const {
    if (x.empty()) return std::nullopt;
    const double max = *std::max_element(x.begin(), x.end());
    std::vector<WeightedSum> sums;
    for (size_t i = 0; i < x.size(); i += segment_) {
      sums.push_back(kernels_.sum_careful_pairs(x.data() + i, b.data() + i, std::min(segment_, x.size() - i), max));
    }
    return AccurateLog(Added(sums), kErrorOfCarefulPairs, kLeastSizeOfDoubles);
  }

  WeightedProblem p_;
  const WeightedTable& kernels_;
  const StorageKernels& logs_;
  size_t n_, segment_;
  double ulp_of_one_;
  bool narrow_;  // whether kernels of floats are enough to begin with
};

}  // namespace

void Run(const WeightedProblem& problem) {
  const size_t rows = CountElements(problem.outer), n = CountElements(problem.inner);
  const Rows of(problem);
  const double cost = 2.0 * EstimateNanoseconds(rows * n, DType::kFloat64);
  // With few long rows, each is split.
  if (n > SegmentLength(DType::kFloat64) && rows < 4 * static_cast<size_t>(UsableThreads(cost))) {
    for (size_t r = 0; r < rows; ++r) of.Run(r);
    return;
  }
  ForEachRowBlock(rows, n, cost, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) of.Run(r);
  });
}

}  // namespace boltzmax

#include "complex.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../../kernels/weighted_types.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "exact_sum.hpp"
#include "weighted.hpp"

namespace boltzmax {

namespace {

using Number = std::complex<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Elements per piece: their real and imaginary parts stay in the nearest caches.
constexpr size_t kPieceLength = 2048;
constexpr double kCostOfElement = 4.0;  // nanoseconds

// The real and imaginary parts of a piece of a row, apart.
struct Buffers {
  double re[kPieceLength], im[kPieceLength], angle[kPieceLength], b_re[kPieceLength], b_im[kPieceLength];
  double e_re[kPieceLength], e_im[kPieceLength];
  uint8_t mask[kPieceLength];
};
thread_local Scratch memory;
Buffers& Room() { return *reinterpret_cast<Buffers*>(memory.Get(sizeof(Buffers))); }

// The logarithm of a sum's size, and the sum up to a positive factor.
struct LogOfComplex {
  double log_size;
  Number sum;
};

// Whether numbers are pairs of T that follow each other, from `first` on.
template <class T>
bool ArePairsOf(DType part, const Axes& axes, Operand k, const char* first) {
  constexpr DType kPart = std::is_same_v<T, float> ? DType::kFloat32 : DType::kFloat64;
  const bool follows = axes.empty() || (axes.size() == 1 && axes[0].stride[k] == 2 * ptrdiff_t{sizeof(T)});
  return part == kPart && follows && reinterpret_cast<uintptr_t>(first) % alignof(T) == 0;
}

// Pairs into their parts, and back. (Reading them twice, or writing their lines twice, takes longer.)
template <class T>
void Split(const char* base, size_t begin, size_t n, double* re, double* im) {
  const T* pairs = reinterpret_cast<const T*>(base) + 2 * begin;
  for (size_t i = 0; i < n; ++i) {
    re[i] = static_cast<double>(pairs[2 * i]);
    im[i] = static_cast<double>(pairs[2 * i + 1]);
  }
}
template <class T>
void Join(const double* re, const double* im, size_t begin, size_t n, char* base) {
  T* pairs = reinterpret_cast<T*>(base) + 2 * begin;
  for (size_t i = 0; i < n; ++i) {
    pairs[2 * i] = static_cast<T>(re[i]);
    pairs[2 * i + 1] = static_cast<T>(im[i]);
  }
}

void Load(const Numbers& numbers, const Axes& axes, Operand k, ptrdiff_t at, size_t begin, size_t n, double* re,
          double* im) {
  const GatherFn gather = Gather(numbers.part, DType::kFloat64);
  const char* base = numbers.data + at;
  if (numbers.is_complex && ArePairsOf<float>(numbers.part, axes, k, base)) return Split<float>(base, begin, n, re, im);
  if (numbers.is_complex && ArePairsOf<double>(numbers.part, axes, k, base))
    return Split<double>(base, begin, n, re, im);
  GatherLine(gather, axes, k, base, begin, n, sizeof(double), re);
  if (!numbers.is_complex) {
    std::fill_n(im, n, 0.0);
    return;
  }
  GatherLine(gather, axes, k, base + ItemSize(numbers.part), begin, n, sizeof(double), im);
}

// Kernels reduce angles only up to kMostAngle; libm reduces all.
bool AnyIsLarge(const double* angles, size_t n) {
  int64_t large = 0;  // as wide as the numbers, so that the compiler vectorizes
  for (size_t i = 0; i < n; ++i) large |= std::abs(angles[i]) > kMostAngle ? 1 : 0;
  return large != 0;
}
double Reduced(double angle) {
  return std::abs(angle) > kMostAngle ? std::atan2(std::sin(angle), std::cos(angle)) : angle;
}

ComplexSum Added(const ComplexSum& a, const ComplexSum& b) {
  const auto add = [](const Sum& s, const Sum& t) {
    double error;
    const double hi = TwoSum(s.hi, t.hi, &error);
    return Sum{hi, s.lo + t.lo + error};
  };
  return {a.offset, a.exponent, add(a.re, b.re), add(a.im, b.im), a.size + b.size, a.lost + b.lost, a.unit};
}

// log |S|, with no loss of digits where it is near 0.
double LogSize(const ComplexSum& sum, double size) {
  using C = ExpConstants<double>;
  const double scaled = std::abs(sum.exponent) < 1000.0 ? std::ldexp(size, static_cast<int>(sum.exponent)) : 0.0;
  if (sum.offset == 0.0 && scaled > 0.5 && scaled < 2.0) {
    const auto unscaled = [&](double x) { return std::ldexp(x, static_cast<int>(sum.exponent)); };
    Sum a = {unscaled(sum.re.hi), unscaled(sum.re.lo)}, b = {unscaled(sum.im.hi), unscaled(sum.im.lo)};
    if (std::abs(a.hi) < std::abs(b.hi)) std::swap(a, b);
    const double excess =
        ((std::abs(a.hi) - 1.0) * (std::abs(a.hi) + 1.0) + b.hi * b.hi) + 2.0 * (a.hi * a.lo + b.hi * b.lo);
    return std::log1p(excess) / 2.0;
  }
  return sum.offset + (sum.exponent * C::kLn2Hi + (sum.exponent * C::kLn2Lo + std::log(size)));
}

std::optional<LogOfComplex> AccurateLog(const ComplexSum& sum) {
  constexpr double kShare = 0x1p-36;
  if (!(sum.size >= kLeastSizeOfDoubles && sum.size < kInfinity)) return std::nullopt;
  const double size = std::hypot(sum.re.hi, sum.im.hi), log_size = LogSize(sum, size);
  const bool certain = kErrorOfComplex * sum.size + sum.lost <= kShare * size * std::min(1.0, std::abs(log_size));
  if (!certain) return std::nullopt;
  return LogOfComplex{log_size, {sum.re.hi, sum.im.hi}};
}

// Sums the rows, piece by piece.
class Rows {
 public:
  Rows(const ComplexSumProblem& problem, const Axes& outer)
      : p_(problem), kernels_(*ActiveKernels().weighted), n_(CountElements(problem.inner)) {
    p_.outer = Coalesce(outer);
    p_.inner = Coalesce(problem.inner);
  }

  const WeightedTable& Kernels() const { return kernels_; }
  const ComplexSumProblem& Problem() const { return p_; }
  size_t Length() const { return n_; }

  // Calls f(piece, index of its first element) for every piece of a row.
  template <class F>
  void ForEachPiece(const Offsets& at, F f) const {
    for (size_t begin = 0; begin < n_; begin += kPieceLength) f(PieceAt(at, begin), begin);
  }

  // Nothing if the largest real part is not finite. For a row of one piece, Room() keeps its elements and exponentials.
  std::optional<ComplexSum> SumOf(const Offsets& at, double* max) const {
    Buffers& room = Room();
    const auto max_of = [&](const ComplexPiece& x) { return kernels_.max_f64(x.re, x.n); };
    if (n_ <= kPieceLength) {
      const ComplexPiece x = PieceAt(at, 0);
      *max = max_of(x);
      if (!IsFinite(*max)) return std::nullopt;
      return kernels_.sum_complex(x, *max, room.e_re, room.e_im);
    }
    *max = -kInfinity;
    ForEachPiece(at, [&](const ComplexPiece& x, size_t) { *max = std::max(*max, max_of(x)); });
    std::optional<ComplexSum> total;
    if (!IsFinite(*max)) return total;
    ForEachPiece(at, [&](const ComplexPiece& x, size_t) {
      const ComplexSum sum = kernels_.sum_complex(x, *max, nullptr, nullptr);
      total = total ? Added(*total, sum) : sum;
    });
    return total;
  }

  // Nothing if an infinity or NaN counts.
  std::optional<LogOfComplex> ExactLog(const Offsets& at) const {
    std::vector<ExpTerm> terms;
    bool special = false;
    ForEachPiece(at, [&](const ComplexPiece& x, size_t) {
      for (size_t i = 0; i < x.n; ++i) {
        const double b_re = x.b_re == nullptr ? 1.0 : x.b_re[i], b_im = x.b_im == nullptr ? 0.0 : x.b_im[i];
        const bool finite = IsFinite(x.im[i]) && IsFinite(b_re) && IsFinite(b_im);
        if (finite && x.re[i] == -kInfinity) continue;
        special = special || !finite || !IsFinite(x.re[i]);
        if (b_re != 0.0 || b_im != 0.0) terms.push_back({{x.re[i]}, {x.im[i]}, b_re, b_im});
      }
    });
    if (special) return std::nullopt;
    JoinEqual(&terms);
    if (const auto joined = AccurateLog(SumOfTerms(terms))) return joined;
    const LogOfExact exact = LogOfSum(terms);
    return LogOfComplex{static_cast<double>(exact.log_size),
                        {static_cast<double>(exact.re), static_cast<double>(exact.im)}};
  }

  std::optional<LogOfComplex> LogOf(const Offsets& at) const {
    double max;
    const auto sum = SumOf(at, &max);
    const auto result = sum ? AccurateLog(*sum) : std::nullopt;
    return result ? result : ExactLog(at);
  }

 private:
  ComplexPiece PieceAt(const Offsets& at, size_t begin) const {
    const size_t n = std::min(kPieceLength, n_ - begin);
    Buffers& room = Room();
    Load(p_.x, p_.inner, kX, at[kX], begin, n, room.re, room.angle);
    if (p_.temperature != nullptr) {
      const double temperature = *reinterpret_cast<const double*>(p_.temperature + at[kTemperature]);
      for (size_t i = 0; i < n; ++i) room.re[i] /= temperature;
      for (size_t i = 0; i < n; ++i) room.angle[i] /= temperature;
    }
    const bool copies = p_.mask != nullptr || AnyIsLarge(room.angle, n);
    for (size_t i = 0; copies && i < n; ++i) room.im[i] = Reduced(room.angle[i]);
    const bool weighted = p_.b.data != nullptr;
    if (weighted) Load(p_.b, p_.inner, kWeights, at[kWeights], begin, n, room.b_re, room.b_im);
    if (p_.mask != nullptr) {
      GatherLine(Gather(DType::kBool, DType::kBool), p_.inner, kMask, p_.mask + at[kMask], begin, n, 1, room.mask);
      for (size_t i = 0; i < n; ++i) {
        if (room.mask[i] != 0) continue;
        room.re[i] = -kInfinity;
        room.im[i] = room.b_re[i] = room.b_im[i] = 0.0;
      }
    }
    return {room.re, copies ? room.im : room.angle, weighted ? room.b_re : nullptr,
            weighted && p_.b.is_complex ? room.b_im : nullptr, n};
  }

  ComplexSum SumOfTerms(const std::vector<ExpTerm>& terms) const {
    ComplexSum total = {0.0, 0.0, {0.0, 0.0}, {0.0, 0.0}, 0.0, 0.0, 1.0};
    if (terms.empty()) return total;
    double max = -kInfinity;
    for (const ExpTerm& term : terms) max = std::max(max, term.re[0]);
    Buffers& room = Room();
    for (size_t begin = 0; begin < terms.size(); begin += kPieceLength) {
      const size_t n = std::min(kPieceLength, terms.size() - begin);
      for (size_t i = 0; i < n; ++i) {
        const ExpTerm& term = terms[begin + i];
        room.re[i] = term.re[0];
        room.im[i] = term.im[0];
        room.b_re[i] = term.weight_re;
        room.b_im[i] = term.weight_im;
      }
      const ComplexSum sum = kernels_.sum_complex({room.re, room.im, room.b_re, room.b_im, n}, max, nullptr, nullptr);
      total = begin == 0 ? sum : Added(total, sum);
    }
    return total;
  }

  ComplexSumProblem p_;
  const WeightedTable& kernels_;
  size_t n_;
};

template <class F>
void ForEachRow(size_t rows, size_t n, F f) {
  ForEachRowBlock(rows, n, kCostOfElement * static_cast<double>(rows * n), [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) f(r);
  });
}

// y = softmax(x) or log_softmax(x) for a row.
class SoftmaxRows {
 public:
  explicit SoftmaxRows(const ComplexSoftmaxProblem& problem)
      : p_(problem),
        rows_({problem.x,
               {nullptr, DType::kFloat64, false},
               nullptr,
               nullptr,
               {},
               problem.inner,
               nullptr,
               nullptr,
               nullptr},
              problem.outer) {}

  // False for a row with infinities or NaN.
  bool Run(size_t r) const {
    const Offsets at = OffsetsAt(rows_.Problem().outer, r);
    double max;
    const auto sum = rows_.SumOf(at, &max);
    if (!sum) return false;
    const auto certain = AccurateLog(*sum);
    if (certain) {
      p_.wants_log ? StoreLogs(at, max, *certain, true) : StoreQuotients(at, max, *sum);
      return true;
    }
    const auto log_sum = rows_.ExactLog(at);
    if (!log_sum || !IsFinite(log_sum->log_size)) return false;
    p_.wants_log ? StoreLogs(at, max, *log_sum, false) : StoreExponentials(at, *log_sum);
    return true;
  }

 private:
  void Store(const Offsets& at, size_t begin, size_t n) const {
    Buffers& room = Room();
    const Axes& inner = rows_.Problem().inner;
    char* y = p_.y + at[kY];
    const DType type = p_.x.part;
    if (ArePairsOf<float>(type, inner, kY, y)) return Join<float>(room.e_re, room.e_im, begin, n, y);
    if (ArePairsOf<double>(type, inner, kY, y)) return Join<double>(room.e_re, room.e_im, begin, n, y);
    for (double* part : {room.e_re, room.e_im}) {
      if (type == DType::kFloat32) {
        auto* narrow = reinterpret_cast<float*>(room.b_re);
        std::copy_n(part, n, narrow);
        ScatterLine(Scatter(DType::kFloat32), inner, kY, y, begin, n, sizeof(float), narrow);
      } else {
        ScatterLine(Scatter(DType::kFloat64), inner, kY, y, begin, n, sizeof(double), part);
      }
      y += ItemSize(type);
    }
  }

  // e / S from the kept exponentials.
  void StoreQuotients(const Offsets& at, double max, const ComplexSum& sum) const {
    const Number inverse = sum.unit / Number{sum.re.hi, sum.im.hi};
    Buffers& room = Room();
    const auto divide_and_store = [&](size_t begin, size_t n) {
      for (size_t i = 0; i < n; ++i) {
        const double re = room.e_re[i], im = room.e_im[i];
        room.e_re[i] = re * inverse.real() - im * inverse.imag();
        room.e_im[i] = re * inverse.imag() + im * inverse.real();
      }
      Store(at, begin, n);
    };
    if (rows_.Length() <= kPieceLength) return divide_and_store(0, rows_.Length());
    rows_.ForEachPiece(at, [&](const ComplexPiece& x, size_t begin) {
      rows_.Kernels().sum_complex(x, max, room.e_re, room.e_im);
      divide_and_store(begin, x.n);
    });
  }

  // exp(x - log S), where S has lost digits that its terms have.
  void StoreExponentials(const Offsets& at, const LogOfComplex& log_sum) const {
    Buffers& room = Room();
    const double angle = std::arg(log_sum.sum);
    rows_.ForEachPiece(at, [&](const ComplexPiece& x, size_t begin) {
      for (size_t i = 0; i < x.n; ++i) {
        const double size = std::exp(x.re[i] - log_sum.log_size);
        room.e_re[i] = size * std::cos(x.im[i] - angle);
        room.e_im[i] = size * std::sin(x.im[i] - angle);
      }
      Store(at, begin, x.n);
    });
  }

  // x - log S. As in SciPy, imaginary parts are not wrapped: the angle of S is measured from that of the element with
  // the largest real part and, among several of these, the largest imaginary part.
  void StoreLogs(const Offsets& at, double max, const LogOfComplex& log_sum, bool loaded) const {
    Buffers& room = Room();
    const auto for_each_piece = [&](const auto& f) {
      if (loaded && rows_.Length() <= kPieceLength) return f(rows_.Length(), size_t{0});
      rows_.ForEachPiece(at, [&](const ComplexPiece& x, size_t begin) { f(x.n, begin); });
    };
    double of_largest = -kInfinity;
    for_each_piece([&](size_t n, size_t) {
      for (size_t i = 0; i < n; ++i) {
        if (room.re[i] == max) of_largest = std::max(of_largest, room.angle[i]);
      }
    });
    const double angle = std::arg(log_sum.sum * std::conj(std::polar(1.0, of_largest)));
    for_each_piece([&](size_t n, size_t begin) {
      for (size_t i = 0; i < n; ++i) {
        room.e_re[i] = room.re[i] - log_sum.log_size;
        room.e_im[i] = (room.angle[i] - of_largest) - angle;
      }
      Store(at, begin, n);
    });
  }

  const ComplexSoftmaxProblem& p_;
  Rows rows_;
};

}  // namespace

void Run(const ComplexSumProblem& problem) {
  const Rows rows(problem, problem.outer);
  ForEachRow(CountElements(problem.outer), rows.Length(), [&](size_t r) {
    const auto result = rows.LogOf(OffsetsAt(rows.Problem().outer, r));
    problem.special[r] = result ? 0 : 1;
    if (!result) return;
    problem.log_size[r] = result->log_size;
    problem.sum[2 * r] = result->sum.real();
    problem.sum[2 * r + 1] = result->sum.imag();
  });
}

void Run(const ComplexSoftmaxProblem& problem) {
  const SoftmaxRows rows(problem);
  ForEachRow(CountElements(problem.outer), CountElements(problem.inner),
             [&](size_t r) { problem.special[r] = rows.Run(r) ? 0 : 1; });
}

}  // namespace boltzmax

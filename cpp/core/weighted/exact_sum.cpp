#include "exact_sum.hpp"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "../../kernels/row_sum.hpp"
#include "fixed_point.hpp"

namespace boltzmax {

namespace {

// A sum of doubles without rounding: parts that do not overlap, the smallest first (Shewchuk, Discrete Comput. Geom.
// 18, 1997, grow-expansion).
class Expansion {
 public:
  void Add(double x) {
    size_t kept = 0;
    for (const double part : parts_) {
      double error;
      x = TwoSum(x, part, &error);
      if (error != 0.0) parts_[kept++] = error;
    }
    parts_.resize(kept);
    if (x != 0.0) parts_.push_back(x);
  }
  // The i-th largest part; 0 beyond the last.
  double operator[](size_t i) const { return i < parts_.size() ? parts_[parts_.size() - 1 - i] : 0.0; }
  size_t Size() const { return parts_.size(); }
  void Clear() { parts_.clear(); }
  bool IsFinite() const { return parts_.empty() || boltzmax::IsFinite(parts_.back()); }

 private:
  std::vector<double> parts_;
};

bool SameExponent(const ExpTerm& a, const ExpTerm& b) { return a.re == b.re && a.im == b.im; }

size_t HashOfExponent(const ExpTerm& term) {
  uint64_t hash = 0;
  for (const ExpTerm::Parts* parts : {&term.re, &term.im}) {
    for (const double part : *parts) {
      hash = (hash ^ std::bit_cast<uint64_t>(part + 0.0)) * 0x9e3779b97f4a7c15;  // -0 is 0, too
      hash ^= hash >> 32;
    }
  }
  return hash;
}

double LargestWeight(const ExpTerm& term) { return std::max(std::abs(term.weight_re), std::abs(term.weight_im)); }

}  // namespace

void JoinEqual(std::vector<ExpTerm>* terms) {
  // Terms with the same exponent form a chain of indices; a table holds where the chains begin.
  constexpr size_t kNone = SIZE_MAX;
  const size_t n = terms->size(), mask = std::bit_ceil(2 * n + 1) - 1;
  std::vector<size_t> next(n, kNone), table(mask + 1, kNone), begins, ends;
  for (size_t i = 0; i < n; ++i) {
    size_t at = HashOfExponent((*terms)[i]) & mask;
    while (table[at] != kNone && !SameExponent((*terms)[begins[table[at]]], (*terms)[i])) at = (at + 1) & mask;
    if (table[at] == kNone) {
      table[at] = begins.size();
      begins.push_back(i);
      ends.push_back(i);
    } else {
      size_t& end = ends[table[at]];
      next[end] = i;
      end = i;
    }
  }
  std::vector<ExpTerm> joined;
  joined.reserve(begins.size());
  Expansion re, im;
  for (const size_t begin : begins) {
    re.Clear();
    im.Clear();
    for (size_t i = begin; i != kNone; i = next[i]) {
      re.Add((*terms)[i].weight_re);
      im.Add((*terms)[i].weight_im);
    }
    const ExpTerm& first = (*terms)[begin];
    if (re.IsFinite() && im.IsFinite()) {
      for (size_t k = 0; k < std::max(re.Size(), im.Size()); ++k) {
        joined.push_back({first.re, first.im, re[k], im[k]});
      }
    } else {  // the sum overflows: keep the terms
      for (size_t i = begin; i != kNone; i = next[i]) joined.push_back((*terms)[i]);
    }
  }
  *terms = std::move(joined);
}

namespace {

constexpr size_t kWord = 32;

Fixed SizeOf(const ExpTerm::Parts& parts, size_t whole, size_t fraction, bool* negative) {
  SignedFixed sum = {Fixed(whole, fraction)};
  for (const double part : parts) sum.Add(Fixed(whole, fraction, std::abs(part)), part < 0.0);
  *negative = sum.negative;
  return sum.size;
}

// exp(x) = result * 2^exponent with 1 <= result < 2.
Fixed ExpOf(const ExpTerm::Parts& x, size_t fraction, ptrdiff_t* exponent) {
  bool negative;
  Fixed rest = SizeOf(x, 1, fraction, &negative);
  const Fixed ln2 = Ln2(fraction);
  *exponent = static_cast<ptrdiff_t>(DivideBy(ln2, &rest));
  if (negative) {
    *exponent = -*exponent - 1;
    Fixed complement = ln2;
    rest = complement -= rest;
  }
  std::vector<Fixed> parts;
  ExpSeries(rest, &parts);
  Fixed sum = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) sum += parts[i];
  return sum;
}

struct Phase {
  SignedFixed cos, sin;
};

// cos(y) and sin(y)
Phase PhaseOf(const ExpTerm::Parts& y, size_t fraction) {
  // A large y needs more digits of pi: enough words for any double.
  constexpr double kOneWord = 0x1p31;
  constexpr size_t kAllWords = 1024 / kWord + 1;
  const size_t whole = std::abs(y[0]) < kOneWord ? 1 : kAllWords;
  bool negative;
  Fixed rest = SizeOf(y, whole, fraction + whole, &negative);
  const uint64_t quadrant = DivideBy(HalfPi(fraction + whole).Resized(whole, fraction + whole), &rest) % 4;
  std::vector<Fixed> parts;
  ExpSeries(rest.Resized(1, fraction), &parts);
  SignedFixed cos = {parts[0]}, sin = {parts[1]};
  cos.Add(parts[2], true);
  sin.Add(parts[3], true);
  if (quadrant % 2 == 1) std::swap(cos, sin);
  cos.negative ^= quadrant == 1 || quadrant == 2;
  sin.negative ^= (quadrant >= 2) != negative;
  return {cos, sin};
}

// One attempt at a sum, with `fraction` words after the point.
class Attempt {
 public:
  Attempt(const std::vector<ExpTerm>& terms, size_t fraction) : terms_(terms), fraction_(fraction) {
    // If |x| is moderate, exponents are relative to 1, so that a sum near 1 is recognized. Otherwise they are relative
    // to exp of the largest x.
    constexpr double kModerate = 8192.0;
    double largest_size = 0.0;
    const ExpTerm* largest = terms.data();
    for (const ExpTerm& term : terms) {
      largest_size = std::max(largest_size, std::abs(term.re[0]));
      if (term.re > largest->re) largest = &term;
      if (term.weight_im != 0.0 || term.im[0] != 0.0) complex_ = true;
    }
    if (largest_size > kModerate) offset_ = largest->re;
    for (const ExpTerm& term : terms) unit_ = std::max(unit_, EstimatedExponent(term));
    unit_ += 4;
    for (const ExpTerm& term : terms) Add(term);
  }

  // Nothing if more digits are needed.
  std::optional<LogOfExact> Result(bool last) const {
    // The quotient by ln 2 has 14 digits, and as many are lost by it; the series loses a few; and each term adds its
    // own.
    const size_t lost = 24 + static_cast<size_t>(std::bit_width(terms_.size())), wanted = lost + LDBL_MANT_DIG;
    const size_t bits = std::max(re_.size.Bits(), im_.size.Bits());
    if (bits < wanted && !last) return std::nullopt;
    if (bits <= lost) return LogOfExact{-std::numeric_limits<long double>::infinity(), 0.0L, 0.0L};
    // S = (re + i im) 2^exponent, the larger of the two in [0.5, 1).
    const size_t shift = kWord * fraction_ - bits;
    SignedFixed re = re_, im = im_;
    re.size <<= shift;
    im.size <<= shift;
    const ptrdiff_t exponent = unit_ - static_cast<ptrdiff_t>(shift);
    Fixed square = re.size * re.size;
    square += im.size * im.size;
    long double log_size;
    if (IsModerate() && (exponent == 0 || exponent == 1)) {
      if (exponent == 1) square <<= 2;
      const auto near_one = LogNearOne(square, shift + wanted, last);
      if (!near_one) return std::nullopt;
      log_size = *near_one;
    } else {
      ptrdiff_t e;
      const long double mantissa = square.Mantissa(&e);
      constexpr long double kLn2 = 0.693147180559945309417232121458176568L;
      log_size = (std::log(mantissa) + static_cast<long double>(2 * exponent + e) * kLn2) / 2.0L;
      for (size_t i = offset_.size(); i-- > 0;) log_size += static_cast<long double>(offset_[i]);
    }
    return LogOfExact{log_size, ValueOf(re), ValueOf(im)};
  }

 private:
  bool IsModerate() const { return offset_[0] == 0.0; }

  ptrdiff_t EstimatedExponent(const ExpTerm& term) const {
    constexpr double kLog2e = 1.4426950408889634, kFar = 0x1p40;
    const double distance = std::max((term.re[0] - offset_[0]) * kLog2e, -kFar);
    return static_cast<ptrdiff_t>(std::floor(distance)) + std::ilogb(LargestWeight(term));
  }

  void Add(const ExpTerm& term) {
    // Skips terms beyond the last digit.
    if (EstimatedExponent(term) < unit_ - static_cast<ptrdiff_t>(kWord * fraction_) - 8) return;
    ptrdiff_t exponent;
    const Fixed size = ExpOf(Distance(term.re), fraction_, &exponent);
    const int weight = std::ilogb(LargestWeight(term)) + 1;
    // unit_ is at least the true exponent.
    const auto shift = static_cast<size_t>(unit_ - exponent - weight);
    const auto weighted = [&](double w) {
      Fixed product = size * Fixed(1, fraction_, std::ldexp(std::abs(w), -weight));
      return product >>= shift;
    };
    const Fixed by_re = weighted(term.weight_re);
    if (!complex_) return re_.Add(by_re, term.weight_re < 0.0);
    const Fixed by_im = weighted(term.weight_im);
    const Phase phase = PhaseOf(term.im, fraction_);
    const bool re = term.weight_re < 0.0, im = term.weight_im < 0.0;
    re_.Add(by_re * phase.cos.size, re != phase.cos.negative);
    re_.Add(by_im * phase.sin.size, im == phase.sin.negative);
    im_.Add(by_re * phase.sin.size, re != phase.sin.negative);
    im_.Add(by_im * phase.cos.size, im != phase.cos.negative);
  }

  // x - offset, without rounding as far as three parts can hold it.
  ExpTerm::Parts Distance(const ExpTerm::Parts& x) const {
    if (IsModerate()) return x;
    Expansion sum;
    for (const double part : x) sum.Add(part);
    for (const double part : offset_) sum.Add(-part);
    return {sum[0], sum[1], sum[2]};
  }

  // log(square) / 2 for a square near 1, to `wanted` digits; nothing if there are fewer.
  std::optional<long double> LogNearOne(const Fixed& square, size_t wanted, bool last) const {
    // |S| may be exactly 1 if it is one term; with this many words it is assumed to be.
    constexpr size_t kEnough = 32;
    SignedFixed excess = {square};
    excess.Add(Fixed(1, fraction_, 1.0), true);
    if (excess.size.Bits() < wanted) {
      if (!last && fraction_ < kEnough) return std::nullopt;
      excess.size = Fixed(1, fraction_);
    }
    return std::log1p(ValueOf(excess)) / 2.0L;
  }

  static long double ValueOf(const SignedFixed& x) {
    ptrdiff_t exponent;
    const long double size = x.size.Mantissa(&exponent);
    return std::ldexp(x.negative ? -size : size, static_cast<int>(exponent));
  }

  const std::vector<ExpTerm>& terms_;
  size_t fraction_;
  bool complex_ = false;
  ExpTerm::Parts offset_{};
  ptrdiff_t unit_ = std::numeric_limits<ptrdiff_t>::min() / 2;
  SignedFixed re_ = {Fixed(1, fraction_)}, im_ = {Fixed(1, fraction_)};  // in units of 2^unit_
};

}  // namespace

LogOfExact LogOfSum(const std::vector<ExpTerm>& terms) {
  constexpr ExpTerm::Parts kZero{};
  if (terms.size() == 1 && terms[0].re == kZero && terms[0].im == kZero) {  // |S| may be 1
    const long double re = terms[0].weight_re, im = terms[0].weight_im;
    return {im == 0.0L ? std::log(std::abs(re)) : std::log(std::hypot(re, im)), re, im};
  }
  constexpr size_t kFewWords = 8;
  if (terms.size() == 1 && terms[0].im != kZero) {  // the size does not depend on the angle
    LogOfExact result = LogOfSum({{terms[0].re, kZero, terms[0].weight_re, terms[0].weight_im}});
    long double angle = 0.0L;
    for (const double part : terms[0].im) angle += static_cast<long double>(part);
    const long double cos = std::cos(angle), sin = std::sin(angle), re = result.re;
    result.re = re * cos - result.im * sin;
    result.im = re * sin + result.im * cos;
    return result;
  }
  for (size_t words = kFewWords; !terms.empty(); words *= 2) {
    if (const auto result = Attempt(terms, words).Result(words >= kMostWords)) return *result;
  }
  return {-std::numeric_limits<long double>::infinity(), 0.0L, 0.0L};
}

}  // namespace boltzmax

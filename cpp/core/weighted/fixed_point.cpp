#include "fixed_point.hpp"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>

namespace boltzmax {

namespace {
constexpr size_t kWord = 32;
}

Fixed::Fixed(size_t whole, size_t fraction, double x) : Fixed(whole, fraction) {
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  constexpr int kDigits = 53;
  const auto digits = static_cast<uint64_t>(std::ldexp(mantissa, kDigits));
  // Digit 0 of `digits` is worth 2^(exponent - 53), digit 0 of the lowest word 2^(-32 fraction).
  const ptrdiff_t low = exponent - kDigits + static_cast<ptrdiff_t>(kWord * fraction);
  for (ptrdiff_t i = 0; i < kDigits; ++i) {
    const ptrdiff_t at = low + i;
    if (at < 0 || at >= static_cast<ptrdiff_t>(kWord * word_.size())) continue;
    const auto bit = static_cast<uint32_t>(digits >> i & 1);
    word_[static_cast<size_t>(at) / kWord] |= bit << (static_cast<size_t>(at) % kWord);
  }
}

size_t Fixed::Bits() const {
  for (size_t i = word_.size(); i-- > 0;) {
    if (word_[i] != 0) return i * kWord + static_cast<size_t>(std::bit_width(word_[i]));
  }
  return 0;
}

long double Fixed::Mantissa(ptrdiff_t* exponent) const {
  // As many words as a long double has digits, and one that is partly filled.
  constexpr size_t kWords = LDBL_MANT_DIG / kWord + 2;
  const size_t bits = Bits(), top = (bits + kWord - 1) / kWord, least = top < kWords ? 0 : top - kWords;
  *exponent = static_cast<ptrdiff_t>(bits) - static_cast<ptrdiff_t>(kWord * fraction_);
  long double value = 0.0L;
  for (size_t i = least; i < top; ++i) {  // from below: only the last addition rounds digits that count
    value += std::ldexp(static_cast<long double>(word_[i]), static_cast<int>(i * kWord) - static_cast<int>(bits));
  }
  return value;
}

bool Fixed::operator<(const Fixed& other) const {
  return std::lexicographical_compare(word_.rbegin(), word_.rend(), other.word_.rbegin(), other.word_.rend());
}

Fixed& Fixed::operator+=(const Fixed& other) {
  uint64_t carry = 0;
  for (size_t i = 0; i < word_.size(); ++i) {
    carry += uint64_t{word_[i]} + other.word_[i];
    word_[i] = static_cast<uint32_t>(carry);
    carry >>= kWord;
  }
  return *this;
}

Fixed& Fixed::operator-=(const Fixed& other) {
  uint64_t borrow = 0;
  for (size_t i = 0; i < word_.size(); ++i) {
    const uint64_t difference = uint64_t{word_[i]} - other.word_[i] - borrow;
    word_[i] = static_cast<uint32_t>(difference);
    borrow = difference >> 63;
  }
  return *this;
}

Fixed Fixed::operator*(const Fixed& other) const {
  std::vector<uint32_t> product(word_.size() + other.word_.size());
  for (size_t i = 0; i < word_.size(); ++i) {
    if (word_[i] == 0) continue;
    uint64_t carry = 0;
    for (size_t j = 0; j < other.word_.size(); ++j) {
      carry += uint64_t{word_[i]} * other.word_[j] + product[i + j];
      product[i + j] = static_cast<uint32_t>(carry);
      carry >>= kWord;
    }
    product[i + other.word_.size()] = static_cast<uint32_t>(carry);
  }
  Fixed result(word_.size() - fraction_, fraction_);
  std::copy_n(product.begin() + static_cast<ptrdiff_t>(other.fraction_), word_.size(), result.word_.begin());
  return result;
}

Fixed& Fixed::operator/=(uint32_t divisor) {
  uint64_t rest = 0;
  for (size_t i = word_.size(); i-- > 0;) {
    rest = rest << kWord | word_[i];
    word_[i] = static_cast<uint32_t>(rest / divisor);
    rest %= divisor;
  }
  return *this;
}

Fixed& Fixed::operator<<=(size_t bits) {
  const size_t words = bits / kWord, within = bits % kWord;
  for (size_t i = word_.size(); i-- > 0;) {
    const uint64_t high = i >= words ? word_[i - words] : 0, low = i >= words + 1 ? word_[i - words - 1] : 0;
    word_[i] = static_cast<uint32_t>((high << kWord | low) << within >> kWord);
  }
  return *this;
}

Fixed& Fixed::operator>>=(size_t bits) {
  const size_t words = bits / kWord, within = bits % kWord, size = word_.size();
  for (size_t i = 0; i < size; ++i) {
    const uint64_t low = i + words < size ? word_[i + words] : 0,
                   high = i + words + 1 < size ? word_[i + words + 1] : 0;
    word_[i] = static_cast<uint32_t>((high << kWord | low) >> within);
  }
  return *this;
}

Fixed Fixed::Resized(size_t whole, size_t fraction) const {
  Fixed result(whole, fraction);
  for (size_t i = 0; i < result.word_.size(); ++i) {
    const size_t from = i + fraction_;
    if (from >= fraction && from - fraction < word_.size()) result.word_[i] = word_[from - fraction];
  }
  return result;
}

void SignedFixed::Add(const Fixed& term, bool is_negative) {
  if (is_negative == negative) {
    size += term;
  } else if (term < size) {
    size -= term;
  } else {
    Fixed difference = term;
    difference -= size;
    size = difference;
    negative = is_negative && !difference.IsZero();
  }
}

namespace {

// coefficient * atan(1 / n), or atanh where the signs do not alternate: coefficient * sum_j (+-1)^j / ((2j + 1) n^(2j +
// 1)).
Fixed InverseArc(uint32_t coefficient, uint32_t n, bool alternates, size_t fraction) {
  Fixed power(1, fraction, coefficient);
  power /= n;
  SignedFixed sum = {Fixed(1, fraction)};
  for (uint32_t j = 0; !power.IsZero(); ++j) {
    Fixed term = power;
    term /= 2 * j + 1;
    sum.Add(term, alternates && j % 2 == 1);
    power /= n;
    power /= n;
  }
  return sum.size;
}

// A constant, cached per thread with as many words as any call has needed.
template <class Make>
Fixed Remembered(Fixed* kept, size_t fraction, Make make) {
  constexpr size_t kGuard = 1;
  if (kept->Fraction() < fraction + kGuard) *kept = make(fraction + kGuard);
  return kept->Resized(1, fraction);
}

}  // namespace

Fixed Ln2(size_t fraction) {
  thread_local Fixed kept(1, 0);
  // ln 2 = 18 atanh(1/26) - 2 atanh(1/4801) + 8 atanh(1/8749)
  return Remembered(&kept, fraction, [](size_t f) {
    Fixed sum = InverseArc(18, 26, false, f);
    sum += InverseArc(8, 8749, false, f);
    return sum -= InverseArc(2, 4801, false, f);
  });
}

Fixed HalfPi(size_t fraction) {
  thread_local Fixed kept(1, 0);
  // pi / 2 = 8 atan(1/5) - 2 atan(1/239) (Machin)
  return Remembered(&kept, fraction, [](size_t f) {
    Fixed sum = InverseArc(8, 5, true, f);
    return sum -= InverseArc(2, 239, true, f);
  });
}

uint64_t DivideBy(const Fixed& unit, Fixed* x) {
  uint64_t quotient = 0;
  const size_t high = x->Bits(), low = unit.Bits();
  if (high < low) return quotient;
  for (size_t shift = high - low + 1; shift-- > 0;) {
    Fixed multiple = unit;
    multiple <<= shift;
    quotient <<= 1;
    if (*x < multiple) continue;
    *x -= multiple;
    quotient |= 1;
  }
  return quotient;
}

void ExpSeries(const Fixed& x, std::vector<Fixed>* parts) {
  Fixed term(1, x.Fraction(), 1.0);
  parts->assign(4, Fixed(1, x.Fraction()));
  for (uint32_t n = 1; !term.IsZero(); ++n) {
    (*parts)[(n - 1) % 4] += term;
    term = term * x;
    term /= n;
  }
}

}  // namespace boltzmax

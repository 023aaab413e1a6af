// Non-negative numbers of any precision, with a fixed number of binary digits after the point, as sums of exponentials
// need them. Every operation truncates at the last digit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace boltzmax {

class Fixed {
 public:
  // 0, with this many words of 32 bits before and after the point.
  Fixed(size_t whole, size_t fraction) : fraction_(fraction), word_(whole + fraction) {}
  // x >= 0, as far as it fits.
  Fixed(size_t whole, size_t fraction, double x);

  size_t Fraction() const { return fraction_; }
  bool IsZero() const { return Bits() == 0; }
  // The position of the highest binary digit that is not 0, counting the last digit as 1; 0 if there is none.
  size_t Bits() const;
  // Its digits as a number in [0.5, 1), to be multiplied by 2^exponent; 0 for 0.
  long double Mantissa(ptrdiff_t* exponent) const;

  bool operator<(const Fixed& other) const;
  Fixed& operator+=(const Fixed& other);
  Fixed& operator-=(const Fixed& other);  // which must not be larger
  Fixed operator*(const Fixed& other) const;
  Fixed& operator/=(uint32_t divisor);
  Fixed& operator<<=(size_t bits);
  Fixed& operator>>=(size_t bits);

  // The same number with another number of words before and after the point.
  Fixed Resized(size_t whole, size_t fraction) const;

 private:
  size_t fraction_;
  std::vector<uint32_t> word_;  // the lowest first
};

// A number with a sign.
struct SignedFixed {
  Fixed size;
  bool negative = false;

  void Add(const Fixed& term, bool is_negative);
};

// ln 2 and pi / 2, with `fraction` words after the point.
Fixed Ln2(size_t fraction);
Fixed HalfPi(size_t fraction);

// x = quotient * unit + rest with 0 <= rest < unit. Returns the quotient modulo 2^64, and leaves the rest in x.
uint64_t DivideBy(const Fixed& unit, Fixed* x);

// parts[i] = sum_j x^(4j + i) / (4j + i)!, from which exp, cos and sin are composed; 0 <= x < 2.
void ExpSeries(const Fixed& x, std::vector<Fixed>* parts);

}  // namespace boltzmax

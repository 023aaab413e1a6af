// Numbers of any precision, as far as sums of exponentials need them: non-negative, with a fixed number of binary digits
// after the point. Every operation cuts off what lies beyond the last digit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace boltzmax {

class Fixed {
 public:
  // 0, with so many words of 32 bits before and after the point.
  Fixed(size_t whole, size_t fraction) : fraction_(fraction), word_(whole + fraction) {}
  // x >= 0, as far as it fits.
  Fixed(size_t whole, size_t fraction, double x);

  size_t Fraction() const { return fraction_; }
  bool IsZero() const { return Bits() == 0; }
  // The position of the highest binary digit that is not 0, counted from the last one from 1 on; 0 if there is none.
  size_t Bits() const;
  // Its digits as a number in [0.5, 1), which times 2^exponent it is; 0 for 0.
  long double Mantissa(ptrdiff_t* exponent) const;

  bool operator<(const Fixed& other) const;
  Fixed& operator+=(const Fixed& other);
  Fixed& operator-=(const Fixed& other);  // of one no larger
  Fixed operator*(const Fixed& other) const;
  Fixed& operator/=(uint32_t divisor);
  Fixed& operator<<=(size_t bits);
  Fixed& operator>>=(size_t bits);

  // The same number with other words before and after the point.
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

// ln 2 and pi / 2, with so many words after the point.
Fixed Ln2(size_t fraction);
Fixed HalfPi(size_t fraction);

// x = quotient * unit + rest with 0 <= rest < unit: the quotient modulo 2^64.
uint64_t DivideBy(const Fixed& unit, Fixed* x);

// sum_j x^(4j + i) / (4j + i)!, of which exp, cos and sin are made: parts[i]; 0 <= x < 2.
void ExpSeries(const Fixed& x, std::vector<Fixed>* parts);

}  // namespace boltzmax

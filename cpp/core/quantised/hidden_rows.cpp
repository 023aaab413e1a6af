#include "hidden_rows.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "bounds.hpp"

namespace boltzmax {

namespace {

// The largest p: 127 * 256 + 127, so that both bytes have a sign, and a section's sum stays below 2^31.
constexpr double kLargest8 = 127.0, kLargest16 = 32639.0;

// More than what doubles can lose below their range. A rotation of weights loses most: 2^-1074 of each element in each
// stage, times hidden vectors of up to 1e100.
constexpr double kVanished = 1e-200;

// At least x >= 0, with a significand of 24 bits, so that its products with p are exact.
double RoundedUp(double x) {
  constexpr uint64_t kRest = (uint64_t{1} << 29) - 1;
  return std::bit_cast<double>((std::bit_cast<uint64_t>(x) + kRest) & ~kRest);
}

// What rounding and inexact rows add: `rest` is ||y - t p|| for rows y that are inexact themselves, and `eta` bounds the
// rounding of sums, relative to ||t p|| ||s q||.
RowBounds BoundsOf(double t, double norm, double rest, double rounding, double eta, double vanished) {
  constexpr double kOutward = 1.0 + 0x1p-45;
  const double whole = norm * (1.0 + 2.0 * rounding);
  return {t, whole * kOutward, (rest + rounding * whole + eta * (whole + rest)) * kOutward, vanished + kVanished};
}

}  // namespace

HiddenRows::HiddenRows(const QuantisedLayer& layer, const double* x, size_t rows, double rounding, HiddenBits bits)
    : width_(layer.width),
      section_(layer.section),
      sections_(layer.Sections()),
      bits_(layer.bits),
      are_floats_(layer.floats),
      two_(bits == HiddenBits::k16),
      bounds_(rows) {
  if (layer.floats) {
    floats_.resize(rows * width_);
  } else {
    low_.resize(rows * width_);
    if (two_) high_.resize(rows * width_);
    pairs_.resize(rows * width_);
    offset_.resize(rows * sections_);
  }
  for (size_t r = 0; r < rows; ++r) {
    if (layer.floats) {
      SetFloats(layer, x + r * layer.features, r, rounding);
    } else {
      SetNumbers(layer, x + r * layer.features, r, rounding);
    }
  }
}

NumberRows HiddenRows::Numbers(size_t row, size_t rows, size_t section) const {
  const size_t at = row * width_ + section * section_;
  return {low_.data() + at,
          two_ ? high_.data() + at : nullptr,
          pairs_.data() + at,
          offset_.data() + row * sections_ + section,
          width_,
          sections_,
          rows};
}

void HiddenRows::SetNumbers(const QuantisedLayer& layer, const double* x, size_t row, double rounding) {
  const size_t n = layer.features;
  const double largest = LargestOf(x, n), most = two_ ? kLargest16 : kLargest8;
  const double t = RoundedUp(largest / most);
  std::vector<double> rest(n);
  const size_t at = row * width_;
  for (size_t i = 0; i < n; ++i) {
    const double p = t > 0.0 ? std::clamp(Rounded(x[i] / t), -most, most) : 0.0;
    rest[i] = x[i] - t * p;
    const auto whole = static_cast<int>(p);
    const auto low = static_cast<int8_t>(whole & 255);
    low_[at + i] = low;
    if (two_) high_[at + i] = static_cast<int8_t>((whole - low) / 256);
    constexpr size_t kPlace[4] = {0, 2, 1, 3};
    pairs_[at + i / 4 * 4 + kPlace[i % 4]] = static_cast<int16_t>(whole);
    // The codes have 2^(bits - 1) added.
    offset_[row * sections_ + i / section_] -= whole * (1 << (layer.bits - 1));
  }
  const double norm = NormAbove(x, n);
  const double of_rest = NormAbove(rest.data(), n);
  // A product and a sum for each group, and three more roundings.
  const double eta = static_cast<double>(layer.groups + 4) * 0x1p-52;
  bounds_[row] = BoundsOf(t, norm, of_rest, rounding, eta, 0.0);
}

void HiddenRows::SetFloats(const QuantisedLayer& layer, const double* x, size_t row, double rounding) {
  const size_t n = layer.features;
  // A power of two above the norm: no sum is larger than the norm of a class, which is a float.
  const double norm = NormAbove(x, n);
  int exponent = 0;
  std::frexp(norm, &exponent);
  const double t = std::ldexp(1.0, exponent);
  std::vector<double> rest(n);
  float* y = floats_.data() + row * width_;
  for (size_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>(x[i] / t);
    rest[i] = x[i] - t * static_cast<double>(y[i]);
  }
  const double of_rest = NormAbove(rest.data(), n);
  // The error of a sum of n products in float, in any order, is at most gamma times the sum of their sizes
  // (Higham, Accuracy and Stability of Numerical Algorithms, 3.5).
  const double u = static_cast<double>(n + 8) * 0x1p-24;
  const double gamma = u < 0.5 ? u / (1.0 - u) : HUGE_VAL;
  // Products with whole numbers do not vanish.
  const double vanished = layer.bits == 16 ? t * static_cast<double>(width_) * 0x1p-149 : 0.0;
  bounds_[row] = BoundsOf(t, norm, of_rest, rounding, gamma * (1.0 + 0x1p-20), vanished);
}

}  // namespace boltzmax

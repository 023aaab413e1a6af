// Hidden vectors as the codes of a layer see them: h ~ t p with whole numbers p, or floats with ||p|| <= 1.
#pragma once

#include <vector>

#include "layer.hpp"

namespace boltzmax {

// Whole numbers of 8 bits, or of 16, which two bytes hold.
enum class HiddenBits { k8, k16 };

// The error of a logit is at most by_error ||w - s q|| + by_norm ||s q|| + vanished, plus 2^-51 of its bias.
struct RowBounds {
  double t;
  double by_error;  // ||h||
  double by_norm;   // ||h - t p||, and the rounding of sums
  double vanished;  // more than what vanishes below the range of floats and doubles in any step
};

class HiddenRows {
 public:
  // Rows of finite numbers of at most 1e100, (rows, layer.features), that have an error of `rounding` times their norm.
  HiddenRows(const QuantisedLayer& layer, const double* x, size_t rows, double rounding, HiddenBits bits);

  size_t Count() const { return bounds_.size(); }
  // Whether they were made for a layer of this form.
  bool Fits(const QuantisedLayer& layer) const {
    return layer.width == width_ && layer.section == section_ && layer.bits == bits_ && layer.floats == are_floats_;
  }
  const RowBounds& Bounds(size_t row) const { return bounds_[row]; }
  // Rows from `row` on, at a section.
  NumberRows Numbers(size_t row, size_t rows, size_t section) const;
  FloatRows Floats(size_t row, size_t rows, size_t section) const {
    return {floats_.data() + row * width_ + section * section_, width_, rows};
  }

 private:
  void SetNumbers(const QuantisedLayer& layer, const double* x, size_t row, double rounding);
  void SetFloats(const QuantisedLayer& layer, const double* x, size_t row, double rounding);

  size_t width_, section_, sections_;
  int bits_;  // of the layer
  bool are_floats_, two_;
  std::vector<RowBounds> bounds_;
  std::vector<int8_t> low_, high_;
  std::vector<int16_t> pairs_;
  std::vector<int32_t> offset_;
  std::vector<float> floats_;
};

}  // namespace boltzmax
